"""The tracker knows what a quorum and the feed told, and when it last heard of a claimant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcron.domain.attempt_results import SILENCE_MARGIN_SECONDS
from dcron.domain.documents import claim_body, outcome_body, verdict_body, verdict_id
from dcron.domain.errors import StoreUnreachable
from dcron.domain.model import Active, Claim, Job, Occurrence, Outcome, State, Verdict, VerdictKind
from dcron.domain.records import Unrecognized
from dcron.ports import Document
from dcron.services.leader import tracker
from dcron.services.leader.tracker import Tracker
from tests.doubles import (
    LATER_UID,
    START,
    UID,
    DoubtfulStore,
    ManualClock,
    sample_claim,
    sample_job,
    sample_outcome,
)

DATABASE = "executions-2026-11"
EXECUTION = f"{UID}:20261123T120000Z:001"
LIMIT_SECONDS = 60.0 + 10.0 + SILENCE_MARGIN_SECONDS


def active_job(attempt: int = 1, name: str = "job") -> Job:
    return sample_job(name, active=Active(Occurrence.of_schedule(UID, START), attempt, 1, START))


def document_of(item: Claim | Outcome) -> Document:
    if isinstance(item, Claim):
        return Document(item.execution_id, claim_body(item), "1-x")
    return Document(item.id, outcome_body(item), "1-x")


class Scene:
    def __init__(self) -> None:
        self.store = DoubtfulStore()
        self.clock = ManualClock()
        self.tracker = Tracker(self.store, self.clock)
        self.tracker.follow(active_job())

    async def stored(self, *items: Claim | Outcome) -> None:
        await self.store.write(DATABASE, [replace(document_of(item), revision=None) for item in items])

    def heard(self, *items: Claim | Outcome) -> list[str]:
        return self.tracker.learn([document_of(item) for item in items])

    @property
    def view(self):
        return self.tracker.get(EXECUTION).view


@pytest.fixture
def scene() -> Scene:
    return Scene()


def claim(by: str = "t", **fields: float) -> Claim:
    return sample_claim(EXECUTION, by, **fields)


def outcome(state: State, by: str = "t") -> Outcome:
    return sample_outcome(EXECUTION, by, state)


# What is followed.


def test_the_active_attempt_of_a_job_is_followed_until_it_has_none(scene: Scene) -> None:
    tracker = scene.tracker
    assert tracker.of_job("job") is tracker.get(EXECUTION)
    assert tracker.databases() == {DATABASE}
    tracker.follow(sample_job())
    assert tracker.of_job("job") is None
    assert tracker.all() == []


def test_what_is_known_survives_a_new_revision_of_the_job_but_not_a_new_attempt(scene: Scene) -> None:
    scene.heard(claim(), outcome(State.NOT_STARTED))
    scene.tracker.follow(active_job())
    assert scene.view.claims
    scene.tracker.follow(active_job(2))
    assert scene.tracker.get(EXECUTION) is None
    assert scene.tracker.doubtful == set()
    assert scene.tracker.of_job("job").view.claims == ()


def test_jobs_are_dropped_one_by_one(scene: Scene) -> None:
    other = replace(active_job(name="other"), uid="other")
    occurrence = replace(other.place.active.occurrence, uid="other")
    active = replace(other.place.active, occurrence=occurrence)
    scene.tracker.follow(replace(other, place=replace(other.place, active=active)))
    scene.tracker.drop("job")
    scene.tracker.drop("unknown")
    assert [tracked.job for tracked in scene.tracker.all()] == ["other"]


# What the feed tells.


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED])
def test_the_outcome_of_a_script_that_ran_is_news(scene: Scene, state: State) -> None:
    assert scene.heard(claim()) == []
    assert scene.heard(outcome(state)) == ["job"]
    assert scene.view.outcomes["t"].state is state
    assert scene.tracker.doubtful == set()


def test_an_end_that_only_a_newer_version_knows_is_news(scene: Scene) -> None:
    assert scene.heard(claim(), outcome(Unrecognized("preempted"))) == ["job"]
    assert scene.view.outcomes["t"].state == Unrecognized("preempted")


@pytest.mark.parametrize("document_id", [f"{EXECUTION}:t:heartbeat", f"{EXECUTION}:note", EXECUTION])
def test_a_kind_of_document_that_only_a_newer_version_knows_tells_nothing(
    scene: Scene, document_id: str
) -> None:
    before = scene.view
    assert scene.tracker.learn([Document(document_id, {"kind": "heartbeat"}, "1-a")]) == []
    assert scene.view == before


@pytest.mark.parametrize("state", [State.NOT_STARTED, State.LOST])
def test_an_outcome_that_does_not_speak_for_the_attempt_is_to_be_verified(scene: Scene, state: State) -> None:
    assert scene.heard(outcome(state)) == []
    assert scene.tracker.doubtful == {EXECUTION}


def test_a_verdict_is_news(scene: Scene) -> None:
    verdict = Verdict(EXECUTION, VerdictKind.FAILED, "operator", "seen", START)
    assert scene.tracker.learn([Document(verdict_id(EXECUTION), verdict_body(verdict), "1-x")]) == ["job"]
    assert scene.view.verdict == verdict


async def test_a_claim_unseen_by_the_quorum_read_makes_it_unverified_again(scene: Scene) -> None:
    await scene.stored(claim("one"))
    await scene.tracker.verify([EXECUTION])
    assert scene.view.verified
    scene.heard(claim("one"))
    assert scene.view.verified
    scene.heard(claim("two"))
    assert not scene.view.verified
    assert {each.token for each in scene.view.claims} == {"one", "two"}


def test_what_is_not_followed_or_deleted_or_skipped_is_no_news(scene: Scene) -> None:
    other = sample_outcome(f"{UID}:20261123T120000Z:002", "t", State.SUCCEEDED)
    deleted = replace(document_of(outcome(State.SUCCEEDED)), deleted=True)
    skipped = Document(f"{UID}:20261123T120000Z:skipped", {"kind": "skipped"}, "1-x")
    assert scene.tracker.learn([document_of(other), deleted, skipped]) == []
    assert scene.view.outcomes == {}


# What a quorum tells.


async def test_a_quorum_read_finds_claims_outcomes_and_verdict(scene: Scene) -> None:
    verdict = Verdict(EXECUTION, VerdictKind.RETRY, "operator", "seen", START)
    await scene.stored(claim(), outcome(State.NOT_STARTED))
    await scene.store.write(DATABASE, [Document(verdict_id(EXECUTION), verdict_body(verdict))])
    assert await scene.tracker.verify([EXECUTION, "unknown:20261123T120000Z:001"]) == ["job"]
    assert scene.view.claims == (claim(),)
    assert scene.view.outcomes == {"t": outcome(State.NOT_STARTED)}
    assert scene.view.verdict == verdict
    assert scene.view.verified


async def test_an_attempt_that_nobody_claimed_is_verified_as_that(scene: Scene) -> None:
    assert await scene.tracker.verify([EXECUTION]) == ["job"]
    assert scene.view.verified
    assert scene.view.claims == ()
    assert scene.tracker.get(EXECUTION).heard_at is None


async def test_claims_of_all_leaves_are_taken_in(scene: Scene) -> None:
    scene.store.branches[EXECUTION] = [document_of(claim("one")), document_of(claim("two"))]
    await scene.stored(outcome(State.NOT_STARTED, "one"), outcome(State.SUCCEEDED, "two"))
    await scene.tracker.verify([EXECUTION])
    assert {each.token for each in scene.view.claims} == {"one", "two"}
    assert set(scene.view.outcomes) == {"one", "two"}


async def test_a_claim_heard_of_while_the_quorum_was_read_is_not_lost(scene: Scene) -> None:
    """Otherwise a new attempt could follow while this claimant runs."""
    await scene.stored(claim("one"), outcome(State.NOT_STARTED, "one"))

    async def claim_meanwhile() -> None:
        scene.heard(claim("two"))

    scene.store.after_read = claim_meanwhile
    await scene.tracker.verify([EXECUTION])
    assert {each.token for each in scene.view.claims} == {"one", "two"}
    assert not scene.view.verified


async def test_what_is_dropped_while_the_quorum_is_read_stays_dropped(scene: Scene) -> None:
    async def drop_meanwhile() -> None:
        scene.tracker.drop("job")

    scene.store.after_read = drop_meanwhile
    assert await scene.tracker.verify([EXECUTION]) == []
    assert scene.tracker.all() == []


async def test_an_unreachable_store_verifies_nothing(scene: Scene) -> None:
    scene.store.unreachable = True
    with pytest.raises(StoreUnreachable):
        await scene.tracker.verify([EXECUTION])
    assert not scene.view.verified


# Silence.


def silent(scene: Scene) -> list[str]:
    return [tracked.active.execution_id for tracked in scene.tracker.silent()]


def test_silence_counts_from_when_this_leader_first_heard_of_a_claim(scene: Scene) -> None:
    scene.clock.pass_seconds(1e6)
    assert silent(scene) == []
    scene.heard(claim())
    scene.clock.pass_seconds(LIMIT_SECONDS)
    scene.heard(claim())
    assert silent(scene) == []
    scene.clock.pass_seconds(0.01)
    assert silent(scene) == [EXECUTION]


async def test_a_claim_found_by_a_quorum_read_counts_as_heard_of(scene: Scene) -> None:
    await scene.stored(claim())
    await scene.tracker.verify([EXECUTION])
    scene.clock.pass_seconds(LIMIT_SECONDS + 0.01)
    await scene.tracker.verify([EXECUTION])
    assert silent(scene) == [EXECUTION]


def test_a_claimant_that_still_has_it_is_asked_again_after_the_margin(scene: Scene) -> None:
    scene.heard(claim())
    scene.clock.pass_seconds(LIMIT_SECONDS + 1.0)
    scene.tracker.heard(scene.tracker.get(EXECUTION))
    scene.clock.pass_seconds(SILENCE_MARGIN_SECONDS)
    assert silent(scene) == []
    scene.clock.pass_seconds(0.01)
    assert silent(scene) == [EXECUTION]


def test_what_is_given_up_is_silent_for_good_and_asked_no_more(scene: Scene) -> None:
    scene.heard(claim())
    scene.clock.pass_seconds(LIMIT_SECONDS + 1.0)
    scene.tracker.give_up(scene.tracker.get(EXECUTION))
    assert scene.view.silent
    assert silent(scene) == []


def test_without_timeout_nothing_is_ever_silent() -> None:
    scene = Scene()
    job = active_job()
    scene.tracker.follow(replace(job, specification=replace(job.specification, timeout_seconds=0.0)))
    scene.heard(claim(timeout_seconds=0.0))
    scene.clock.pass_seconds(1e9)
    assert silent(scene) == []


def test_the_timeout_is_that_of_the_claim_whatever_the_job_became_since(scene: Scene) -> None:
    scene.heard(claim(timeout_seconds=3600.0))
    scene.clock.pass_seconds(LIMIT_SECONDS + 1.0)
    assert silent(scene) == []
    scene.clock.pass_seconds(3600.0)
    assert silent(scene) == [EXECUTION]


def test_a_claim_without_timeout_is_waited_for_though_the_job_has_one_by_now(scene: Scene) -> None:
    scene.heard(claim(timeout_seconds=0.0))
    scene.clock.pass_seconds(1e9)
    assert silent(scene) == []
    assert scene.tracker.get(EXECUTION).silence_limit_seconds is None


def test_a_claim_with_a_timeout_is_given_up_though_the_job_has_none_by_now(scene: Scene) -> None:
    scene.heard(claim())
    job = active_job()
    scene.tracker.follow(replace(job, specification=replace(job.specification, timeout_seconds=0.0)))
    scene.clock.pass_seconds(LIMIT_SECONDS + 0.01)
    assert silent(scene) == [EXECUTION]


async def test_a_reading_that_misses_a_claim_that_is_known_to_be_there_proves_nothing(scene: Scene) -> None:
    """One copy of a split store answers alone, and the claim is on the others."""
    await scene.tracker.verify([EXECUTION], [EXECUTION])
    assert scene.view.is_unclaimed
    scene.tracker.accepted(EXECUTION, "a")
    assert not scene.view.verified
    assert not scene.view.claims_closed
    assert scene.tracker.doubtful == {EXECUTION}
    await scene.tracker.verify([EXECUTION])
    assert not scene.view.is_unclaimed
    assert not scene.view.verified
    await scene.stored(claim())
    await scene.tracker.verify([EXECUTION])
    assert scene.view.verified


# Several leaves, several readings.


@pytest.mark.parametrize("winner", [State.LOST, State.SUCCEEDED])
@pytest.mark.parametrize("loser", [State.LOST, State.SUCCEEDED])
async def test_of_several_leaves_a_true_outcome_counts(scene: Scene, winner: State, loser: State) -> None:
    await scene.stored(claim())
    leaves = [replace(document_of(outcome(state)), revision=f"1-{state.value}") for state in (winner, loser)]
    scene.store.branches[leaves[0].id] = leaves
    await scene.tracker.verify([EXECUTION])
    expected = State.SUCCEEDED if State.SUCCEEDED in (winner, loser) else State.LOST
    assert scene.view.outcomes["t"].state is expected


@pytest.mark.parametrize("way", ["feed", "read"])
@pytest.mark.parametrize("later", [State.LOST, State.NOT_STARTED])
async def test_a_true_outcome_is_not_taken_back(scene: Scene, later: State, way: str) -> None:
    await scene.stored(claim(), outcome(later))
    scene.heard(claim(), outcome(State.FAILED))
    if way == "feed":
        scene.heard(outcome(later))
    else:
        await scene.tracker.verify([EXECUTION])
    assert scene.view.outcomes["t"].state is State.FAILED


async def test_a_true_outcome_is_taken_in_after_a_lost_one(scene: Scene) -> None:
    scene.heard(claim(), outcome(State.LOST))
    assert scene.heard(outcome(State.SUCCEEDED)) == ["job"]
    assert scene.view.outcomes["t"].state is State.SUCCEEDED


# Silence that earlier leaders have measured.


@pytest.mark.parametrize("is_read", [True, False], ids=["read from a quorum", "heard of by the feed"])
async def test_silence_goes_on_from_where_the_earlier_leader_was(scene: Scene, is_read: bool) -> None:
    scene.tracker = Tracker(scene.store, scene.clock, {"t": scene.clock.monotonic() - LIMIT_SECONDS})
    scene.tracker.follow(active_job())
    if is_read:
        await scene.stored(claim())
        await scene.tracker.verify([EXECUTION])
    else:
        scene.heard(claim())
    assert scene.tracker.silent() == []
    scene.clock.pass_seconds(0.1)
    assert [tracked.job for tracked in scene.tracker.silent()] == ["job"]


def test_the_next_leader_is_told_of_open_claims_and_of_no_others(scene: Scene) -> None:
    scene.heard(claim("ended"), claim("open"))
    scene.clock.pass_seconds(3.0)
    scene.heard(outcome(State.NOT_STARTED, "ended"))
    assert scene.tracker.claims_known_seconds() == {"open": 3.0}


def test_what_never_falls_silent_is_not_told(scene: Scene) -> None:
    scene.heard(claim(timeout_seconds=0.0))
    assert scene.tracker.claims_known_seconds() == {}


def test_of_many_claims_those_are_told_whose_time_is_over_next(scene: Scene, monkeypatch) -> None:
    monkeypatch.setattr(tracker, "MAX_TOLD", 1)
    scene.heard(claim("long", timeout_seconds=600.0))
    later = replace(active_job(1, "later"), uid=LATER_UID)
    active = replace(later.place.active, occurrence=Occurrence.of_schedule(LATER_UID, START))
    later = replace(later, place=replace(later.place, active=active))
    scene.tracker.follow(later)
    scene.clock.pass_seconds(1.0)
    scene.heard(sample_claim(active.execution_id, "short", timeout_seconds=5.0))
    assert scene.tracker.claims_known_seconds() == {"short": 0.0}
