"""What no feed tells is found by asking: what nobody claimed, who is silent, who is gone."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from dcron.domain.documents import claim_body, node_key, verdict_body, verdict_id
from dcron.domain.job_documents import job_body
from dcron.domain.model import Active, Claim, Job, Occurrence, State, Verdict, VerdictKind
from dcron.domain.nodes import NodeRecord, node_body
from dcron.domain.offers import ClaimReference, KnownClaims
from dcron.ports import CLUSTER, JOBS, Document
from dcron.services.leader.dispatcher import Dispatcher
from dcron.services.leader.knowledge import Knowledge
from dcron.services.leader.mandate import Leadership
from dcron.services.leader.reconciler import MISSED_LOOKS, Reconciler
from dcron.services.shared.node_watch import NodeWatch
from dcron.services.shared.starts_first import StartsFirst
from tests.doubles import (
    START,
    UID,
    DoubtfulStore,
    FakeNodes,
    ManualClock,
    sample_claim,
    sample_job,
    sample_outcome,
)

DATABASE = "executions-2026-11"
EXECUTION = f"{UID}:20261123T120000Z:001"
LEASE_SECONDS = 6.0


class Scene:
    def __init__(self) -> None:
        self.store = DoubtfulStore()
        self.clock = ManualClock()
        self.nodes = FakeNodes()
        self.watch = NodeWatch(self.store, self.clock, lease_seconds=LEASE_SECONDS)
        knowledge = Knowledge(self.store, self.clock, self.watch.settings, {}, {})
        self.book, self.tracker = knowledge.book, knowledge.tracker
        self.dispatcher = Dispatcher(
            self.nodes,
            self.clock,
            StartsFirst(),
            Leadership(3, "leader", lambda: True, lambda: None, lambda: True, {}),
            self.tracker,
            workers=self.watch.workers,
            numbers=itertools.count(1),
        )
        self.reconciler = Reconciler(knowledge, self.dispatcher, self.nodes, self.watch)

    async def take_in(self, *, timeout_seconds: float = 60.0, claim: Claim | None = None) -> Job:
        """An active job, as a leader that takes over finds it."""
        job = sample_job(active=Active(Occurrence.of_schedule(UID, START), 1, 1, START))
        job = replace(job, specification=replace(job.specification, timeout_seconds=timeout_seconds))
        await self.store.write(JOBS, [Document("job", job_body(job))])
        if claim is not None:
            await self.store.write(DATABASE, [Document(EXECUTION, claim_body(claim))])
        await self.book.load(["job"])
        self.tracker.follow(job)
        return job

    async def alive(self, *node_ids: str) -> None:
        for node_id in node_ids:
            record = NodeRecord(node_id, "token", "spool", f"{node_id}:1", "1", 4, START, START)
            await self.store.write(CLUSTER, [Document(node_key(node_id), node_body(record))])
        await self.watch.refresh()


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_verified_attempt_that_nobody_claimed_is_offered_once_its_intent_is_certain(
    scene: Scene,
) -> None:
    job = await scene.take_in()
    scene.reconciler.offer_unclaimed()
    assert scene.dispatcher.waiting() == {}
    await scene.tracker.verify([EXECUTION])
    scene.reconciler.offer_unclaimed()
    assert scene.dispatcher.waiting() == {}, "an intent that was only read may be on one copy"
    again = replace(job, place=replace(job.place, sequence=job.place.sequence + 1))
    assert await scene.book.write([again]) == [True]
    scene.reconciler.offer_unclaimed()
    assert list(scene.dispatcher.waiting()) == [EXECUTION]


async def test_a_claimed_attempt_is_not_offered(scene: Scene) -> None:
    await scene.take_in(claim=sample_claim(EXECUTION, "t"))
    await scene.tracker.verify([EXECUTION])
    scene.reconciler.offer_unclaimed()
    assert scene.dispatcher.waiting() == {}


async def test_an_attempt_that_a_person_has_resolved_is_not_offered(scene: Scene) -> None:
    await scene.take_in()
    verdict = Verdict(EXECUTION, VerdictKind.FAILED, "operator", "not wanted", START)
    await scene.store.write(DATABASE, [Document(verdict_id(EXECUTION), verdict_body(verdict))])
    await scene.tracker.verify([EXECUTION])
    scene.reconciler.offer_unclaimed()
    assert scene.dispatcher.waiting() == {}


async def test_a_silent_attempt_is_given_up_only_when_its_claimant_does_not_have_it(scene: Scene) -> None:
    await scene.take_in(claim=sample_claim(EXECUTION, "t", "a"))
    await scene.tracker.verify([EXECUTION])
    assert await scene.reconciler.settle_silence() == []
    scene.clock.pass_seconds(1_000.0)
    await scene.alive("a")
    scene.nodes.known["a"] = KnownClaims(frozenset({"t"}))
    assert await scene.reconciler.settle_silence() == []
    assert scene.nodes.asked_claims == [("a", (ClaimReference(EXECUTION, "t"),))]
    scene.clock.pass_seconds(LEASE_SECONDS)
    scene.nodes.known["a"] = KnownClaims(frozenset())
    assert await scene.reconciler.settle_silence() == [], "asked again too soon"
    scene.clock.pass_seconds(1_000.0)
    [given_up] = await scene.reconciler.settle_silence()
    assert given_up.view.silent


async def test_a_claimant_that_does_not_answer_is_given_up(scene: Scene) -> None:
    await scene.take_in(claim=sample_claim(EXECUTION, "t", "a"))
    await scene.tracker.verify([EXECUTION])
    scene.clock.pass_seconds(1_000.0)
    await scene.alive("a")
    assert len(await scene.reconciler.settle_silence()) == 1


async def test_only_claims_without_outcome_are_compared_and_only_with_live_nodes(scene: Scene) -> None:
    await scene.take_in(claim=sample_claim(EXECUTION, "t", "a"))
    await scene.tracker.verify([EXECUTION])
    await scene.reconciler.compare_claims()
    assert scene.nodes.asked_claims == []
    await scene.alive("a", "b")
    await scene.reconciler.compare_claims()
    assert [node_id for node_id, _ in scene.nodes.asked_claims] == ["a"]
    tracked = scene.tracker.get(EXECUTION)
    tracked.view = replace(tracked.view, outcomes={"t": sample_outcome(EXECUTION, "t", State.NOT_STARTED)})
    await scene.reconciler.compare_claims()
    assert len(scene.nodes.asked_claims) == 1


async def test_without_timeout_a_gone_claimant_needs_attention(scene: Scene) -> None:
    await scene.take_in(timeout_seconds=0.0, claim=sample_claim(EXECUTION, "t", "a", timeout_seconds=0.0))
    await scene.tracker.verify([EXECUTION])
    await scene.alive("a")
    assert scene.reconciler.attention() == []
    scene.clock.pass_seconds(LEASE_SECONDS)
    assert scene.reconciler.attention() == [EXECUTION]


async def test_with_a_timeout_nobody_has_to_attend_to_it(scene: Scene) -> None:
    await scene.take_in(claim=sample_claim(EXECUTION, "t", "a"))
    await scene.tracker.verify([EXECUTION])
    assert scene.reconciler.attention() == []


DELIVERED = KnownClaims(frozenset({"t"}), frozenset({"t"}))


async def test_an_attempt_whose_outcome_was_delivered_is_read_again_and_not_given_up(scene: Scene) -> None:
    await scene.take_in(claim=sample_claim(EXECUTION, "t", "a"))
    await scene.tracker.verify([EXECUTION])
    scene.tracker.trust(EXECUTION)
    scene.clock.pass_seconds(1_000.0)
    await scene.alive("a")
    scene.nodes.known["a"] = DELIVERED
    assert await scene.reconciler.settle_silence() == []
    assert scene.tracker.doubtful == {EXECUTION}


async def test_an_outcome_that_was_delivered_and_is_not_found_needs_attention(scene: Scene) -> None:
    await scene.take_in(claim=sample_claim(EXECUTION, "t", "a"))
    await scene.tracker.verify([EXECUTION])
    await scene.alive("a")
    scene.nodes.known["a"] = DELIVERED
    for _ in range(MISSED_LOOKS):
        assert scene.reconciler.attention() == []
        await scene.reconciler.compare_claims()
    assert scene.reconciler.attention() == [EXECUTION]
    tracked = scene.tracker.get(EXECUTION)
    tracked.view = replace(tracked.view, outcomes={"t": sample_outcome(EXECUTION, "t", State.SUCCEEDED)})
    assert scene.reconciler.attention() == []


async def test_an_outcome_is_missed_only_as_often_as_that_was_said_in_a_row(scene: Scene) -> None:
    await scene.take_in(claim=sample_claim(EXECUTION, "t", "a"))
    await scene.tracker.verify([EXECUTION])
    await scene.alive("a")
    for answer in (DELIVERED, DELIVERED, KnownClaims(frozenset({"t"})), DELIVERED, DELIVERED):
        scene.nodes.known["a"] = answer
        await scene.reconciler.compare_claims()
    assert scene.reconciler.attention() == []
