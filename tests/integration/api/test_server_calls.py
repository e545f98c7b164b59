"""The server itself, by real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from dcron.api.internal import Internal
from dcron.api.public import Public
from dcron.api.server import PUBLIC_SERVICE, ApiServer
from dcron.domain.errors import NodeUnreachable, SetupError
from tests.integration.api.served_node import LOG, Node


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
