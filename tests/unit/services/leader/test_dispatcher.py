"""Offers reach every worker in turn, and none holds up another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from dcron.adapters.system_clock import SystemClock
from dcron.domain.errors import NodeUnreachable
from dcron.domain.offers import OfferAnswer, OfferedAttempt, OfferResult
from dcron.domain.placement import Candidate
from dcron.services.leader import dispatcher as module
from dcron.services.leader.dispatcher import CLAIM_SETTLE_SECONDS
from dcron.services.shared.starts_first import BURST_STARTS
from tests.doubles import FakeNodes, ManualClock, sample_offer, until
from tests.unit.services.leader.dispatching import Scene, running


@pytest.fixture
def scene() -> Scene:
    made = Scene(FakeNodes(), [Candidate(name, f"{name}:1", {"name": name}) for name in "abc"])
    for name in "abc":
        made.nodes.always(name, OfferResult.ACCEPTED)
    return made


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(module, "SUSPECT_SECONDS", 0.1)


async def test_the_first_offer_of_a_term_is_logged_once(scene: Scene) -> None:
    dispatcher = scene.dispatcher(SystemClock())
    with capture_logs() as logs:
        async with running(dispatcher):
            dispatcher.add(sample_offer(0), ())
            await until(lambda: not dispatcher.waiting())
            dispatcher.add(sample_offer(1), ())
            await until(lambda: not dispatcher.waiting())
    [line] = [each for each in logs if each["action"] == "first_offer"]
    assert (line["term"], line["worker"]) == (3, "a")


async def test_attempts_are_spread_over_the_workers_in_one_request_each(scene: Scene) -> None:
    dispatcher = scene.dispatcher(SystemClock())
    for number in range(6):
        dispatcher.add(sample_offer(f"x{number}"), ())
    assert dispatcher.is_under_way("x0")
    async with running(dispatcher):
        await until(lambda: not dispatcher.waiting())
    assert sorted((node_id, len(attempts)) for node_id, attempts in scene.nodes.requests) == [
        ("a", 2),
        ("b", 2),
        ("c", 2),
    ]
    assert not dispatcher.is_under_way("x0")


async def test_attempts_that_come_one_by_one_go_to_the_workers_in_turn(scene: Scene) -> None:
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        for number in range(6):
            dispatcher.add(sample_offer(f"x{number}"), ())
            await until(lambda: not dispatcher.waiting())
    assert [node_id for node_id, _ in scene.nodes.requests] == ["a", "b", "c", "a", "b", "c"]


async def test_an_attempt_added_twice_is_offered_once(scene: Scene) -> None:
    dispatcher = scene.dispatcher(SystemClock())
    for _ in range(2):
        dispatcher.add(sample_offer("x"), ())
    async with running(dispatcher):
        await until(lambda: not dispatcher.waiting())
    assert scene.nodes.requests == [("a", ("x",))]


@pytest.mark.parametrize("result", [OfferResult.BUSY, OfferResult.DRAINING, OfferResult.UNABLE])
async def test_a_refusal_sends_it_to_the_next_worker(scene: Scene, result: OfferResult) -> None:
    scene.nodes.always("a", result)
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await until(lambda: not dispatcher.waiting())
    assert scene.nodes.asked("x") == ["a", "b"]


async def test_where_slots_are_missing_news_of_what_has_ended_is_read_at_once(scene: Scene) -> None:
    for name in "abc":
        scene.nodes.always(name, OfferResult.BUSY)
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        with scene.burst.of(BURST_STARTS):
            dispatcher.add(sample_offer("x"), ())
            await until(lambda: len(scene.nodes.asked("x")) == 3)
            async with asyncio.timeout(0.2):
                await scene.burst.over()


async def test_a_freed_slot_is_offered_at_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP_SECONDS", 3600.0)
    for name in "abc":
        scene.nodes.always(name, OfferResult.BUSY)
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await until(lambda: len(scene.nodes.asked("x")) == 3)
        scene.nodes.always("c", OfferResult.ACCEPTED)
        dispatcher.freed()
        await until(lambda: not dispatcher.waiting())


async def test_others_that_come_all_the_time_do_not_keep_a_refused_one_waiting(scene: Scene) -> None:
    """What wakes the dispatcher more often than it sweeps must not put the sweep off."""
    for name in "abc":
        scene.nodes.always(name, OfferResult.UNABLE)
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await until(lambda: len(scene.nodes.asked("x")) == 3)
        for name in "abc":
            scene.nodes.always(name, OfferResult.ACCEPTED)
        for number in range(400):
            dispatcher.add(sample_offer(f"y{number}"), ())
            await asyncio.sleep(0.002)
            if "x" not in dispatcher.waiting():
                break
        assert "x" not in dispatcher.waiting()


async def test_a_lost_answer_is_asked_for_once_more_and_then_another_worker(scene: Scene) -> None:
    scene.nodes.silent("a")
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await until(lambda: not dispatcher.waiting())
    assert scene.nodes.asked("x") in (["a", "a", "b"], ["a", "a", "c"])


async def test_a_worker_that_knows_the_attempt_when_asked_again_keeps_it(scene: Scene) -> None:
    answers = iter([NodeUnreachable("lost"), [OfferAnswer(OfferResult.ACCEPTED)]])

    async def once_lost(attempts: Sequence[OfferedAttempt]) -> list[OfferAnswer]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    scene.nodes.answers["a"] = once_lost
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await until(lambda: not dispatcher.waiting())
    assert scene.nodes.asked("x") == ["a", "a"]


async def test_a_silent_worker_is_left_alone_by_other_attempts_for_a_while(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SUSPECT_SECONDS", 3600.0)
    scene.nodes.silent("a")
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("first"), ())
        await until(lambda: not dispatcher.waiting())
        for number in range(9):
            dispatcher.add(sample_offer(f"x{number}"), ())
            await until(lambda: not dispatcher.waiting())
    assert Counter(node_id for node_id, _ in scene.nodes.requests)["a"] == 2


async def test_a_hanging_worker_holds_up_nobody_else_and_has_one_request_at_most(scene: Scene) -> None:
    released = asyncio.Event()

    async def hang(attempts: Sequence[OfferedAttempt]) -> list[OfferAnswer]:
        await released.wait()
        return [OfferAnswer(OfferResult.ACCEPTED)] * len(attempts)

    scene.nodes.answers["a"] = hang
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        for number in range(30):
            dispatcher.add(sample_offer(f"x{number}"), ())
            await until(lambda: len(dispatcher.waiting()) <= 1)
        assert list(dispatcher.waiting()) == ["x0"]
        assert dispatcher.is_under_way("x0")
        released.set()
        await until(lambda: not dispatcher.waiting())
    assert scene.nodes.most_in_flight == {"a": 1, "b": 1, "c": 1}
    assert scene.nodes.requests[0] == ("a", ("x0",))


async def test_an_older_term_has_the_elector_look(scene: Scene) -> None:
    scene.nodes.always("a", OfferResult.OLDER_TERM)
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await until(lambda: not dispatcher.waiting())
    assert scene.older_terms == 1


async def test_who_has_accepted_an_attempt_is_told(scene: Scene) -> None:
    scene.nodes.always("a", OfferResult.BUSY)
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await until(lambda: not dispatcher.waiting())
    assert scene.accepted == [("x", "b")]


async def test_what_may_be_claimed_or_not_is_doubtful_and_offered_no_more(scene: Scene) -> None:
    scene.nodes.always("a", OfferResult.NOT_CLAIMED)
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await until(lambda: scene.doubtful)
        assert not dispatcher.is_under_way("x")
    assert scene.doubtful == ["x"]
    assert scene.nodes.asked("x") == ["a"]


async def test_an_attempt_that_is_given_anew_is_offered_as_it_is_by_then(scene: Scene) -> None:
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x", name="misspelt"), ())
        await until(lambda: "misspelt" in dispatcher.waiting()["x"][1])
        dispatcher.add(sample_offer("x", name="b"), ())
        await until(lambda: not dispatcher.waiting())
    assert scene.nodes.asked("x") == ["b"]


async def test_nodes_of_earlier_attempts_are_asked_last(scene: Scene) -> None:
    scene.nodes.always("c", OfferResult.BUSY)
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ("a", "b"))
        await until(lambda: not dispatcher.waiting())
    assert scene.nodes.asked("x") in (["c", "a"], ["c", "b"])


async def test_who_may_lead_no_more_offers_nothing(scene: Scene) -> None:
    scene.leads = False
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await asyncio.sleep(3 * module.SWEEP_SECONDS)  # nothing to wait for: nothing is to happen
        assert scene.nodes.requests == []


async def test_what_is_dropped_while_it_is_offered_is_not_offered_again(scene: Scene) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def refuse_late(attempts: Sequence[OfferedAttempt]) -> list[OfferAnswer]:
        asked.set()
        await answered.wait()
        return [OfferAnswer(OfferResult.BUSY)] * len(attempts)

    scene.nodes.answers["a"] = refuse_late
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await asked.wait()
        dispatcher.drop("x")
        assert dispatcher.is_under_way("x")
        answered.set()
        await until(lambda: not dispatcher.is_under_way("x"))
        dispatcher.add(sample_offer("y"), ())
        await until(lambda: not dispatcher.waiting())
    assert scene.nodes.asked("x") == ["a"]


async def test_one_request_holds_a_bounded_number_of_attempts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SHARE", 4)
    dispatcher = scene.dispatcher(SystemClock())
    for number in range(40):
        dispatcher.add(sample_offer(f"x{number}"), ())
    async with running(dispatcher):
        await until(lambda: not dispatcher.waiting())
    assert max(len(attempts) for _, attempts in scene.nodes.requests) == 4
    offered = [execution_id for _, attempts in scene.nodes.requests for execution_id in attempts]
    assert sorted(offered) == sorted(f"x{number}" for number in range(40))


# When an attempt can no longer be claimed.


async def test_attempts_of_an_earlier_term_stay_open_until_its_offers_are_settled(scene: Scene) -> None:
    clock = ManualClock()
    dispatcher = scene.dispatcher(clock)
    assert dispatcher.is_closed("x", 3)
    assert not dispatcher.is_closed("x", 2)
    clock.pass_seconds(CLAIM_SETTLE_SECONDS - 0.01)
    assert not dispatcher.is_closed("x", 2)
    clock.pass_seconds(0.01)
    assert dispatcher.is_closed("x", 2)


async def test_an_attempt_that_is_offered_is_open_and_one_that_was_answered_closed(scene: Scene) -> None:
    async with running(scene.dispatcher(ManualClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        assert not dispatcher.is_closed("x", 3)
        await until(lambda: not dispatcher.waiting())
        assert dispatcher.is_closed("x", 3)


async def test_after_a_lost_answer_an_attempt_stays_open_until_its_claim_must_be_there(scene: Scene) -> None:
    clock = ManualClock()
    scene.nodes.silent("a")
    async with running(scene.dispatcher(clock)) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await until(lambda: not dispatcher.waiting())
        assert len(scene.nodes.asked("x")) == 3
        assert not dispatcher.is_closed("x", 3)
        clock.pass_seconds(CLAIM_SETTLE_SECONDS)
        assert dispatcher.is_closed("x", 3)


async def test_nothing_is_kept_of_lost_answers_of_the_past(scene: Scene) -> None:
    """An attempt forgotten while it was offered must not be remembered for as long as the term lasts."""
    clock = ManualClock()
    asked, answered = asyncio.Event(), asyncio.Event()

    async def lose_late(attempts: Sequence[OfferedAttempt]) -> list[OfferAnswer]:
        asked.set()
        await answered.wait()
        raise NodeUnreachable("lost")

    scene.nodes.answers["a"] = lose_late
    async with running(scene.dispatcher(clock)) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await asked.wait()
        dispatcher.drop("x")
        answered.set()
        await until(lambda: not dispatcher.is_under_way("x"))
        clock.pass_seconds(CLAIM_SETTLE_SECONDS)
        await until(lambda: not dispatcher._open_until)
