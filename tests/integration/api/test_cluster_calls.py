"""Nodes and the cluster, by real gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from typing import NoReturn

import grpc
import pytest

from dcron.domain.documents import drain_id, node_key
from dcron.domain.errors import StoreUnreachable
from dcron.domain.ids import new_ulid
from dcron.domain.model import State
from dcron.domain.nodes import LeaderReport, NodeRecord, Waiting, node_body
from dcron.domain.views import HeldExecution
from dcron.ports import CLUSTER, Document, WriteResult
from dcron.rpc import dcron_pb2 as pb
from dcron.services.clients.cluster import DRAIN_FORM, Drain
from tests.integration.api.served_node import NOW, Node, put_claim, refused

DRAIN = DRAIN_FORM.encode(Drain(draining=True, at=NOW))


class TestCluster:
    async def test_nodes_are_listed_and_drained(self, node: Node) -> None:
        [found] = (await node.public.ListNodes(pb.ListNodesRequest())).nodes
        assert (found.id, found.alive, found.leading, found.draining) == ("n1", True, True, False)
        assert dict(found.labels) == {"zone": "a"}
        assert (await node.public.DrainNode(pb.DrainNodeRequest(id="n1"))).draining
        assert not (await node.public.UndrainNode(pb.UndrainNodeRequest(id="n1"))).draining
        error = await refused(node.public.DrainNode(pb.DrainNodeRequest(id="n7")))
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "node 'n7' not found")

    async def test_nodes_are_listed_by_pages(self, node: Node) -> None:
        for number in (2, 3):
            record = replace(node.elector.record(), node_id=f"n{number}")
            await node.put(CLUSTER, node_key(record.node_id), node_body(record))
        ids, token = [], ""
        for _ in range(3):
            page = await node.public.ListNodes(pb.ListNodesRequest(page_size=1, page_token=token))
            ids += [each.id for each in page.nodes]
            token = page.next_page_token
        assert (ids, token) == (["n1", "n2", "n3"], "")

    async def test_a_node_that_is_gone_is_forgotten_and_one_that_is_alive_is_not(self, node: Node) -> None:
        record = replace(node.elector.record(), node_id="n2", renewed_at=NOW - timedelta(hours=1))
        await node.put(CLUSTER, node_key("n2"), node_body(record))
        await node.public.DrainNode(pb.DrainNodeRequest(id="n2"))
        node.elector.said = LeaderReport(alive=("n1", "n2"))
        error = await refused(node.public.ForgetNode(pb.ForgetNodeRequest(id="n2")))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "is alive" in error.details()
        node.elector.said = LeaderReport(alive=("n1",))
        await node.public.ForgetNode(pb.ForgetNodeRequest(id="n2"))
        assert [each.id for each in (await node.public.ListNodes(pb.ListNodesRequest())).nodes] == ["n1"]
        error = await refused(node.public.ForgetNode(pb.ForgetNodeRequest(id="n2")))
        assert error.code() is grpc.StatusCode.NOT_FOUND

    async def test_a_drained_node_that_the_leader_has_yet_to_see_is_not_forgotten(self, node: Node) -> None:
        record = replace(node.elector.record(), node_id="n2", renewed_at=NOW)
        await node.put(CLUSTER, node_key("n2"), node_body(record))
        await node.put(CLUSTER, drain_id("n2"), DRAIN)
        node.elector.said = LeaderReport(alive=("n1",))
        error = await refused(node.public.ForgetNode(pb.ForgetNodeRequest(id="n2")))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        [_, found] = (await node.public.ListNodes(pb.ListNodesRequest())).nodes
        assert found.draining

    async def test_a_node_heard_of_while_it_is_forgotten_keeps_its_drain(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record = replace(node.elector.record(), node_id="n2", renewed_at=NOW - timedelta(hours=1))
        await node.put(CLUSTER, node_key("n2"), node_body(record))
        await node.put(CLUSTER, drain_id("n2"), DRAIN)
        node.elector.said = LeaderReport(alive=("n1",))
        write = node.store.write

        async def renew_first(database: str, documents: Sequence[Document]) -> list[WriteResult]:
            if database != CLUSTER:
                return await write(database, documents)
            monkeypatch.setattr(node.store, "write", write)
            [[leaf]] = await node.store.read(CLUSTER, [node_key("n2")])
            renewed = node_body(replace(record, renewed_at=NOW))
            await write(CLUSTER, [Document(leaf.id, renewed, leaf.revision)])
            return await write(database, documents)

        monkeypatch.setattr(node.store, "write", renew_first)
        error = await refused(node.public.ForgetNode(pb.ForgetNodeRequest(id="n2")))
        assert "has just been heard of" in error.details()
        [_, found] = (await node.public.ListNodes(pb.ListNodesRequest())).nodes
        assert found.draining

    async def test_a_drain_that_was_left_without_its_node_is_removed(self, node: Node) -> None:
        await node.put(CLUSTER, drain_id("n2"), DRAIN)
        await node.public.ForgetNode(pb.ForgetNodeRequest(id="n2"))
        [leaves] = await node.store.read(CLUSTER, [drain_id("n2")])
        assert not leaves

    @pytest.mark.parametrize("call", ["DrainNode", "UndrainNode", "ForgetNode"])
    @pytest.mark.parametrize("identifier", ["", "n 2", "n/2", "n" * 64])
    async def test_what_cannot_be_a_nodes_id_is_refused(self, node: Node, call: str, identifier: str) -> None:
        request = getattr(pb, f"{call}Request")(id=identifier)
        error = await refused(getattr(node.public, call)(request))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details().startswith("id: ")

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
