"""Whether a node may join, and which of two nodes under one id stays."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from dcron.domain.documents import INITIAL_SETTINGS, SETTINGS_ID, settings_body
from dcron.domain.errors import SetupError
from dcron.ports import CLUSTER, Document
from tests.doubles import START
from tests.unit.services.election.scene import LEASE, Scene


async def test_all_nodes_that_start_at_once_agree_on_the_settings(scene):
    await asyncio.gather(*(scene.node(node_id).elector.join() for node_id in "abc"))
    [[settings]] = await scene.store.read(CLUSTER, [SETTINGS_ID])
    assert settings.body == settings_body(INITIAL_SETTINGS)
    assert settings.revision.startswith("1-")


async def write_newer_format(scene: Scene) -> None:
    [leaves] = await scene.store.read(CLUSTER, [SETTINGS_ID])
    newer = settings_body(replace(INITIAL_SETTINGS, format_version=99, sequence=1))
    await scene.store.write(CLUSTER, [Document(SETTINGS_ID, newer, leaves[0].revision if leaves else None)])


async def test_a_node_does_not_join_a_cluster_of_a_newer_format(scene):
    await write_newer_format(scene)
    with pytest.raises(SetupError, match="format 99"):
        await scene.node().elector.join()


async def test_a_running_node_stops_when_the_cluster_is_given_a_newer_format(scene):
    leader = await scene.leader()
    await write_newer_format(scene)
    with pytest.raises(SetupError, match="format 99"):
        await leader.elector.run()
    assert leader.schedulers[0].ended
    assert (await scene.record("a")).stopped


async def test_a_second_living_node_of_one_id_does_not_join(scene, monkeypatch):
    first = await scene.leader("a")
    second = scene.node("a", incarnation="other")

    async def meanwhile(seconds: float) -> None:
        assert seconds == LEASE.length_seconds
        await first.elector._round()

    monkeypatch.setattr("dcron.services.election.node_document.asyncio.sleep", meanwhile)
    with pytest.raises(SetupError, match="in use at a:1"):
        await second.elector.join()


async def test_a_dead_nodes_id_is_taken_after_a_lease_and_that_of_ones_own_spool_at_once(scene, monkeypatch):
    waited = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    await scene.leader("a")
    monkeypatch.setattr("dcron.services.election.node_document.asyncio.sleep", wait)
    heir = scene.node("a", incarnation="other")
    await heir.elector.join()
    assert waited == [LEASE.length_seconds]
    again = scene.node("a", incarnation="third", spool_id="spool-incarnation-a")
    await again.elector.join()
    assert waited == [LEASE.length_seconds]


@pytest.mark.parametrize("later", ["first", "second"])
async def test_of_two_nodes_that_share_an_id_the_one_started_later_stays(scene, later):
    hour = timedelta(hours=1)
    first = scene.node("a", incarnation="one", started=START + hour * (later == "first"))
    second = scene.node("a", incarnation="two", started=START + hour * (later == "second"))
    await asyncio.gather(first.elector.join(), second.elector.join())
    stopped = []
    for _ in range(3):
        for node in (first, second):
            if node not in stopped:
                try:
                    await node.round()
                except SetupError:
                    stopped.append(node)
    assert stopped == [second if later == "first" else first]


async def test_what_an_earlier_start_of_the_same_node_wrote_by_a_clock_ahead_is_written_over(scene):
    earlier = scene.node("a", incarnation="one", started=START + timedelta(hours=1))
    await earlier.elector.join()
    later = scene.node("a", incarnation="two", spool_id="spool-one")
    await later.elector.join()
    await earlier.round()
    await later.round()
    assert (await scene.record("a")).incarnation == "two"
