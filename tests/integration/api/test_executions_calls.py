"""Executions and their logs, by real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from dcron.api.errors import FIELD_METADATA
from dcron.domain.documents import skip_body, skip_record_body
from dcron.domain.model import LogObject, Skip, SkipReason
from dcron.ports import executions_database
from dcron.rpc import dcron_pb2 as pb
from tests.integration.api.served_node import LOG, NOW, Node, identifier_of, put_claim, put_outcome, refused


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
            pb.ListExecutionsRequest(job="report", states=[pb.EXECUTION_STATE_SKIPPED])
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

    async def test_a_skipped_record_is_found_by_its_id(self, node: Node, job: pb.Job) -> None:
        skip = Skip(job.uid, NOW, NOW, SkipReason.FROZEN, 3)
        await node.put(executions_database(NOW), skip.id, skip_record_body(skip, "report"))
        found = await node.public.GetExecution(pb.GetExecutionRequest(id=skip.id))
        assert (found.id, found.job, found.occurrence_count) == (skip.id, "report", 3)
        absent = pb.GetExecutionRequest(id=replace(skip, until=NOW + timedelta(hours=1)).id)
        assert (await refused(node.public.GetExecution(absent))).code() is grpc.StatusCode.NOT_FOUND

    async def test_the_end_of_an_execution_is_waited_for(self, node: Node, job: pb.Job) -> None:
        identifier = identifier_of(job)
        waiting = asyncio.ensure_future(node.public.WaitExecution(pb.WaitExecutionRequest(id=identifier)))
        await asyncio.sleep(0.3)
        claim = await put_claim(node, job)
        soon = pb.WaitExecutionRequest(id=identifier, timeout=Duration(nanos=200_000_000))
        running = await node.public.WaitExecution(soon)
        assert running.state == pb.EXECUTION_STATE_RUNNING
        assert not waiting.done()
        await put_outcome(node, claim)
        assert (await waiting).state == pb.EXECUTION_STATE_FAILED

    @pytest.mark.parametrize(
        ("identifier", "seconds", "code"),
        [
            ("nonsense", 20, grpc.StatusCode.NOT_FOUND),
            ("01KJQ6QPSGV6T0RF17PAD5PWR0:20260302T120000Z:001", 0, grpc.StatusCode.NOT_FOUND),
            ("01KJQ6QPSGV6T0RF17PAD5PWR0:20260302T120000Z:001", 61, grpc.StatusCode.INVALID_ARGUMENT),
        ],
    )
    async def test_what_cannot_come_is_not_waited_for(
        self, node: Node, identifier: str, seconds: int, code: grpc.StatusCode
    ) -> None:
        request = pb.WaitExecutionRequest(id=identifier, timeout=Duration(seconds=seconds))
        assert (await refused(node.public.WaitExecution(request))).code() is code

    async def test_executions_are_paged_through_and_filtered(self, node: Node, job: pb.Job) -> None:
        claims = [await put_claim(node, job, f"20260302T12{minute:02d}00Z") for minute in range(3)]
        await put_outcome(node, claims[1])
        request = pb.ListExecutionsRequest(job=job.uid, page_size=2, manual=False, node_id="n1")
        first = await node.public.ListExecutions(request)
        request.page_token = first.next_page_token
        rest = await node.public.ListExecutions(request)
        found = [each.id for each in (*first.executions, *rest.executions)]
        assert found == [claim.execution_id for claim in reversed(claims)]
        assert rest.next_page_token == ""

        wanted = pb.ListExecutionsRequest(
            states=[pb.EXECUTION_STATE_FAILED, pb.EXECUTION_STATE_LOST], scheduled_from=stamp("12:01:00")
        )
        [failed] = (await node.public.ListExecutions(wanted)).executions
        assert failed.id == claims[1].execution_id
        wanted.scheduled_from.CopyFrom(stamp("12:01:01"))
        assert not (await node.public.ListExecutions(wanted)).executions

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"page_size": -1}, "page_size"),
            ({"page_token": "nonsense"}, "page_token"),
            ({"states": [99]}, "states"),
        ],
    )
    async def test_what_no_list_can_mean_is_refused_by_field(
        self, node: Node, job: pb.Job, change: dict[str, object], field: str
    ) -> None:
        error = await refused(node.public.ListExecutions(pb.ListExecutionsRequest(**change)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert dict(error.trailing_metadata())[FIELD_METADATA] == field

    async def test_bounds_beyond_all_time_are_none(self, node: Node, job: pb.Job) -> None:
        claim = await put_claim(node, job)
        wide = pb.ListExecutionsRequest(
            scheduled_from=Timestamp(seconds=-62135596800), scheduled_until=Timestamp(seconds=253402300799)
        )
        [found] = (await node.public.ListExecutions(wide)).executions
        assert found.id == claim.execution_id


def stamp(time: str) -> Timestamp:
    message = Timestamp()
    message.FromJsonString(f"2026-03-02T{time}Z")
    return message
