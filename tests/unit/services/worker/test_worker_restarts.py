"""A worker takes up what its spool holds, starts what it claimed ahead at its instant, and shows logs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from dcron.domain.errors import NotFound
from dcron.domain.model import State
from dcron.domain.offers import OfferResult
from dcron.services.worker import executor, log_file, worker
from tests.doubles import START, until
from tests.service_doubles import ATTEMPT, MONTH, an_attempt
from tests.unit.services.worker.scene import hold_up

# The daemon dies.


async def test_a_daemon_that_dies_before_its_claim_arrives_delivers_not_started(scene):
    under_way, _ = await hold_up(scene)
    asking = asyncio.create_task(scene.offer(ATTEMPT))
    await under_way.wait()
    asking.cancel()
    await scene.restart()
    await until(scene.is_idle)
    assert scene.machine.started == []
    assert await scene.states() == [State.NOT_STARTED]
    assert await scene.world.store.claims() == []


async def test_a_daemon_that_dies_between_claim_and_start_delivers_not_started(scene):
    reached = asyncio.Event()

    async def die() -> None:
        reached.set()
        await asyncio.Event().wait()

    scene.node.runner.faults = [die]
    asking = asyncio.create_task(scene.offer(ATTEMPT))
    await reached.wait()
    asking.cancel()
    await scene.restart()
    await until(scene.is_idle)
    [claim] = await scene.world.store.claims()
    assert (await scene.world.store.outcomes())[claim.token].state is State.NOT_STARTED


async def test_a_script_that_runs_is_adopted_and_its_end_learnt(scene):
    await scene.offer(ATTEMPT)
    await scene.restart()
    assert await scene.offer(ATTEMPT) == [OfferResult.ACCEPTED]
    [token] = scene.machine.started
    scene.node.runner.end(token, exit_code=3, printed=b"late")
    await until(scene.is_idle)
    assert (await scene.world.store.outcomes())[token].exit_code == 3
    assert scene.machine.started == [token]


async def test_a_script_that_ended_while_nobody_listened_is_delivered(scene):
    await scene.offer(ATTEMPT)
    [token] = scene.machine.started
    await scene.node.crash()
    scene.node.runner.end(token, printed=b"unheard")
    await scene.restart()
    await until(scene.is_idle)
    assert (await scene.world.store.outcomes())[token].state is State.SUCCEEDED


async def test_an_end_that_was_learnt_before_a_crash_is_delivered_after_it(scene):
    scene.world.store.faults[ATTEMPT.execution_id + ":"] = ["gone"] * 1000
    await scene.offer(ATTEMPT)
    [token] = scene.machine.started
    scene.node.runner.end(token, exit_code=4)
    await until(lambda: scene.node.outbox.holds(token))
    scene.world.store.faults.clear()
    await scene.restart()
    await until(scene.is_idle)
    assert (await scene.world.store.outcomes())[token].exit_code == 4


async def test_what_is_claimed_ahead_of_its_instant_starts_at_it(scene):
    ahead = replace(ATTEMPT, start_in_seconds=1.0)
    assert await scene.offer(ahead, an_attempt(1)) == [OfferResult.ACCEPTED] * 2
    assert len(await scene.world.store.claims()) == 2
    await until(lambda: scene.machine.started)
    await asyncio.sleep(0.1)
    assert len(scene.machine.started) == 1
    assert await scene.offer(ahead) == [OfferResult.ACCEPTED]
    assert await scene.offer(an_attempt(2)) == [OfferResult.BUSY]
    await until(lambda: len(scene.machine.started) == 2)
    assert (await scene.world.store.claims())[0].token in scene.machine.started


async def test_what_was_cancelled_before_its_instant_does_not_start(scene):
    await scene.offer(replace(ATTEMPT, start_in_seconds=1.0))
    assert await scene.node.worker.cancel(ATTEMPT.execution_id)
    await until(scene.is_idle)
    await scene.node.worker.finish()  # waits for what was begun, its instant included
    assert await scene.states() == [State.CANCELLED]
    assert not scene.machine.started


async def test_a_node_that_stops_starts_what_it_has_claimed_ahead(scene):
    await scene.offer(replace(ATTEMPT, start_in_seconds=0.05))
    await scene.node.worker.finish()
    assert len(scene.machine.started) == 1


async def test_a_node_that_was_restarted_before_the_instant_says_that_it_did_not_start(scene):
    await scene.offer(replace(ATTEMPT, start_in_seconds=1.0))
    await scene.restart()
    await until(scene.is_idle)
    assert await scene.states() == [State.NOT_STARTED]
    assert not scene.machine.started


async def test_no_more_is_claimed_ahead_than_can_be_started_at_its_instant(scene, monkeypatch):
    monkeypatch.setattr(executor, "MAX_AHEAD", 0)
    monkeypatch.setattr(worker, "START_PATIENCE_SECONDS", 0.05)
    ahead, later = replace(ATTEMPT, start_in_seconds=1.0), replace(an_attempt(1), start_in_seconds=1.0)
    assert await scene.offer(ahead) == [OfferResult.ACCEPTED]
    assert await scene.offer(later) == [OfferResult.BUSY]
    await until(lambda: scene.machine.started)
    assert await scene.offer(later) == [OfferResult.ACCEPTED]


async def test_cancel_stops_what_runs_here_and_nothing_else(scene):
    await scene.offer(ATTEMPT)
    assert await scene.node.worker.cancel(ATTEMPT.execution_id)
    assert scene.node.runner.cancelled == scene.machine.started
    assert not await scene.node.worker.cancel(an_attempt(1).execution_id)


async def test_a_followed_log_is_whole_although_its_folder_goes_between_two_looks(scene, monkeypatch):
    looks, collected = [], bytearray()
    is_running = scene.node.executor.is_running

    def look(entry):
        looks.append(entry)
        return is_running(entry)

    async def follow() -> None:
        async for chunk in scene.node.worker.follow_log(ATTEMPT.execution_id, 0, follow=True):
            collected.extend(chunk)

    monkeypatch.setattr(scene.node.executor, "is_running", look)
    monkeypatch.setattr(log_file, "POLL_SECONDS", 0.05)
    await scene.offer(ATTEMPT)
    [token] = scene.machine.started
    folder = scene.machine.running[token].folder
    (folder / "log").write_bytes(b"first ")
    following = asyncio.create_task(follow())
    await until(lambda: len(looks) > 1)
    scene.node.runner.end(token, printed=b"first and last")
    await until(lambda: not folder.exists())
    await following
    assert collected == b"first and last"


async def test_a_followed_log_shows_nothing_beyond_the_limit(scene):
    await scene.offer(ATTEMPT)
    [token] = scene.machine.started
    chunks = scene.node.worker.follow_log(ATTEMPT.execution_id, 990, follow=True)
    scene.node.runner.end(token, printed=b"x" * 5000)
    assert b"".join([chunk async for chunk in chunks]) == b"x" * 10


async def test_a_log_that_went_before_it_was_seen_is_not_found(scene):
    await scene.offer(ATTEMPT)
    [token] = scene.machine.started
    chunks = scene.node.worker.follow_log(ATTEMPT.execution_id, 0, follow=True)
    scene.node.runner.end(token, printed=b"quick")
    await until(lambda: not scene.node.folders())
    with pytest.raises(NotFound):
        await anext(chunks)
    with pytest.raises(NotFound):
        scene.node.worker.follow_log(ATTEMPT.execution_id, 0, follow=True)


async def test_claims_of_two_months_go_to_their_databases(scene):
    december = replace(an_attempt(1), scheduled_at=START + timedelta(days=30))
    assert await scene.offer(ATTEMPT, december) == [OfferResult.ACCEPTED] * 2
    assert {database for database, _ in scene.world.store.requests} == {MONTH, "executions-2026-12"}
