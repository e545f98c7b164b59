"""The simulation's own parts do what the checkers rely on."""

from __future__ import annotations

import asyncio
from contextvars import Context
from random import Random

import pytest

from dcron.ports import JOBS, Document, WriteKind
from tests.simulation.ambush import Ambushes, Step
from tests.simulation.history import Ended, History, Started
from tests.simulation.loop import GATE, Gate, Stuck, VirtualLoop
from tests.simulation.store import Cluster


@pytest.fixture
def loop():
    loop = VirtualLoop()
    yield loop
    loop.close()


@pytest.fixture
def cluster(loop):
    return Cluster(loop, Random(1), History())


def write(loop, cluster, copy, body, revision=None):
    coroutine = cluster.write(cluster.copies[copy], JOBS, [Document("job", body, revision)])
    [result] = loop.run_until_complete(coroutine)
    return result


def read(loop, cluster, copy):
    [leaves] = loop.run_until_complete(cluster.read(cluster.copies[copy], JOBS, ["job"]))
    return [leaf.body["of"] for leaf in leaves]


def wait(loop, seconds):
    loop.run_until_complete(asyncio.sleep(seconds))


def gated(loop, gate, coroutine):
    context = Context()
    context.run(GATE.set, gate)
    return loop.create_task(coroutine, context=context)


def test_a_virtual_week_passes_at_once(loop):
    wait(loop, 7 * 24 * 3600.0)
    assert loop.time() == pytest.approx(7 * 24 * 3600.0)


def test_a_loop_that_waits_for_nothing_says_so(loop):
    with pytest.raises(Stuck):
        loop.run_until_complete(loop.create_future())


def test_what_is_paused_goes_on_where_it_was(loop):
    gate, seen = Gate("node"), []

    async def tick():
        while True:
            await asyncio.sleep(1.0)
            seen.append(loop.time())

    task = gated(loop, gate, tick())
    wait(loop, 2.5)
    gate.pause()
    wait(loop, 10.0)
    assert len(seen) == 2
    gate.resume(loop)
    wait(loop, 1.2)
    assert seen[2] == pytest.approx(12.5) and len(seen) == 4
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))


def test_a_crash_runs_no_clean_up(loop):
    gate, cleaned = Gate("node"), []

    async def work():
        try:
            await asyncio.sleep(1.0)
        finally:
            cleaned.append(loop.time())

    task = gated(loop, gate, work())
    wait(loop, 0.5)
    gate.kill()
    gate.resume(loop)
    wait(loop, 5.0)
    assert cleaned == [] and not task.done()
    gate.bury(loop)
    loop.run_until_complete(asyncio.wait([task]))


def test_timers_of_one_instant_run_in_their_order(loop):
    seen = []
    for number in range(5):
        loop.call_at(3.0, seen.append, number)
    loop.call_at(3.0, seen.append, "cancelled").cancel()
    wait(loop, 3.0)
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("callbacks", range(4))
def test_a_fuse_ends_a_node_after_exactly_so_many_callbacks_even_of_one_instant(loop, callbacks):
    gate, seen = Gate("node"), []

    async def work():
        for step in range(10):
            seen.append(step)
            await asyncio.sleep(0)

    gate.light(callbacks, gate.kill)
    gated(loop, gate, work())
    wait(loop, 1.0)
    assert seen == list(range(callbacks))
    gate.bury(loop)
    wait(loop, 1.0)
    assert len(seen) == 10


def test_an_ambush_kills_whichever_node_takes_the_step_next_and_only_that_one(loop):
    history, killed = History(), []

    class Machine:
        def __init__(self, node_id):
            self.node_id = node_id

        def crash_after(self, callbacks, crashed):
            killed.append((self.node_id, callbacks))
            crashed.set_result(self)

    ambushes = Ambushes(history, [Machine("node1"), Machine("node2")])

    async def lie_in_wait():
        caught = ambushes.lay(Step.ENDED, 7)
        history.add(Started(1.0, "node1", "execution", "token", 0.0, 0.0))
        history.add(Ended(2.0, "node2", "execution", "token", "succeeded", seen=True))
        history.add(Ended(3.0, "node1", "execution", "token", "succeeded", seen=True))
        return (await caught).node_id

    assert loop.run_until_complete(lie_in_wait()) == "node2"
    assert killed == [("node2", 7)]


def race(loop, seed, *, writers, down=()):
    """What becomes of creations of one document at the same time, through different copies."""
    cluster = Cluster(loop, Random(seed), History())
    for number in down:
        cluster.copies[number].up = False

    async def together():
        return await asyncio.gather(
            *(
                cluster.write(cluster.copies[number], JOBS, [Document("job", {"of": number})])
                for number in range(writers)
            )
        )

    return tuple(sorted(result.kind.value for [result] in loop.run_until_complete(together())))


def test_of_creations_at_the_same_time_one_is_a_plain_success_or_none(loop):
    outcomes = {race(loop, seed, writers=3) for seed in range(40)}
    assert outcomes == {("done", "lost", "lost"), ("done", "lost", "unsure"), ("unsure", "unsure", "unsure")}


def test_with_a_copy_down_all_creations_may_get_202(loop):
    outcomes = {race(loop, seed, writers=2, down=[2]) for seed in range(40)}
    assert outcomes == {("done", "lost"), ("unsure", "unsure")}


def test_an_isolated_copy_answers_with_202_and_what_is_old(loop, cluster):
    first = write(loop, cluster, 0, {"of": "before"})
    cluster.isolated.add("couch1")
    changed = write(loop, cluster, 1, {"of": "majority"}, first.revision)
    assert changed.kind is WriteKind.DONE
    assert read(loop, cluster, 0) == ["before"]
    unsure = write(loop, cluster, 0, {"of": "minority"}, first.revision)
    assert unsure.kind is WriteKind.UNSURE
    cluster.isolated.clear()
    wait(loop, 30.0)
    assert sorted(read(loop, cluster, 2)) == ["majority", "minority"]


def test_either_branch_can_be_updated_with_a_plain_success(loop, cluster):
    test_an_isolated_copy_answers_with_202_and_what_is_old(loop, cluster)
    [leaves] = loop.run_until_complete(cluster.read(cluster.copies[0], JOBS, ["job"]))
    for leaf in leaves:
        assert write(loop, cluster, 0, {"of": leaf.revision}, leaf.revision).kind is WriteKind.DONE


def test_what_a_copy_missed_while_it_was_down_comes_to_it_later(loop, cluster):
    cluster.copies[2].up = False
    assert write(loop, cluster, 0, {"of": "both"}).kind is WriteKind.DONE
    wait(loop, 20.0)
    assert cluster.copies[2].tree(JOBS, "job") is None
    cluster.copies[2].up = True
    wait(loop, 20.0)
    assert cluster.copies[2].tree(JOBS, "job").winner.body == {"of": "both"}
