"""A node that stops gives its term up and says so, whatever is in its way."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

from dcron.domain.documents import node_key
from dcron.domain.errors import StoreUnreachable
from dcron.domain.nodes import node_body
from dcron.ports import CLUSTER, Document
from tests.doubles import START, until


async def test_a_clean_stop_resigns_and_tells_the_others(scene):
    other = scene.node("b")
    leader = await scene.leader("a")
    await other.round()
    run = asyncio.create_task(leader.elector.run())
    renewals = len(scene.store.requests)
    await until(lambda: len(scene.store.requests) > renewals)
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
    record = await scene.record("a")
    assert (record.stopped, record.resigned, record.leading) == (True, 1, 0)
    assert leader.nodes.resigned == [("b:1", 1)]
    assert leader.schedulers[0].ended
    await other.round()
    assert other.leads()


async def test_a_stop_in_the_middle_of_a_renewal_that_arrives_still_resigns(scene):
    leader = await scene.leader("a")
    under_way = asyncio.Event()

    async def arrive_late() -> None:
        record = replace(leader.elector._own.record, renewed_at=START)
        revision = leader.elector._own._revision
        await scene.store.write(CLUSTER, [Document(node_key("a"), node_body(record), revision)])
        under_way.set()
        await asyncio.Event().wait()

    scene.store.faults["node:a"] = [arrive_late]
    run = asyncio.create_task(leader.elector.run())
    await under_way.wait()
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
    record = await scene.record("a")
    assert (record.stopped, record.resigned) == (True, 1)


async def test_a_stop_resigns_though_the_other_nodes_cannot_be_listed(scene, monkeypatch):
    leader = await scene.leader("a")
    run = asyncio.create_task(leader.elector.run())
    await asyncio.sleep(0)

    async def away(*_, **__):
        raise StoreUnreachable("unplugged")

    monkeypatch.setattr(scene.store, "range", away)
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
    assert (await scene.record("a")).resigned == 1
    assert leader.nodes.resigned == []


async def test_a_stop_while_the_store_is_away_ends(scene):
    leader = await scene.leader("a")
    run = asyncio.create_task(leader.elector.run())
    await asyncio.sleep(0)
    scene.store.unreachable = True
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
    assert leader.schedulers[0].ended


async def test_a_resignation_of_the_newest_term_is_looked_at_and_an_older_one_is_not(scene):
    node = scene.node("b")
    node.local.saw_term(5)
    await node.elector.resignation(4)
    assert not node.elector._look.is_set()
    await node.elector.resignation(5)
    assert node.elector._look.is_set()
