"""A node is alive while the watcher, by its own clock, sees its document change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcron.domain.documents import node_key
from dcron.domain.nodes import NodeRecord, node_body
from dcron.ports import CLUSTER, Document
from dcron.services.shared.node_watch import NodeWatch
from tests.doubles import START, DoubtfulStore, ManualClock

LEASE_SECONDS = 6.0


class Cluster:
    """A watch, and nodes that write their documents when a test says so."""

    def __init__(self) -> None:
        self.store = DoubtfulStore()
        self.clock = ManualClock()
        self.watch = NodeWatch(self.store, self.clock, lease_seconds=LEASE_SECONDS)

    async def renew(self, node_id: str, **fields: object) -> None:
        record = NodeRecord(node_id, "token", "spool", f"{node_id}:1", "1", 4, START, START)
        key = node_key(node_id)
        [leaves] = await self.store.read(CLUSTER, [key])
        body = node_body(replace(record, **fields))
        await self.store.write(CLUSTER, [Document(key, body, leaves[0].revision if leaves else None)])


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


async def test_a_node_seen_for_the_first_time_is_given_a_lease(cluster: Cluster) -> None:
    await cluster.renew("a")
    await cluster.watch.refresh()
    cluster.clock.pass_seconds(LEASE_SECONDS - 0.01)
    assert cluster.watch.alive() == {"a"}
    assert cluster.watch.address("a") == "a:1"
    cluster.clock.pass_seconds(0.01)
    assert cluster.watch.alive() == frozenset()
    assert cluster.watch.address("a") is None
    assert cluster.watch.workers() == []


async def test_a_node_known_to_be_silent_is_not_alive_until_it_renews(cluster: Cluster) -> None:
    await cluster.renew("a")
    await cluster.renew("b")
    [[leaf]] = await cluster.store.read(CLUSTER, [node_key("a")])
    watch = NodeWatch(
        cluster.store, cluster.clock, lease_seconds=LEASE_SECONDS, silent={"a": leaf.revision or ""}
    )
    await watch.refresh()
    assert watch.alive() == {"b"}
    await cluster.renew("a")
    await watch.refresh()
    assert watch.alive() == {"a", "b"}


async def test_a_node_that_renewed_since_it_was_said_to_be_silent_is_alive(cluster: Cluster) -> None:
    await cluster.renew("a")
    [[leaf]] = await cluster.store.read(CLUSTER, [node_key("a")])
    await cluster.renew("a")
    watch = NodeWatch(
        cluster.store, cluster.clock, lease_seconds=LEASE_SECONDS, silent={"a": leaf.revision or ""}
    )
    await watch.refresh()
    assert watch.alive() == {"a"}


async def test_each_new_revision_is_a_sign_of_life_and_the_same_one_is_none(cluster: Cluster) -> None:
    await cluster.renew("a")
    await cluster.renew("b")
    await cluster.watch.refresh()
    cluster.clock.pass_seconds(4.0)
    await cluster.renew("a")
    await cluster.watch.refresh()
    cluster.clock.pass_seconds(4.0)
    await cluster.watch.refresh()
    assert cluster.watch.alive() == {"a"}


async def test_a_node_that_comes_back_is_alive_again(cluster: Cluster) -> None:
    await cluster.renew("a")
    await cluster.watch.refresh()
    cluster.clock.pass_seconds(60.0)
    await cluster.watch.refresh()
    assert cluster.watch.alive() == frozenset()
    await cluster.renew("a")
    await cluster.watch.refresh()
    assert cluster.watch.alive() == {"a"}


async def test_a_node_that_stopped_cleanly_is_gone_at_once(cluster: Cluster) -> None:
    await cluster.renew("a")
    await cluster.watch.refresh()
    await cluster.renew("a", stopped=True)
    await cluster.watch.refresh()
    assert cluster.watch.alive() == frozenset()


async def test_a_draining_node_is_alive_and_no_worker(cluster: Cluster) -> None:
    await cluster.renew("b", labels={"zone": "north"})
    await cluster.renew("a", draining=True)
    await cluster.watch.refresh()
    assert cluster.watch.alive() == {"a", "b"}
    assert [(worker.node_id, worker.labels) for worker in cluster.watch.workers()] == [
        ("b", {"zone": "north"})
    ]


async def test_workers_come_in_a_fixed_order(cluster: Cluster) -> None:
    for node_id in "cab":
        await cluster.renew(node_id)
    await cluster.watch.refresh()
    assert [worker.node_id for worker in cluster.watch.workers()] == ["a", "b", "c"]


async def test_new_nodes_are_found_with_the_next_refresh(cluster: Cluster) -> None:
    await cluster.watch.refresh()
    assert cluster.watch.alive() == frozenset()
    await cluster.renew("a")
    await cluster.watch.refresh()
    assert cluster.watch.alive() == {"a"}


async def test_a_node_whose_document_is_not_read_lives_on_for_its_lease_and_is_forgotten_then(
    cluster: Cluster,
) -> None:
    """One copy of the store that does not know of it, and answers alone, does not end its life."""
    await cluster.renew("a")
    await cluster.watch.refresh()
    [[leaf]] = await cluster.store.read(CLUSTER, [node_key("a")])
    await cluster.store.write(CLUSTER, [Document(leaf.id, {}, leaf.revision, deleted=True)])
    cluster.clock.pass_seconds(LEASE_SECONDS - 0.01)
    await cluster.watch.refresh()
    assert cluster.watch.address("a") == "a:1"
    cluster.clock.pass_seconds(0.01)
    await cluster.watch.refresh()
    assert cluster.watch.alive() == frozenset()
    assert not cluster.watch._seen
