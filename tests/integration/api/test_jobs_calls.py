"""Scripts and jobs, by real gRPC."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from dcron.domain.documents import revision_id
from dcron.domain.ids import new_ulid
from dcron.domain.job_documents import job_body, job_of
from dcron.domain.nodes import LeaderReport, Waiting
from dcron.ports import JOBS
from dcron.rpc import dcron_pb2 as pb
from tests.integration.api.served_node import (
    DEFAULTS,
    DIGEST,
    NOW,
    TEXT,
    Node,
    refused,
    specification,
    upload,
)


class TestJobs:
    async def test_a_script_is_asked_about_uploaded_and_then_present(self, node: Node) -> None:
        request = pb.PrepareUploadRequest(sha256=DIGEST, size_bytes=len(TEXT))
        before = await node.public.PrepareUpload(request)
        assert (before.present, before.url) == (False, "")
        await upload(node)
        assert (await node.public.PrepareUpload(request)).present

    async def test_a_job_comes_back_as_it_was_given(self, node: Node, job: pb.Job) -> None:
        found = await node.public.GetJob(pb.GetJobRequest(name="report"))
        assert found == job
        assert found.specification == specification(timezone="UTC", **DEFAULTS)
        assert found.next_at.ToDatetime(UTC) == NOW.replace(minute=5, second=0)
        assert (found.revision, found.paused, found.HasField("active")) == (1, False, False)

    async def test_a_job_is_updated_paused_resumed_and_deleted(self, node: Node, job: pb.Job) -> None:
        wanted = pb.Specification(timeout=Duration(seconds=5), schedule="@daily")
        mask = FieldMask(paths=["timeout"])
        update = pb.UpdateJobRequest(name="report", specification=wanted, update_mask=mask)
        updated = await node.public.UpdateJob(update)
        assert (updated.revision, updated.specification) == (
            2,
            specification(timezone="UTC", timeout=Duration(seconds=5), **DEFAULTS),
        )
        paused = await node.public.PauseJob(pb.PauseJobRequest(name="report"))
        assert paused.paused
        assert not paused.HasField("next_at")
        assert not (await node.public.ResumeJob(pb.ResumeJobRequest(name="report"))).paused
        await node.public.DeleteJob(pb.DeleteJobRequest(name="report"))
        error = await refused(node.public.GetJob(pb.GetJobRequest(name="report")))
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "job 'report' not found")

    async def test_many_jobs_are_created_by_one_call_and_each_is_answered(
        self, node: Node, job: pb.Job
    ) -> None:
        answer = await node.public.CreateJobs(
            pb.CreateJobsRequest(
                jobs=[
                    pb.CreateJobRequest(name="one", specification=specification()),
                    pb.CreateJobRequest(name="report", specification=specification()),
                    pb.CreateJobRequest(name="two", specification=specification(schedule="99 * * * *")),
                ]
            )
        )
        one, taken, wrong = answer.results
        found = await node.public.GetJob(pb.GetJobRequest(name="one"))
        assert (one.job.uid, one.job.next_at, one.job.HasField("specification")) == (
            found.uid,
            found.next_at,
            False,
        )
        assert taken.refusal.code == grpc.StatusCode.ALREADY_EXISTS.value[0]
        assert (wrong.refusal.code, wrong.refusal.field) == (
            grpc.StatusCode.INVALID_ARGUMENT.value[0],
            "schedule",
        )

    async def test_a_field_of_a_newer_version_refuses_its_job_alone(self, node: Node, job: pb.Job) -> None:
        newer = specification()
        newer.MergeFromString(b"\xb8\x3e\x01")
        wanted = [("one", specification()), ("newer", newer), ("two", specification())]
        request = pb.CreateJobsRequest(
            jobs=[pb.CreateJobRequest(name=name, specification=each) for name, each in wanted]
        )
        one, refusal, two = (await node.public.CreateJobs(request)).results
        assert (one.job.name, two.job.name) == ("one", "two")
        assert refusal.refusal.field == "specification"
        assert "newer version" in refusal.refusal.message
        error = await refused(node.public.GetJob(pb.GetJobRequest(name="newer")))
        assert error.code() == grpc.StatusCode.NOT_FOUND

    async def test_jobs_are_listed_by_pages(self, node: Node, job: pb.Job) -> None:
        await node.public.CreateJob(pb.CreateJobRequest(name="another", specification=specification()))
        first = await node.public.ListJobs(pb.ListJobsRequest(page_size=1))
        assert [each.name for each in first.jobs] == ["another"]
        rest = await node.public.ListJobs(pb.ListJobsRequest(page_token=first.next_page_token))
        assert ([each.name for each in rest.jobs], rest.next_page_token) == (["report"], "")

    async def test_pages_of_large_revisions_fit_into_what_clients_take(self, node: Node, job: pb.Job) -> None:
        [leaves] = await node.store.read(JOBS, [revision_id(job.uid, 1)])
        large = {**leaves[0].body, "arguments": ["x" * 64_000]}
        for number in range(2, 101):
            await node.put(JOBS, revision_id(job.uid, number), large)
        numbers, token = [], ""
        for _ in range(100):
            page = await node.public.ListJobRevisions(
                pb.ListJobRevisionsRequest(job=job.name, page_size=100, page_token=token)
            )
            numbers += [each.revision for each in page.revisions]
            token = page.next_page_token
            if not token:
                break
        assert numbers == list(range(100, 0, -1))

    async def test_a_script_is_read_back(self, node: Node, job: pb.Job) -> None:
        call = node.public.GetScript(pb.GetScriptRequest(sha256=job.specification.script.sha256))
        assert b"".join([chunk.data async for chunk in call]) == TEXT
        absent = node.public.GetScript(pb.GetScriptRequest(sha256="0" * 64))
        assert (await refused(absent.read())).code() is grpc.StatusCode.NOT_FOUND
        none = node.public.GetScript(pb.GetScriptRequest(sha256="../../etc/passwd"))
        assert (await refused(none.read())).details().startswith("sha256: ")

    async def test_revisions_are_told_also_of_a_removed_job(self, node: Node, job: pb.Job) -> None:
        changed = pb.Specification(schedule="@hourly")
        await node.public.UpdateJob(pb.UpdateJobRequest(name="report", specification=changed))
        await node.public.PauseJob(pb.PauseJobRequest(name="report"))
        await node.public.DeleteJob(pb.DeleteJobRequest(name="report"))
        for name in ("report", job.uid):
            first = await node.public.ListJobRevisions(pb.ListJobRevisionsRequest(job=name, page_size=3))
            rest = await node.public.ListJobRevisions(
                pb.ListJobRevisionsRequest(job=name, page_token=first.next_page_token)
            )
            found = [*first.revisions, *rest.revisions]
            assert [(each.revision, each.paused, each.deleted) for each in found] == [
                (4, False, True),
                (3, True, False),
                (2, False, False),
                (1, False, False),
            ]
            assert [each.specification.schedule for each in found[1:]] == [
                "@hourly",
                "@hourly",
                "*/5 * * * *",
            ]
        one = await node.public.GetJobRevision(pb.GetJobRevisionRequest(job="report", revision=1))
        assert (one.job, one.uid, one.specification) == ("report", job.uid, job.specification)
        for revision in (0, -1, 9):
            request = pb.GetJobRevisionRequest(job=job.uid, revision=revision)
            assert (await refused(node.public.GetJobRevision(request))).code() is grpc.StatusCode.NOT_FOUND

    async def test_jobs_are_filtered(self, node: Node, job: pb.Job) -> None:
        labelled = specification(labels={"disk": "ssd", "zone": "a"})
        await node.public.CreateJob(pb.CreateJobRequest(name="report-2", specification=labelled))
        await node.public.PauseJob(pb.PauseJobRequest(name="report"))

        async def names(**wanted: object) -> list[str]:
            return [each.name for each in (await node.public.ListJobs(pb.ListJobsRequest(**wanted))).jobs]

        assert await names(name_prefix="report") == ["report", "report-2"]
        assert await names(name_prefix="report-") == ["report-2"]
        assert await names(labels={"disk": "ssd"}) == ["report-2"]
        assert await names(labels={"disk": "ssd", "zone": "b"}) == []
        assert await names(states=[pb.JOB_STATE_PAUSED]) == ["report"]
        assert await names(states=[pb.JOB_STATE_IDLE, pb.JOB_STATE_ACTIVE]) == ["report-2"]
        assert await names(last_states=[pb.EXECUTION_STATE_FAILED]) == []
        first = await node.public.ListJobs(pb.ListJobsRequest(name_prefix="rep", page_size=1))
        mixed = pb.ListJobsRequest(page_token=first.next_page_token)
        assert (await refused(node.public.ListJobs(mixed))).details().startswith("page_token: ")

    async def test_a_page_of_large_jobs_fits_into_a_message(self, node: Node, job: pb.Job) -> None:
        [[leaf]] = await node.store.read(JOBS, ["report"])
        stored = job_of("report", leaf.body)
        large = replace(stored.specification, arguments=("x" * 60_000,))
        for number in range(80):
            name = f"large-{number:02d}"
            await node.put(JOBS, name, job_body(replace(stored, name=name, specification=large)))
        names, token = [], ""
        while True:
            page = await node.public.ListJobs(pb.ListJobsRequest(page_token=token))
            names += [each.name for each in page.jobs]
            token = page.next_page_token
            if not token:
                break
        assert names == [*(f"large-{number:02d}" for number in range(80)), "report"]

    async def test_a_run_is_asked_for_and_waits_with_the_leaders_reason(
        self, node: Node, job: pb.Job
    ) -> None:
        request_id = new_ulid(NOW, b"r" * 10)
        answer = await node.public.RunJob(pb.RunJobRequest(name="report", request_id=request_id))
        assert answer.execution_id == f"{job.uid}:{request_id}:001"
        node.elector.said = LeaderReport(waiting=(Waiting("report", answer.execution_id, "no free slot"),))
        found = await node.public.GetJob(pb.GetJobRequest(name="report"))
        assert (list(found.waiting_execution_ids), found.waiting_reason) == (
            [answer.execution_id],
            "no free slot",
        )
        error = await refused(node.public.GetExecution(pb.GetExecutionRequest(id=answer.execution_id)))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "no free slot" in error.details()

    async def test_the_next_occurrences_are_told_of_a_job_and_of_any_schedule(
        self, node: Node, job: pb.Job
    ) -> None:
        of_job = await node.public.NextOccurrences(pb.NextOccurrencesRequest(name="report", count=2))
        assert [each.ToDatetime(UTC).minute for each in of_job.occurrences] == [5, 10]
        request = pb.NextOccurrencesRequest(schedule="@daily", timezone="Asia/Tokyo")
        of_schedule = await node.public.NextOccurrences(request)
        assert (len(of_schedule.occurrences), of_schedule.timezone) == (5, "Asia/Tokyo")
        assert of_schedule.occurrences[0].ToDatetime(UTC).hour == 15
