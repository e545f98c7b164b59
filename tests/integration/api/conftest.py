"""A node with its client, and a job that it has."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from grpc import aio

from dcron.adapters.grpc.nodes import GrpcNodeClient
from dcron.adapters.memory import MemoryDocumentStore
from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.api.internal import Internal
from dcron.api.public import Public
from dcron.api.server import ApiServer
from dcron.domain.documents import node_key
from dcron.domain.nodes import NodeRecord, node_body
from dcron.ports import CLUSTER
from dcron.rpc import dcron_pb2 as pb
from dcron.services.clients.audit import AuditTrail
from dcron.services.clients.catalogue import Catalogue
from dcron.services.clients.cluster import ClusterService
from dcron.services.clients.executions import Executions
from dcron.services.clients.gate import Gate
from dcron.services.clients.registrar import Registrar
from dcron.services.clients.scripts import Scripts
from tests.integration.api.served_node import (
    NOW,
    FakeElector,
    FakeWorker,
    FixedClock,
    Node,
    TickingClock,
    specification,
    upload,
)


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
    server = ApiServer("127.0.0.1:0", public, Internal(worker, elector), Gate(audit))
    address = f"127.0.0.1:{await server.start()}"
    record = NodeRecord("n1", "t", "s", address, "0.1.0", 4, NOW, NOW, labels={"zone": "a"}, leading=4)
    async with aio.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        running = Node(store, objects, elector, worker, server, client, address, channel)
        await running.put(CLUSTER, node_key("n1"), node_body(record))
        yield running
    await client.close()
    await server.stop(0)


@pytest.fixture
async def job(node: Node) -> pb.Job:
    await upload(node)
    return await node.public.CreateJob(pb.CreateJobRequest(name="report", specification=specification()))
