"""Real gRPC servers with real certificates: who gets in, to what, and what happens at a renewal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from dcron.adapters.grpc.nodes import GrpcNodeClient
from dcron.adapters.grpc.probe import ask_health
from dcron.api import public as api_public
from dcron.api.access import METHODS
from dcron.api.server import ApiServer
from dcron.certificates import CredentialWatch, read_credentials
from dcron.credentials import CertificateFiles
from dcron.domain.access import Role
from dcron.domain.errors import NodeUnreachable, NotFound
from dcron.rpc import dcron_pb2 as pb
from dcron.rpc import dcron_pb2_grpc
from dcron.services.clients.gate import RULES, Gate
from tests.certificates import Authority

CALL_SECONDS = 5.0
WAIT_SECONDS = 20.0
POLL_SECONDS = 0.1
OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
CLIENT_ROLES = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)


class Public(dcron_pb2_grpc.PublicServicer):
    """Every method is left as it is generated: UNIMPLEMENTED, once a call is let in."""


class Internal(dcron_pb2_grpc.InternalServicer):
    async def Cancel(self, request, context):  # noqa: N802
        return pb.InternalCancelResponse(found=True)


class Untold:
    """Takes all records."""

    async def request(self, caller, changes):
        return [""] * len(changes)

    async def results(self, ids, results):
        return None


GATE = Gate(Untold())


@dataclass
class Server:
    authority: Authority
    files: CertificateFiles
    address: str

    def channel(self, files: CertificateFiles | None, *, host: str = "127.0.0.1") -> aio.Channel:
        target = f"{host}:{self.address.rpartition(':')[2]}"
        if files is None:
            return aio.insecure_channel(target, options=OPTIONS)
        credentials = grpc.ssl_channel_credentials(
            files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
        )
        return aio.secure_channel(target, credentials, options=OPTIONS)


@pytest.fixture
async def server(tmp_path) -> AsyncIterator[Server]:
    authority = Authority(tmp_path / "ca")
    files = authority.issue("n1", "dcron-node")
    made = ApiServer("127.0.0.1:0", Public(), Internal(), GATE, CredentialWatch(files))
    port = await made.start()
    yield Server(authority, files, f"127.0.0.1:{port}")
    await made.stop(0)


async def status_of(call: Callable[[], Awaitable[object]]) -> tuple[grpc.StatusCode, str]:
    try:
        await call()
    except aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


async def health(channel: aio.Channel) -> grpc.StatusCode:
    stub = health_pb2_grpc.HealthStub(channel)
    return (await status_of(lambda: stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS)))[0]


async def call(channel: aio.Channel, method: str) -> tuple[grpc.StatusCode, str]:
    """Call a method of the proto with an empty request, whatever kind it is."""
    service, name = method.strip("/").split("/")
    described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    answer = message_factory.GetMessageClass(described.output_type)
    request = message_factory.GetMessageClass(described.input_type)()
    codec = {
        "request_serializer": type(request).SerializeToString,
        "response_deserializer": answer.FromString,
    }
    if described.server_streaming and described.client_streaming:
        stream = channel.stream_stream(method, **codec)(iter([request]), timeout=CALL_SECONDS)
        return await status_of(stream.read)
    if described.server_streaming:
        stream = channel.unary_stream(method, **codec)(request, timeout=CALL_SECONDS)
        return await status_of(stream.read)
    if described.client_streaming:
        stub = channel.stream_unary(method, **codec)
        return await status_of(lambda: stub(iter([request]), timeout=CALL_SECONDS))
    return await status_of(lambda: channel.unary_unary(method, **codec)(request, timeout=CALL_SECONDS))


@pytest.mark.parametrize("held", Role)
async def test_each_role_may_call_what_the_table_says_and_nothing_else(server, held):
    async with server.channel(server.authority.issue("alice", f"dcron-{held.value}")) as channel:
        for method, name in METHODS.items():
            least = RULES[name].least
            code, details = await call(channel, method)
            if least is Role.NODE or held is Role.NODE:
                allowed = least is held
            else:
                allowed = CLIENT_ROLES.index(held) >= CLIENT_ROLES.index(least)
            assert (code is not grpc.StatusCode.PERMISSION_DENIED) is allowed, method
            if not allowed:
                assert details == f"needs role {least.value}; the certificate of alice has {held.value}"


async def test_a_certificate_without_a_role_is_let_in_to_hear_that_it_has_none(server):
    async with server.channel(server.authority.issue("alice", "sales")) as channel:
        assert await health(channel) is grpc.StatusCode.OK
        code, details = await call(channel, "/dcron.v1.Public/ListJobs")
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert details == "needs role viewer; the certificate of alice has no role"


async def test_a_name_that_reads_like_a_role_gives_none(server):
    async with server.channel(server.authority.issue("a,OU=dcron-admin", "x+OU=dcron-admin")) as channel:
        code, _ = await call(channel, "/dcron.v1.Public/ListJobs")
    assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_reflection_is_for_those_who_may_look(server):
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with server.channel(server.authority.issue("alice", "dcron-viewer")) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        answer = await stub.ServerReflectionInfo(iter([request]), timeout=CALL_SECONDS).read()
    assert "dcron.v1.Public" in {each.name for each in answer.list_services_response.service}


@pytest.mark.parametrize("who", ["plain", "other CA", "expired"])
async def test_who_has_no_valid_certificate_of_the_ca_gets_no_connection(server, tmp_path, who):
    other = Authority(tmp_path / "other").issue("alice", "dcron-admin")
    files = {
        "plain": None,
        "other CA": CertificateFiles(other.certificate, other.key, server.authority.file),
        "expired": server.authority.issue("old", "dcron-admin", lasts=timedelta(days=-1)),
    }[who]
    async with server.channel(files) as channel:
        assert await health(channel) is grpc.StatusCode.UNAVAILABLE


async def test_who_resolves_an_execution_is_who_the_certificate_says(tmp_path):
    class Executions:
        def __init__(self) -> None:
            self.said_by: list[str] = []

        async def resolve(self, identifier, kind, by, reason):
            self.said_by.append(by)
            raise NotFound(identifier)

    authority, history = Authority(tmp_path / "ca"), Executions()
    files = authority.issue("n1", "dcron-node")
    public = api_public.Public(None, None, None, history, None, None)
    serving = ApiServer("127.0.0.1:0", public, Internal(), GATE, CredentialWatch(files))
    made = Server(authority, files, f"127.0.0.1:{await serving.start()}")
    request = pb.ResolveExecutionRequest(id="e1", verdict=pb.VERDICT_FAILED, by="somebody else")
    try:
        async with made.channel(authority.issue("alice", "dcron-operator")) as channel:
            stub = dcron_pb2_grpc.PublicStub(channel)
            code, _ = await status_of(lambda: stub.ResolveExecution(request, timeout=CALL_SECONDS))
    finally:
        await serving.stop(0)
    assert code is grpc.StatusCode.NOT_FOUND
    assert history.said_by == ["alice"]


async def test_nodes_talk_to_nodes_by_their_certificates(server):
    client = GrpcNodeClient(CredentialWatch(server.authority.issue("n2", "dcron-node")))
    try:
        assert await client.cancel(server.address, "e1")
    finally:
        await client.close()


async def test_a_node_is_not_believed_under_a_name_that_its_certificate_does_not_have(tmp_path):
    authority = Authority(tmp_path / "ca")
    elsewhere = authority.issue("n1", "dcron-node", hosts=["node1.example"])
    serving = ApiServer("127.0.0.1:0", Public(), Internal(), GATE, CredentialWatch(elsewhere))
    address = f"127.0.0.1:{await serving.start()}"
    mine = authority.issue("n2", "dcron-node")
    client = GrpcNodeClient(CredentialWatch(mine))
    try:
        with pytest.raises(NodeUnreachable, match="Hostname"):
            await client.cancel(address, "e1")
        assert "Hostname" in await ask_health(address, read_credentials(mine))
    finally:
        await client.close()
        await serving.stop(0)


async def test_a_node_of_another_ca_is_not_believed(server, tmp_path):
    other = Authority(tmp_path / "other").issue("n2", "dcron-node")
    client = GrpcNodeClient(CredentialWatch(other))
    try:
        with pytest.raises(NodeUnreachable):
            await client.cancel(server.address, "e1")
    finally:
        await client.close()


async def test_a_client_is_no_node(server):
    client = GrpcNodeClient(CredentialWatch(server.authority.issue("alice", "dcron-admin")))
    try:
        with pytest.raises(NodeUnreachable, match="needs role node; the certificate of alice has admin"):
            await client.cancel(server.address, "e1")
    finally:
        await client.close()


async def test_a_server_takes_up_what_replaces_its_certificates(server, tmp_path):
    newer = Authority(tmp_path / "newer")
    alice, bob = server.authority.issue("alice", "dcron-viewer"), newer.issue("bob", "dcron-viewer")
    async with server.channel(alice) as channel:
        assert await health(channel) is grpc.StatusCode.OK

        renewed = newer.issue("n1", "dcron-node")
        server.files.certificate.write_bytes(renewed.certificate.read_bytes()[:200])
        async with server.channel(alice) as another:
            assert await health(another) is grpc.StatusCode.OK, "half-written files keep the old ones"

        server.files.key.write_bytes(renewed.key.read_bytes())
        server.files.ca.write_bytes(renewed.ca.read_bytes())
        server.files.certificate.write_bytes(renewed.certificate.read_bytes())
        async with server.channel(bob) as another:
            assert await health(another) is grpc.StatusCode.OK, "the new ones are taken up"
        assert await health(channel) is grpc.StatusCode.OK, "connections that there were go on"


async def test_a_certificate_is_looked_at_anew_after_a_while_and_calls_under_way_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("dcron.api.server.CONNECTION_SECONDS", 1)
    authority = Authority(tmp_path / "ca")
    files = authority.issue("n1", "dcron-node")
    serving = ApiServer("127.0.0.1:0", Public(), Internal(), GATE, CredentialWatch(files))
    made = Server(authority, files, f"127.0.0.1:{await serving.start()}")
    try:
        async with made.channel(authority.issue("alice", "dcron-viewer")) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            await watch.read()
            files.ca.write_bytes(Authority(tmp_path / "newer").file.read_bytes())
            async with asyncio.timeout(WAIT_SECONDS):
                while await health(channel) is grpc.StatusCode.OK:
                    await asyncio.sleep(POLL_SECONDS)
            await serving.set_serving(True)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    finally:
        await serving.stop(0)


async def test_a_client_node_takes_up_what_replaces_its_certificates(server, tmp_path):
    other = Authority(tmp_path / "other")
    files = other.issue("n2", "dcron-node")
    client = GrpcNodeClient(CredentialWatch(files))
    try:
        with pytest.raises(NodeUnreachable):
            await client.cancel(server.address, "e1")
        server.authority.issue("n2", "dcron-node", into=files)
        files.ca.write_bytes(server.authority.file.read_bytes())
        assert await client.cancel(server.address, "e1")
    finally:
        await client.close()
