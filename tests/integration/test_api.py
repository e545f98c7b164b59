"""A real gRPC server on loopback over memory stores: every call, its errors, health and reflection."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from dcron.adapters.grpc.nodes import GrpcNodeClient
from dcron.adapters.memory import MemoryDocumentStore
from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.api.errors import FIELD_METADATA
from dcron.api.internal import Internal
from dcron.api.public import Public
from dcron.api.server import PUBLIC_SERVICE, ApiServer
from dcron.domain.documents import claim_body, node_key, outcome_body, skip_body
from dcron.domain.errors import NodeUnreachable, NotFound, SetupError, StoreUnreachable
from dcron.domain.ids import new_ulid
from dcron.domain.job_documents import job_body, job_of
from dcron.domain.model import Claim, Coalesced, LogObject, Outcome, Skip, SkipReason, Specification, State
from dcron.domain.model import Script as ScriptValue
from dcron.domain.nodes import LeaderReport, NodeRecord, Waiting, node_body
from dcron.domain.offers import (
    MAX_OFFER,
    ClaimReference,
    KnownClaims,
    OfferAnswer,
    OfferedAttempt,
    OfferResult,
)
from dcron.domain.views import HeldExecution
from dcron.ports import AUDIT, CLUSTER, JOBS, Document, executions_database
from dcron.rpc import dcron_pb2 as pb
from dcron.rpc import dcron_pb2_grpc
from dcron.services.clients.audit import AuditTrail
from dcron.services.clients.catalogue import Catalogue
from dcron.services.clients.cluster import ClusterService
from dcron.services.clients.executions import Executions
from dcron.services.clients.registrar import Registrar
from dcron.services.clients.scripts import Scripts
from dcron.services.shared.trouble import StoreTrouble

NOW = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)
TEXT = b"#!/bin/sh\necho hello\n"
DIGEST = hashlib.sha256(TEXT).hexdigest()
LOG = b"hello\n" * 1000
SECRET = "pass" + "word-in-an-error"


class FixedClock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    def boottime(self) -> float:
        return 0.0


class TickingClock(FixedClock):
    """Each look is a second after the one before, so that records have an order."""

    def __init__(self) -> None:
        self._seconds = itertools.count()

    def now(self) -> datetime:
        return NOW + timedelta(seconds=next(self._seconds))


@dataclass
class FakeElector:
    said: LeaderReport | None = None
    heard: list[int] = field(default_factory=list)
    store_trouble: StoreTrouble = field(default_factory=lambda: StoreTrouble(FixedClock()))

    def record(self) -> NodeRecord:
        return NodeRecord("n1", "t", "s", "here:1", "0.1.0", 4, NOW, NOW)

    def clock_trouble(self) -> str:
        return ""

    def summary(self) -> str:
        return "n1 leads term 4"

    def leader_id(self) -> str:
        return "n1"

    def term(self) -> int:
        return 4

    def report(self) -> LeaderReport | None:
        return self.said

    async def resignation(self, term: int) -> None:
        self.heard.append(term)


@dataclass
class FakeWorker:
    """Accepts the first attempt and is busy for the others; `follow_log` waits for `more`."""

    offered: list[OfferedAttempt] = field(default_factory=list)
    logs: dict[str, bytes] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    delivered: frozenset[str] = frozenset()
    slow: bool = False
    holds: list[HeldExecution] = field(default_factory=list)

    def held(self) -> list[HeldExecution]:
        return self.holds

    async def offer(
        self, node_id: str, term: int, number: int, leader_id: str, attempts: Sequence[OfferedAttempt]
    ) -> list[OfferAnswer]:
        assert (node_id, term, number, leader_id) == ("n1", 4, 7, "n9")
        if self.slow:
            await asyncio.Event().wait()
        self.offered += attempts
        busy = [OfferAnswer(OfferResult.BUSY, "all slots are taken")] * (len(attempts) - 1)
        return [OfferAnswer(OfferResult.ACCEPTED), *busy]

    async def cancel(self, execution_id: str) -> bool:
        return execution_id in self.running

    async def known_claims(self, node_id: str, claims: Sequence[ClaimReference]) -> KnownClaims:
        known = frozenset(claim.token for claim in claims if claim.execution_id in self.running)
        return KnownClaims(known | self.delivered, self.delivered)

    async def follow_log(self, execution_id: str, offset: int, *, follow: bool) -> AsyncIterator[bytes]:
        if execution_id not in self.logs:
            raise NotFound(f"{execution_id} is not in the spool")
        yield self.logs[execution_id][offset:]
        if follow:
            await self.more.wait()
            yield b"end"


@dataclass
class Node:
    """One node's API with all behind it."""

    store: MemoryDocumentStore
    objects: MemoryObjectStore
    elector: FakeElector
    worker: FakeWorker
    server: ApiServer
    client: GrpcNodeClient
    address: str
    channel: aio.Channel

    @property
    def public(self) -> dcron_pb2_grpc.PublicStub:
        return dcron_pb2_grpc.PublicStub(self.channel)

    async def put(self, database: str, identifier: str, body: dict[str, object]) -> None:
        [result] = await self.store.write(database, [Document(identifier, body)])
        assert result.done


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    store, objects = MemoryDocumentStore(), MemoryObjectStore()
    await store.prepare()
    elector, worker, client = FakeElector(), FakeWorker(), GrpcNodeClient()
    cluster = ClusterService(store, FixedClock(), elector, worker.held)
    scripts = Scripts(objects, max_script_bytes=1000)
    catalogue = Catalogue(store, scripts, FixedClock(), clock_trouble=str)
    registrar = Registrar(store, scripts, FixedClock().now)
    history = Executions(store, objects, client, FixedClock(), cluster)
    audit = AuditTrail(store, TickingClock(), "n1")
    public = Public(catalogue, registrar, scripts, history, cluster, audit)
    server = ApiServer("127.0.0.1:0", public, Internal(worker, elector), audit)
    address = f"127.0.0.1:{await server.start()}"
    record = NodeRecord("n1", "t", "s", address, "0.1.0", 4, NOW, NOW, labels={"zone": "a"}, leading=4)
    async with aio.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        running = Node(store, objects, elector, worker, server, client, address, channel)
        await running.put(CLUSTER, node_key("n1"), node_body(record))
        yield running
    await client.close()
    await server.stop(0)


async def upload(node: Node) -> None:
    async def messages() -> AsyncIterator[pb.UploadScriptRequest]:
        yield pb.UploadScriptRequest(sha256=DIGEST, data=TEXT[:4])
        yield pb.UploadScriptRequest(data=TEXT[4:])

    answer = await node.public.UploadScript(messages())
    assert answer.size_bytes == len(TEXT)


DEFAULTS = {"grace": Duration(seconds=10), "max_attempts": 3}
"""What a node adds to a specification that does not say."""


def specification(**fields: object) -> pb.Specification:
    values = {
        "schedule": "*/5 * * * *",
        "interpreter": "sh",
        "script": pb.Script(sha256=DIGEST, size_bytes=len(TEXT), file_name="hello.sh"),
        "arguments": ["one"],
        "environment": {"A": "b"},
    }
    return pb.Specification(**(values | fields))


@pytest.fixture
async def job(node: Node) -> pb.Job:
    await upload(node)
    return await node.public.CreateJob(pb.CreateJobRequest(name="report", specification=specification()))


def identifier_of(job: pb.Job, at: str = "20260302T120000Z") -> str:
    return f"{job.uid}:{at}:001"


async def put_claim(node: Node, job: pb.Job) -> Claim:
    claim = Claim(
        identifier_of(job),
        "tok",
        "n1",
        "report",
        4,
        1,
        ScriptValue(DIGEST, len(TEXT)),
        NOW.replace(second=0),
        False,
        NOW,
        30.0,
        Coalesced(NOW, 7),
    )
    await node.put(executions_database(NOW), claim.execution_id, claim_body(claim))
    return claim


async def put_outcome(node: Node, claim: Claim, **fields: object) -> None:
    outcome = Outcome(claim.execution_id, claim.token, "n1", State.FAILED, NOW + timedelta(seconds=9), NOW, 3)
    await node.put(executions_database(NOW), outcome.id, outcome_body(replace(outcome, **fields)))


async def refused(call: object) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value


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

    async def test_jobs_are_listed_by_pages(self, node: Node, job: pb.Job) -> None:
        await node.public.CreateJob(pb.CreateJobRequest(name="another", specification=specification()))
        first = await node.public.ListJobs(pb.ListJobsRequest(page_size=1))
        assert [each.name for each in first.jobs] == ["another"]
        rest = await node.public.ListJobs(pb.ListJobsRequest(page_token=first.next_page_token))
        assert ([each.name for each in rest.jobs], rest.next_page_token) == (["report"], "")

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


class TestExecutions:
    async def test_an_execution_is_shown_with_its_outcome(self, node: Node, job: pb.Job) -> None:
        claim = await put_claim(node, job)
        running = await node.public.GetExecution(pb.GetExecutionRequest(id=claim.execution_id))
        assert (running.state, running.HasField("exit_code")) == (pb.EXECUTION_STATE_RUNNING, False)
        assert (running.occurrence_count, running.job, running.node_id) == (7, "report", "n1")
        await put_outcome(node, claim, log=LogObject("logs/x", 100, 11))
        ended = await node.public.GetExecution(pb.GetExecutionRequest(id=claim.execution_id))
        assert (ended.state, ended.exit_code, ended.HasField("signal")) == (
            pb.EXECUTION_STATE_FAILED,
            3,
            False,
        )
        assert (ended.log_bytes, ended.log_cut_bytes) == (111, 11)

    async def test_executions_are_listed_with_skips(self, node: Node, job: pb.Job) -> None:
        claim = await put_claim(node, job)
        skip = Skip(job.uid, NOW - timedelta(hours=1), NOW - timedelta(hours=1), SkipReason.FROZEN, None)
        await node.put(executions_database(NOW), skip.id, skip_body(skip))
        found = await node.public.ListExecutions(pb.ListExecutionsRequest(job="report"))
        assert [each.id for each in found.executions] == [claim.execution_id, skip.id]
        only = await node.public.ListExecutions(
            pb.ListExecutionsRequest(job="report", state=pb.EXECUTION_STATE_SKIPPED)
        )
        [skipped] = only.executions
        assert (skipped.state, skipped.skip_reason, skipped.HasField("occurrence_count")) == (
            pb.EXECUTION_STATE_SKIPPED,
            pb.SKIP_REASON_FROZEN,
            False,
        )

    async def test_a_running_log_is_followed_from_its_worker(self, node: Node, job: pb.Job) -> None:
        claim = await put_claim(node, job)
        node.worker.logs[claim.execution_id] = LOG
        chunks = aiter(node.public.ReadLog(pb.ReadLogRequest(id=claim.execution_id, follow=True)))
        assert (await anext(chunks)).data == LOG
        node.worker.more.set()
        assert [chunk.data async for chunk in chunks] == [b"end"]

    async def test_a_kept_log_is_streamed(self, node: Node, job: pb.Job) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield LOG

        claim = await put_claim(node, job)
        await put_outcome(node, claim, log=LogObject("logs/x", len(LOG)))
        await node.objects.put_stream("logs/x", chunks(), max_bytes=len(LOG))
        call = node.public.ReadLog(pb.ReadLogRequest(id=claim.execution_id))
        assert b"".join([chunk.data async for chunk in call]) == LOG

    async def test_an_error_of_a_stream_has_its_status_too(self, node: Node) -> None:
        call = node.public.ReadLog(pb.ReadLogRequest(id="nonsense"))
        assert (await refused(call.read())).code() is grpc.StatusCode.NOT_FOUND

    async def test_a_running_execution_is_cancelled_on_its_worker(self, node: Node, job: pb.Job) -> None:
        claim = await put_claim(node, job)
        request = pb.CancelExecutionRequest(id=claim.execution_id)
        assert (
            await refused(node.public.CancelExecution(request))
        ).code() is grpc.StatusCode.FAILED_PRECONDITION
        node.worker.running.add(claim.execution_id)
        assert (await node.public.CancelExecution(request)).node_id == "n1"

    async def test_a_person_resolves_an_execution(self, node: Node, job: pb.Job) -> None:
        claim = await put_claim(node, job)
        request = pb.ResolveExecutionRequest(
            id=claim.execution_id, verdict=pb.VERDICT_SUCCEEDED, by="operator"
        )
        resolved = await node.public.ResolveExecution(request)
        assert (resolved.verdict, resolved.verdict_by) == (pb.VERDICT_SUCCEEDED, "operator")
        request.verdict = pb.VERDICT_RETRY
        error = await refused(node.public.ResolveExecution(request))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


class TestCluster:
    async def test_nodes_are_listed_and_drained(self, node: Node) -> None:
        [found] = (await node.public.ListNodes(pb.ListNodesRequest())).nodes
        assert (found.id, found.alive, found.leading, found.draining) == ("n1", True, True, False)
        assert dict(found.labels) == {"zone": "a"}
        assert (await node.public.DrainNode(pb.DrainNodeRequest(id="n1"))).draining
        assert not (await node.public.UndrainNode(pb.UndrainNodeRequest(id="n1"))).draining
        error = await refused(node.public.DrainNode(pb.DrainNodeRequest(id="n7")))
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "node 'n7' not found")

    async def test_who_the_leader_does_not_see_is_not_alive(self, node: Node) -> None:
        node.elector.said = LeaderReport(alive=("n5",))
        [found] = (await node.public.ListNodes(pb.ListNodesRequest())).nodes
        assert not found.alive

    async def test_the_status_tells_what_the_leader_says_in_its_document(
        self, node: Node, job: pb.Job
    ) -> None:
        claim = await put_claim(node, job)
        said = LeaderReport(
            alive=("n1",),
            waiting=(Waiting("report", "x:y:001", "no free slot"),),
            waiting_count=30,
            attention=(claim.execution_id,),
            active_count=2,
        )
        [[leaf]] = await node.store.read(CLUSTER, [node_key("n1")])
        record = NodeRecord("n1", "t", "s", node.address, "0.1.0", 4, NOW, NOW, leading=4, report=said)
        await node.store.write(CLUSTER, [Document(leaf.id, node_body(record), leaf.revision)])
        status = await node.public.GetClusterStatus(pb.GetClusterStatusRequest())
        assert (status.leader_id, status.term, status.summary) == ("n1", 4, "n1 leads term 4")
        assert (status.waiting_count, status.waiting[0].reason, status.active_count) == (
            30,
            "no free slot",
            2,
        )
        assert [each.id for each in status.needs_attention] == [claim.execution_id]
        assert status.needs_attention[0].needs_attention

    async def test_without_the_store_the_status_is_what_the_node_knows_by_itself(self, node: Node) -> None:
        node.worker.holds = [
            HeldExecution("u:k:001", "report", State.RUNNING, NOW),
            HeldExecution("u:k:002", "backup", State.FAILED, NOW, "document store"),
        ]
        node.elector.store_trouble.met("no connection to CouchDB")

        async def unreachable(*_: object, **__: object) -> NoReturn:
            raise StoreUnreachable("this very call failed")

        node.store.read = unreachable
        status = await node.public.GetClusterStatus(pb.GetClusterStatusRequest())
        assert status.store_trouble == "no connection to CouchDB"
        assert status.store_trouble_since.ToDatetime(UTC) == NOW
        assert (status.answering_node_id, [each.id for each in status.nodes]) == ("n1", ["n1"])
        assert [(each.job, each.state, each.waits_for) for each in status.held] == [
            ("report", pb.EXECUTION_STATE_RUNNING, ""),
            ("backup", pb.EXECUTION_STATE_FAILED, "document store"),
        ]
        assert "cannot reach the document store" in status.concerns[0].what

    async def test_the_status_says_what_is_wrong_and_what_to_do(self, node: Node) -> None:
        await node.public.DrainNode(pb.DrainNodeRequest(id="n1"))
        status = await node.public.GetClusterStatus(pb.GetClusterStatusRequest())
        assert [concern.remedy for concern in status.concerns] == ["'dcron node undrain n1'"]

    async def test_a_frozen_cluster_stays_frozen_until_thawed(self, node: Node, job: pb.Job) -> None:
        for _ in range(2):
            frozen = await node.public.FreezeCluster(pb.FreezeClusterRequest())
            assert (frozen.frozen, frozen.frozen_at.ToDatetime(UTC)) == (True, NOW)
        request = pb.RunJobRequest(name="report", request_id=new_ulid(NOW, b"r" * 10))
        assert (await refused(node.public.RunJob(request))).code() is grpc.StatusCode.FAILED_PRECONDITION
        thawed = await node.public.ThawCluster(pb.ThawClusterRequest())
        assert (thawed.frozen, thawed.HasField("frozen_at"), thawed.format_version) == (False, False, 1)


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "field_name"),
        [
            ({"schedule": "61 * * * *"}, "schedule"),
            ({"timezone": "Mars/Olympus"}, "timezone"),
            ({"timeout": Duration(seconds=-1)}, "timeout"),
            ({"environment": {"1": ""}}, "environment"),
            ({"script": pb.Script(sha256="a" * 64, size_bytes=5)}, "script"),
        ],
    )
    async def test_a_wrong_value_names_its_field_twice(
        self, node: Node, job: pb.Job, change: dict[str, object], field_name: str
    ) -> None:
        request = pb.CreateJobRequest(name="other", specification=specification(**change))
        error = await refused(node.public.CreateJob(request))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details().startswith(f"{field_name}: ")
        assert dict(error.trailing_metadata())[FIELD_METADATA] == field_name

    async def test_a_name_that_is_taken_and_a_revision_that_is_past(self, node: Node, job: pb.Job) -> None:
        request = pb.CreateJobRequest(name="report", specification=specification())
        assert (await refused(node.public.CreateJob(request))).code() is grpc.StatusCode.ALREADY_EXISTS
        update = pb.UpdateJobRequest(name="report", specification=specification(), if_revision=9)
        assert (await refused(node.public.UpdateJob(update))).code() is grpc.StatusCode.ABORTED

    async def test_a_store_out_of_reach_is_unavailable(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def gone(*_: object) -> None:
            raise StoreUnreachable("the store gave no answer within 2 s")

        monkeypatch.setattr(node.store, "read", gone)
        error = await refused(node.public.GetJob(pb.GetJobRequest(name="report")))
        assert error.code() is grpc.StatusCode.UNAVAILABLE

    async def test_an_unexpected_error_tells_an_id_and_nothing_else(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(*_: object) -> None:
            raise RuntimeError(SECRET)

        monkeypatch.setattr(node.store, "read", broken)
        error = await refused(node.public.GetJob(pb.GetJobRequest(name="report")))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "internal error" in error.details()
        assert SECRET not in error.details()

    async def test_an_upload_without_a_message_is_refused(self, node: Node) -> None:
        async def nothing() -> AsyncIterator[pb.UploadScriptRequest]:
            for never in ():
                yield never

        error = await refused(node.public.UploadScript(nothing()))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


class TestInternal:
    ATTEMPT = OfferedAttempt(
        "u:k:001",
        "report",
        3,
        Specification("@daily", ScriptValue(DIGEST, 5, "x"), labels={"a": "b"}),
        NOW,
        manual=True,
        coalesced=Coalesced(NOW, None),
    )

    async def test_an_offer_arrives_whole_and_is_answered_in_order(self, node: Node) -> None:
        attempts = [
            self.ATTEMPT,
            replace(self.ATTEMPT, coalesced=Coalesced(NOW, 4)),
            replace(self.ATTEMPT, coalesced=None, start_in_seconds=1.5),
        ]
        answers = await node.client.offer(node.address, "n1", 4, 7, "n9", attempts)
        assert node.worker.offered == attempts
        assert [answer.result for answer in answers] == [
            OfferResult.ACCEPTED,
            OfferResult.BUSY,
            OfferResult.BUSY,
        ]
        assert answers[1].reason == "all slots are taken"

    async def test_the_largest_offer_fits_into_a_message(self, node: Node) -> None:
        large = replace(self.ATTEMPT.specification, arguments=("x" * 65_000,))
        attempts = [replace(self.ATTEMPT, specification=large)] * MAX_OFFER
        assert len(await node.client.offer(node.address, "n1", 4, 7, "n9", attempts)) == MAX_OFFER
        with pytest.raises(NodeUnreachable, match="at most 500"):
            await node.client.offer(node.address, "n1", 4, 7, "n9", [self.ATTEMPT] * (MAX_OFFER + 1))

    @pytest.mark.parametrize("seconds", [-0.1, 2.1, 1e10])
    async def test_an_instant_that_is_not_about_to_come_is_refused(self, node: Node, seconds: float) -> None:
        with pytest.raises(NodeUnreachable, match=r"start_in: .* is not valid; give 0 to 2"):
            await node.client.offer(
                node.address, "n1", 4, 7, "n9", [replace(self.ATTEMPT, start_in_seconds=seconds)]
            )
        assert not node.worker.offered

    async def test_a_worker_is_asked_to_cancel_and_what_it_holds(self, node: Node) -> None:
        node.worker.running.add("e1")
        assert await node.client.cancel(node.address, "e1")
        assert not await node.client.cancel(node.address, "e2")
        node.worker.delivered = frozenset({"t3"})
        claims = [ClaimReference(f"e{number}", f"t{number}") for number in (1, 2, 3)]
        answer = await node.client.known_claims(node.address, "n1", claims)
        assert answer == KnownClaims(frozenset({"t1", "t3"}), frozenset({"t3"}))

    async def test_a_resignation_is_heard(self, node: Node) -> None:
        await node.client.announce_resignation(node.address, 4)
        assert node.elector.heard == [4]

    async def test_a_log_is_read_from_an_offset_and_not_found_is_told(self, node: Node) -> None:
        node.worker.logs["e1"] = b"0123456789"
        chunks = node.client.follow_log(node.address, "e1", 4, follow=False)
        assert [chunk async for chunk in chunks] == [b"456789"]
        with pytest.raises(NotFound, match="not in the spool"):
            await anext(node.client.follow_log(node.address, "e2", 0, follow=False))

    async def test_a_node_that_is_not_there_is_unreachable(self, node: Node) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{bound.getsockname()[1]}"
            with pytest.raises(NodeUnreachable, match=address):
                await node.client.cancel(address, "e1")
            with pytest.raises(NodeUnreachable, match=address):
                await anext(node.client.follow_log(address, "e1", 0, follow=True))

    async def test_a_node_that_does_not_answer_is_unreachable_in_time(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("dcron.adapters.grpc.nodes.OFFER_SECONDS", 0.2)
        node.worker.slow = True
        with pytest.raises(NodeUnreachable, match="no answer in time"):
            await node.client.offer(node.address, "n1", 4, 7, "n9", [self.ATTEMPT])

    async def test_a_node_that_is_silent_in_mid_log_is_unreachable_in_time(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def hangs(*_: object, follow: bool) -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.Event().wait()

        monkeypatch.setattr("dcron.adapters.grpc.nodes.CALL_SECONDS", 0.3)
        monkeypatch.setattr(node.worker, "follow_log", hangs)
        chunks = node.client.follow_log(node.address, "e1", 0, follow=False)
        assert await anext(chunks) == b"first"
        with pytest.raises(NodeUnreachable, match="sent nothing"):
            await anext(chunks)

    async def test_connections_are_bounded(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dcron.adapters.grpc.nodes.MAX_CHANNELS", 1)
        port = node.address.rsplit(":", 1)[1]
        for address in (node.address, f"localhost:{port}", node.address):
            assert not await node.client.cancel(address, "e1")
        assert list(node.client._connections) == [node.address]


class TestAudit:
    async def records(self, node: Node, **query: object) -> list[pb.AuditRecord]:
        return list((await node.public.ListAudit(pb.ListAuditRequest(**query))).records)

    async def test_a_change_is_recorded_with_what_is_essential_and_no_secret(
        self, node: Node, job: pb.Job
    ) -> None:
        secret = specification(environment={"TOKEN": SECRET, "": SECRET}, arguments=[SECRET, "two"])
        mask = FieldMask(paths=["environment", "arguments", "schedule"])
        with pytest.raises(aio.AioRpcError):
            await node.public.UpdateJob(
                pb.UpdateJobRequest(name="report", specification=secret, update_mask=mask)
            )
        update, create = await self.records(node)
        assert (create.method, create.subject, create.result) == ("CreateJob", "report", "OK")
        assert (create.who, create.node_id) == ("anonymous", "n1")
        assert create.address.startswith("127.0.0.1:")
        assert create.content["schedule"] == "*/5 * * * *"
        assert create.content["script"] == f"{DIGEST} hello.sh"
        assert (update.method, update.result) == ("UpdateJob", "INVALID_ARGUMENT")
        assert update.content["environment"] == ",TOKEN"
        assert update.content["arguments"] == "2"
        stored = await node.store.range(AUDIT, "", "~", limit=10)
        assert len(stored) == 4
        assert not any(SECRET in str(document.body) for document in stored)

    async def test_each_of_many_new_jobs_has_a_record_with_its_own_result(
        self, node: Node, job: pb.Job
    ) -> None:
        wanted = [
            pb.CreateJobRequest(name=name, specification=specification()) for name in ("report", "a", "B?")
        ]
        await node.public.CreateJobs(pb.CreateJobsRequest(jobs=wanted))
        found = [record for record in await self.records(node) if record.method == "CreateJobs"]
        assert {record.subject: record.result for record in found} == {
            "report": "ALREADY_EXISTS",
            "a": "OK",
            "B?": "INVALID_ARGUMENT",
        }

    async def test_too_many_new_jobs_are_one_record(self, node: Node) -> None:
        with pytest.raises(aio.AioRpcError):
            await node.public.CreateJobs(pb.CreateJobsRequest(jobs=[pb.CreateJobRequest()] * 501))
        [record] = await self.records(node)
        assert (record.subject, record.result) == ("501 jobs", "INVALID_ARGUMENT")

    async def test_what_only_reads_is_not_recorded(self, node: Node, job: pb.Job) -> None:
        await node.public.GetJob(pb.GetJobRequest(name="report"))
        await node.public.ListAudit(pb.ListAuditRequest())
        assert [record.method for record in await self.records(node)] == ["CreateJob"]

    async def test_each_change_is_found_under_its_subject(self, node: Node, job: pb.Job) -> None:
        await node.public.PauseJob(pb.PauseJobRequest(name="report"))
        await node.public.FreezeCluster(pb.FreezeClusterRequest())
        found = await self.records(node, job="report")
        assert [record.method for record in found] == ["PauseJob", "CreateJob"]
        assert [record.subject for record in await self.records(node, limit=1)] == ["cluster"]

    async def test_a_change_that_cannot_be_recorded_is_not_made(
        self, node: Node, job: pb.Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = node.store.write

        async def no_audit(database: str, documents: Sequence[Document]) -> object:
            if database == AUDIT:
                raise StoreUnreachable("no connection")
            return await write(database, documents)

        monkeypatch.setattr(node.store, "write", no_audit)
        with pytest.raises(aio.AioRpcError) as caught:
            await node.public.PauseJob(pb.PauseJobRequest(name="report"))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not (await node.public.GetJob(pb.GetJobRequest(name="report"))).paused

    async def test_an_error_of_ours_is_recorded_as_one(
        self, node: Node, job: pb.Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(self: Catalogue, name: str) -> NoReturn:
            raise RuntimeError

        monkeypatch.setattr(Catalogue, "pause", broken)
        with pytest.raises(aio.AioRpcError):
            await node.public.PauseJob(pb.PauseJobRequest(name="report"))
        assert (await self.records(node))[0].result == "INTERNAL"


class TestServer:
    @pytest.mark.parametrize("name", ["", PUBLIC_SERVICE])
    async def test_health_is_serving_once_the_node_says_so(self, node: Node, name: str) -> None:
        health = health_pb2_grpc.HealthStub(node.channel)
        request = health_pb2.HealthCheckRequest(service=name)
        assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await node.server.set_serving(True)
        assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING

    async def test_reflection_describes_both_services(self, node: Node) -> None:
        async def questions() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            yield reflection_pb2.ServerReflectionRequest(file_containing_symbol="dcron.v1.Public")

        stub = reflection_pb2_grpc.ServerReflectionStub(node.channel)
        names, described = [answer async for answer in stub.ServerReflectionInfo(questions())]
        listed = {service.name for service in names.list_services_response.service}
        assert {"dcron.v1.Public", "dcron.v1.Internal", "grpc.health.v1.Health"} <= listed
        files = described.file_descriptor_response.file_descriptor_proto
        packages = {descriptor_pb2.FileDescriptorProto.FromString(file).package for file in files}
        assert "dcron.v1" in packages

    async def test_a_port_in_use_is_a_set_up_error_of_one_line(self, node: Node) -> None:
        second = ApiServer(
            node.address, Public(None, None, None, None, None, None), Internal(None, None), None
        )
        with pytest.raises(SetupError, match="in use") as caught:
            await second.start()
        assert node.address in str(caught.value)
        assert "\n" not in str(caught.value)

    async def test_a_stopped_server_ends_what_is_under_way(self, node: Node) -> None:
        node.worker.logs["e1"] = LOG
        chunks = node.client.follow_log(node.address, "e1", 0, follow=True)
        assert await anext(chunks) == LOG
        await node.server.stop(0.1)
        with pytest.raises(NodeUnreachable):
            await anext(chunks)
