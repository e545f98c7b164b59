"""The record of changes, by real gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import aio

from dcron.domain.errors import StoreUnreachable
from dcron.ports import AUDIT, Document
from dcron.rpc import dcron_pb2 as pb
from dcron.services.clients.catalogue import Catalogue
from tests.integration.api.served_node import DIGEST, SECRET, Node, specification


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
        assert [record.subject for record in await self.records(node, page_size=1)] == ["cluster"]

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
