"""A worker starts what it claimed with a plain success, once, and every token gets an outcome."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from dcron.domain.errors import SpoolFull
from dcron.domain.model import Script, State
from dcron.domain.offers import OfferResult
from dcron.ports import WriteKind
from dcron.services.shared.starts_first import BURST_STARTS
from dcron.services.worker import executor, script_cache, worker
from tests.doubles import until
from tests.service_doubles import ATTEMPT, Machine, WorkerNode, an_attempt
from tests.unit.services.worker.scene import Scene, hold_up


async def test_an_accepted_attempt_is_claimed_started_and_its_outcome_delivered(scene):
    assert await scene.offer(ATTEMPT) == [OfferResult.ACCEPTED]
    [token] = scene.machine.started
    assert [claim.token for claim in await scene.world.store.claims()] == [token]
    scene.node.runner.end(token, printed=b"hello\n")
    await until(scene.is_idle)
    outcome = (await scene.world.store.outcomes())[token]
    assert outcome.state is State.SUCCEEDED
    assert scene.world.objects.text(outcome.log.key) == b"hello\n"
    await until(lambda: not scene.node.folders())


async def test_the_same_attempt_offered_by_two_leaders_at_once_starts_once(scene):
    answers = await asyncio.gather(scene.offer(ATTEMPT, term=1), scene.offer(ATTEMPT, term=2))
    assert answers == [[OfferResult.ACCEPTED], [OfferResult.ACCEPTED]]
    assert len(scene.machine.started) == 1
    assert len(await scene.world.store.claims()) == 1


async def test_the_same_attempt_twice_in_one_offer_starts_once(scene):
    assert await scene.offer(ATTEMPT, ATTEMPT) == [OfferResult.ACCEPTED] * 2
    assert len(scene.machine.started) == 1


async def test_an_attempt_offered_again_while_it_runs_is_accepted_and_not_started_again(scene):
    await scene.offer(ATTEMPT)
    assert await scene.offer(ATTEMPT) == [OfferResult.ACCEPTED]
    assert len(scene.machine.started) == 1


async def test_what_was_begun_is_finished_when_the_leader_hangs_up(scene):
    under_way, go_on = await hold_up(scene)
    asking = asyncio.create_task(scene.offer(ATTEMPT))
    await under_way.wait()
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    assert slots_taken(scene) == 1
    go_on.set()
    await until(lambda: scene.machine.started)
    scene.node.runner.end(scene.machine.started[0])
    await until(scene.is_idle)
    assert await scene.states() == [State.SUCCEEDED]


async def test_a_node_that_stops_starts_what_it_has_claimed_and_takes_nothing_more(scene):
    under_way, go_on = await hold_up(scene)
    asking = asyncio.create_task(scene.offer(ATTEMPT))
    await under_way.wait()
    finishing = asyncio.create_task(scene.node.worker.finish())
    await asyncio.sleep(0)
    assert await scene.offer(an_attempt(1)) == [OfferResult.UNABLE]
    assert not finishing.done()
    go_on.set()
    await finishing
    assert await asking == [OfferResult.ACCEPTED]
    assert len(scene.machine.started) == 1


async def test_a_node_that_stops_does_not_wait_for_ever(scene, monkeypatch):
    monkeypatch.setattr(worker, "FINISH_SECONDS", 0.01)
    under_way, go_on = await hold_up(scene)
    asking = asyncio.create_task(scene.offer(ATTEMPT))
    await under_way.wait()
    await scene.node.worker.finish()
    assert not scene.machine.started
    go_on.set()
    await asking


async def test_where_slots_are_missing_outcomes_are_told_at_once(scene):
    with scene.node.burst.of(BURST_STARTS):
        answers = await scene.offer(*(an_attempt(number) for number in range(3)))
        assert answers[-1] == OfferResult.BUSY
        async with asyncio.timeout(0.2):
            await scene.node.burst.over()


async def test_what_would_have_to_wait_for_its_start_is_not_claimed_yet(scene, monkeypatch):
    monkeypatch.setattr(executor, "MAX_STARTING", 0)
    monkeypatch.setattr(worker, "START_PATIENCE_SECONDS", 0.01)
    go_on, start = asyncio.Event(), scene.node.runner.start

    async def slowly(starts):
        await go_on.wait()
        return await start(starts)

    monkeypatch.setattr(scene.node.runner, "start", slowly)
    assert await scene.offer(ATTEMPT) == [OfferResult.ACCEPTED]
    assert await scene.offer(an_attempt(1)) == [OfferResult.BUSY]
    assert len(await scene.world.store.claims()) == 1
    monkeypatch.setattr(worker, "START_PATIENCE_SECONDS", 10.0)
    asking = asyncio.create_task(scene.offer(an_attempt(1)))
    go_on.set()
    assert await asking == [OfferResult.ACCEPTED]
    await until(lambda: len(scene.machine.started) == 2)


def slots_taken(scene: Scene) -> int:
    return len(scene.node.executor) + len(scene.node.worker._deciding)


async def test_slots_are_never_exceeded_by_offers_that_overlap(scene):
    under_way, go_on = await hold_up(scene)
    first = asyncio.create_task(scene.offer(ATTEMPT))
    await under_way.wait()
    assert await scene.offer(an_attempt(1), an_attempt(2)) == [OfferResult.ACCEPTED, OfferResult.BUSY]
    go_on.set()
    await first
    assert await scene.offer(an_attempt(3)) == [OfferResult.BUSY]
    assert len(scene.machine.started) == 2


@pytest.mark.parametrize(
    "fault", [WriteKind.UNSURE, WriteKind.LOST, "gone", "committed", RuntimeError("defect")]
)
async def test_without_a_plain_success_nothing_starts_and_the_token_gets_its_outcome(scene, fault):
    scene.world.store.faults[ATTEMPT.execution_id] = [fault]
    assert await scene.offer(ATTEMPT) == [OfferResult.NOT_CLAIMED]
    await until(scene.is_idle)
    assert scene.machine.started == []
    assert await scene.states() == [State.NOT_STARTED]
    # Another claim of the attempt may win.
    assert not any(outcome.closes for outcome in (await scene.world.store.outcomes()).values())
    await until(lambda: not scene.node.folders())


async def test_each_claim_of_a_batch_counts_for_itself(scene):
    mine, theirs = an_attempt(1), an_attempt(2)
    other = WorkerNode(scene.world, scene.node.spool.folder / "other", Machine())
    other.worker.ready = True
    await other.worker.offer("a", 1, 1, "leader", [theirs])
    assert await scene.offer(mine, theirs) == [OfferResult.ACCEPTED, OfferResult.NOT_CLAIMED]
    assert len(scene.machine.started) == 1
    await other.crash()


async def test_an_attempt_whose_claim_failed_may_be_claimed_anew_while_its_outcome_waits(scene):
    scene.world.store.faults[ATTEMPT.execution_id] = ["gone"]
    scene.world.store.unreachable = True
    await scene.offer(ATTEMPT)
    scene.world.store.unreachable = False
    assert await scene.offer(ATTEMPT) == [OfferResult.ACCEPTED]
    assert len(scene.machine.started) == 1


async def test_a_full_spool_refuses_and_frees_the_slot(scene, monkeypatch):
    def full(claims):
        raise SpoolFull("spool is full")

    monkeypatch.setattr(scene.node.spool, "add", full)
    assert await scene.offer(ATTEMPT) == [OfferResult.UNABLE]
    assert scene.is_idle()
    assert await scene.world.store.claims() == []


async def test_a_defect_before_the_claim_refuses_and_frees_the_slot(scene, monkeypatch):
    def broken(claims):
        raise RuntimeError("defect")

    monkeypatch.setattr(scene.node.spool, "add", broken)
    assert await scene.offer(ATTEMPT) == [OfferResult.UNABLE]
    assert scene.is_idle()


async def test_an_older_term_is_refused_after_a_newer_one_was_offered(scene):
    await scene.offer(ATTEMPT, term=5)
    assert await scene.offer(an_attempt(1), term=4) == [OfferResult.OLDER_TERM]


async def test_an_older_term_is_refused_after_the_elector_saw_a_newer_one(scene):
    scene.node.local.saw_term(7)
    assert await scene.offer(ATTEMPT, term=6) == [OfferResult.OLDER_TERM]
    assert scene.machine.started == []


@pytest.mark.parametrize("state", ["draining", "starting"])
async def test_a_term_counts_as_seen_even_where_its_offer_was_refused(scene, state):
    scene.node.local.draining = state == "draining"
    scene.node.worker.ready = state != "starting"
    await scene.offer(ATTEMPT, term=5)
    scene.node.local.draining, scene.node.worker.ready = False, True
    assert await scene.offer(ATTEMPT, term=4) == [OfferResult.OLDER_TERM]


async def test_an_offer_that_comes_late_or_once_more_is_refused(scene):
    """Its claim got 202, so the attempt is free again: but the leader goes by the answer that it had."""
    scene.world.store.faults[ATTEMPT.execution_id] = [WriteKind.UNSURE]
    assert await scene.offer(ATTEMPT, number=5) == [OfferResult.NOT_CLAIMED]
    for number in (5, 4):
        assert await scene.offer(ATTEMPT, number=number) == [OfferResult.UNABLE]
    assert await scene.offer(an_attempt(1), number=6) == [OfferResult.ACCEPTED]
    assert await scene.offer(an_attempt(2), number=1, term=2) == [OfferResult.ACCEPTED]


async def test_an_offer_for_another_node_is_refused(scene):
    [answer] = await scene.node.worker.offer("b", 1, 1, "leader", [ATTEMPT])
    assert answer.result is OfferResult.UNABLE


async def test_a_pause_between_claim_and_start_ends_in_not_started(scene):
    async def pause() -> None:
        scene.world.clock.pass_seconds(executor.CLAIM_TO_START_SECONDS + 0.1)

    scene.world.store.faults[ATTEMPT.execution_id] = [pause]
    assert await scene.offer(ATTEMPT) == [OfferResult.ACCEPTED]
    await until(scene.is_idle)
    assert scene.machine.started == []
    assert await scene.states() == [State.NOT_STARTED]
    [outcome] = (await scene.world.store.outcomes()).values()
    assert outcome.closes


async def test_a_claim_whose_answer_comes_late_is_not_started_though_its_instant_is_still_to_come(scene):
    async def pause() -> None:
        scene.world.clock.pass_seconds(executor.CLAIM_TO_START_SECONDS + 0.1)

    scene.world.store.faults[ATTEMPT.execution_id] = [pause]
    assert await scene.offer(replace(ATTEMPT, start_in_seconds=6.0)) == [OfferResult.ACCEPTED]
    await until(scene.is_idle)
    assert scene.machine.started == []
    [outcome] = (await scene.world.store.outcomes()).values()
    assert (outcome.state, outcome.closes) == (State.NOT_STARTED, True)


async def test_an_offer_that_grew_old_before_its_claim_is_refused(scene):
    async def pause() -> None:
        scene.world.clock.pass_seconds(worker.OFFER_AGE_SECONDS + 1)

    scene.world.objects.before_read = pause
    assert await scene.offer(ATTEMPT) == [OfferResult.UNABLE]
    assert await scene.world.store.claims() == []
    assert scene.is_idle()


async def test_a_script_that_cannot_be_fetched_now_refuses_and_one_that_never_can_fails(scene, monkeypatch):
    scene.world.objects.unreachable = True
    assert await scene.offer(ATTEMPT) == [OfferResult.UNABLE]
    scene.world.objects.unreachable = False
    missing = an_attempt(1, script=Script("b" * 64, 10, "gone.sh"))
    assert await scene.offer(missing) == [OfferResult.UNABLE]
    monkeypatch.setattr(script_cache, "MISSING_SECONDS", 0.0)
    assert await scene.offer(missing) == [OfferResult.ACCEPTED]
    await until(scene.is_idle)
    assert await scene.states() == [State.FAILED]


async def test_a_slow_script_refuses_the_offer_and_is_there_for_the_next(scene, monkeypatch):
    arrived = asyncio.Event()
    scene.world.objects.before_read = arrived.wait
    with monkeypatch.context() as patch:
        patch.setattr(worker, "SCRIPT_PATIENCE_SECONDS", 0.01)
        assert await scene.offer(ATTEMPT) == [OfferResult.UNABLE]
    arrived.set()
    assert await scene.offer(ATTEMPT) == [OfferResult.ACCEPTED]
