"""Why an attempt waits for a worker is found out when it is asked for, and logged once."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from structlog.testing import capture_logs

from dcron.adapters.system_clock import SystemClock
from dcron.domain.offers import OfferResult
from dcron.domain.placement import Candidate
from dcron.services.leader import dispatcher as module
from dcron.services.leader.dispatcher import ABOUT_TO_BE_OFFERED, BUSY, NO_WORKER
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


async def test_when_all_are_busy_it_waits_says_why_and_is_offered_again(scene: Scene) -> None:
    for name in "abc":
        scene.nodes.always(name, OfferResult.BUSY)
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await until(lambda: len(scene.nodes.asked("x")) == 3)
        await until(lambda: dispatcher.waiting()["x"] == ("job-x", f"a, b, c: {BUSY}"))
        scene.nodes.always("b", OfferResult.ACCEPTED)
        await until(lambda: not dispatcher.waiting())
    assert Counter(scene.nodes.asked("x")[:3]) == Counter("abc")


async def test_labels_choose_the_worker_and_their_lack_is_the_reason(scene: Scene) -> None:
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x", name="c"), ())
        dispatcher.add(sample_offer("y", name="d", disk="ssd"), ())
        await until(lambda: len(dispatcher.waiting()) == 1)
        assert dispatcher.waiting()["y"][1].startswith(
            "no live node with the labels disk=ssd,name=d takes executions"
        )
        scene.workers = [*scene.workers, Candidate("d", "d:1", {"name": "d", "disk": "ssd"})]
        scene.nodes.always("d", OfferResult.ACCEPTED)
        await until(lambda: not dispatcher.waiting())
    assert scene.nodes.asked("x") == ["c"]
    assert scene.nodes.asked("y") == ["d"]


async def test_why_something_waits_is_true_though_no_worker_can_be_asked(scene: Scene) -> None:
    """Neither a node that came with the labels, nor the end of a freeze is noticed by offers alone."""
    dispatcher = scene.dispatcher(ManualClock())
    dispatcher.add(sample_offer("x", name="d"), ())
    assert "name=d" in dispatcher.waiting()["x"][1]
    scene.workers = [*scene.workers, Candidate("d", "d:1", {"name": "d"})]
    assert dispatcher.waiting()["x"][1] == ABOUT_TO_BE_OFFERED
    dispatcher.hold("the cluster is frozen")
    assert dispatcher.waiting()["x"][1] == "the cluster is frozen"
    dispatcher.hold("")
    assert dispatcher.waiting()["x"][1] == ABOUT_TO_BE_OFFERED
    scene.workers = []
    assert dispatcher.waiting()["x"][1] == NO_WORKER


async def test_what_a_worker_said_is_forgotten_once_it_takes_nothing(scene: Scene) -> None:
    """When it comes back, from a drain or a restart, it has not said anything yet."""
    scene.workers = [Candidate("a", "a:1", {})]
    scene.nodes.always("a", OfferResult.UNABLE)
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await until(lambda: dispatcher.waiting()["x"][1].startswith("a: "))
        workers, scene.workers = scene.workers, []
        await until(lambda: not dispatcher._pending["x"].refusals)
        asked = len(scene.nodes.requests)
        dispatcher.hold("not yet")
        dispatcher.hold("")
        scene.workers = workers
        assert dispatcher.waiting()["x"][1] == ABOUT_TO_BE_OFFERED
        assert len(scene.nodes.requests) == asked


async def test_without_a_live_worker_it_waits_and_says_so(scene: Scene) -> None:
    workers, scene.workers = scene.workers, []
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.add(sample_offer("x"), ())
        await until(lambda: dispatcher.waiting()["x"][1] == NO_WORKER)
        scene.workers = workers
        await until(lambda: not dispatcher.waiting())


async def test_held_nothing_is_offered_until_it_may_go_on(scene: Scene) -> None:
    async with running(scene.dispatcher(SystemClock())) as dispatcher:
        dispatcher.hold("the cluster is frozen")
        dispatcher.add(sample_offer("x"), ())
        await asyncio.sleep(3 * module.SWEEP_SECONDS)  # nothing to wait for: nothing is to happen
        assert scene.nodes.requests == []
        assert dispatcher.waiting()["x"][1] == "the cluster is frozen"
        dispatcher.hold("")
        await until(lambda: not dispatcher.waiting())


async def test_why_an_attempt_waits_is_logged_once_as_long_as_the_reason_holds(scene: Scene) -> None:
    for name in "abc":
        scene.nodes.always(name, OfferResult.BUSY)
    with capture_logs() as lines:
        async with running(scene.dispatcher(SystemClock())) as dispatcher:
            dispatcher.add(sample_offer("x"), ())
            await until(lambda: len(scene.nodes.asked("x")) >= 12)
    said = [line["reason"] for line in lines if line["action"] == "wait"]
    assert len(said) == 1
    assert BUSY in said[0]
