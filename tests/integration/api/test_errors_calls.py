"""What is refused, and how, by real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from dcron.api.errors import FIELD_METADATA
from dcron.domain.errors import StoreUnreachable
from dcron.rpc import dcron_pb2 as pb
from tests.integration.api.served_node import SECRET, Node, refused, specification


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
