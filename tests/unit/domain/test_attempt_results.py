"""What came of an attempt, and whether a next one may follow it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcron.domain.attempt_results import (
    SILENCE_MARGIN_SECONDS,
    AttemptView,
    has_cause,
    most_telling,
    silence_limit_seconds,
)
from dcron.domain.execution_id import MAX_ATTEMPT
from dcron.domain.model import Job, State, Verdict, VerdictKind
from dcron.domain.planning import step
from tests.doubles import START, sample_claim, sample_job, sample_outcome
from tests.unit.domain.planning_samples import MINUTE, active_job, moment, view


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_an_outcome_of_a_started_script_settles_unverified(state: State) -> None:
    job = active_job()
    decision = step(job, moment(), view(job, state, verified=False, claims_closed=False))
    assert not decision.launch
    assert decision.job.place.active is None
    assert decision.job.place.last.state is state


def test_a_timed_out_attempt_is_followed_by_one_that_avoids_its_node() -> None:
    job = active_job()
    active = step(job, moment(START + MINUTE), view(job, State.TIMED_OUT)).job.place.active
    assert (active.attempt, active.avoid, active.spent, active.failures) == (2, ("a",), 1, 0)
    assert active.after == ("t0",)
    assert (active.term, active.intended_at) == (7, START + MINUTE)


def test_attempts_are_bounded_by_max_attempts() -> None:
    job = active_job(attempt=3, spent=2)
    decision = step(job, moment(), view(job, State.TIMED_OUT))
    assert decision.job.place.last.state is State.TIMED_OUT
    assert step(active_job(3, spent=1), moment(), view(job, State.TIMED_OUT)).job.place.active.attempt == 4


@pytest.mark.parametrize("state", [State.TIMED_OUT, State.LOST])
def test_without_a_timeout_nothing_is_tried_again(state: State) -> None:
    job = active_job(timeout_seconds=0.0)
    assert step(job, moment(), view(job, state)).job.place.last.state is state


def test_failures_are_tried_again_as_often_as_asked_for_and_spend_no_attempts() -> None:
    job = active_job(failure_retries=1)
    active = step(job, moment(), view(job, State.FAILED)).job.place.active
    assert (active.attempt, active.failures, active.spent) == (2, 1, 0)
    again = replace(job, place=replace(job.place, active=active))
    assert step(again, moment(), view(again, State.FAILED)).job.place.last.state is State.FAILED


@pytest.mark.parametrize(
    ("closing", "is_closed"), [((), False), ((False,), False), ((True,), True), ((False, True), True)]
)
def test_one_claimant_that_says_so_closes_an_attempt(closing: tuple[bool, ...], is_closed: bool) -> None:
    known = view(active_job(), *[State.NOT_STARTED] * len(closing), claims_closed=False)
    outcomes = {
        token: replace(outcome, closes=closes)
        for (token, outcome), closes in zip(known.outcomes.items(), closing, strict=True)
    }
    assert replace(known, outcomes=outcomes).is_closed_by_claimant is is_closed


def test_a_not_started_attempt_is_followed_only_when_every_claimant_says_so_and_none_can_come() -> None:
    job = active_job()
    both = (State.NOT_STARTED, State.NOT_STARTED)
    assert step(job, moment(), view(job, *both, verified=False)) is None
    assert step(job, moment(), view(job, *both, claims_closed=False)) is None
    assert step(job, moment(), view(job, State.NOT_STARTED, None)) is None
    assert step(job, moment(), view(job)) is None
    active = step(job, moment(), view(job, *both)).job.place.active
    assert (active.attempt, active.spent, active.avoid) == (2, 0, ("a", "b"))


def test_one_claimant_that_started_outweighs_those_that_did_not() -> None:
    job = active_job()
    decision = step(job, moment(), view(job, State.NOT_STARTED, State.SUCCEEDED))
    assert decision.job.place.last.state is State.SUCCEEDED


def test_a_claimant_that_lost_its_claim_does_not_speak_for_the_others() -> None:
    job = active_job()
    assert step(job, moment(), view(job, State.LOST, None)) is None
    assert step(job, moment(), view(job, State.LOST, State.SUCCEEDED)).job.place.last.state is State.SUCCEEDED
    assert step(job, moment(), view(job, State.LOST, verified=False)) is None
    assert step(job, moment(), view(job, State.LOST)).job.place.active.attempt == 2


def test_silence_past_the_timeout_is_a_lost_attempt() -> None:
    job = active_job()
    assert step(job, moment(), view(job, None, silent=True)).job.place.active.attempt == 2
    last = active_job(3, spent=2)
    assert step(last, moment(), view(last, None, silent=True)).job.place.last.state is State.LOST


def test_silence_is_timeout_and_grace_and_a_margin_and_never_without_timeout() -> None:
    assert silence_limit_seconds(60.0, 5.0) == 65.0 + SILENCE_MARGIN_SECONDS
    assert silence_limit_seconds(0.0, 5.0) is None


@pytest.mark.parametrize(
    ("kind", "state"), [(VerdictKind.SUCCEEDED, State.SUCCEEDED), (VerdictKind.FAILED, State.FAILED)]
)
def test_a_person_s_word_settles_whatever_the_outcome(kind: VerdictKind, state: State) -> None:
    job = active_job()
    said = Verdict(job.place.active.execution_id, kind, "operator", "seen", START)
    for known in (view(job, None), view(job, State.TIMED_OUT), AttemptView()):
        assert step(job, moment(), replace(known, verdict=said)).job.place.last.state is state


def test_a_person_may_have_it_tried_again_up_to_the_last_number_there_is() -> None:
    job = active_job(timeout_seconds=0.0)
    said = Verdict(job.place.active.execution_id, VerdictKind.RETRY, "operator", "seen", START)
    assert step(job, moment(), replace(view(job, None), verdict=said)).job.place.active.attempt == 2
    last = active_job(MAX_ATTEMPT)
    assert step(last, moment(), replace(view(last, None), verdict=said)).job.place.active is None


def looked_back(job: Job, *states: State | None, **fields) -> AttemptView:
    """An attempt that nobody has claimed, and what its predecessor's claimants wrote."""
    earlier = replace(job, place=replace(job.place, active=replace(job.place.active, attempt=1)))
    return AttemptView(verified=True, claims_closed=True, before=view(earlier, *states, **fields))


def test_the_first_attempt_needs_no_cause_and_a_next_one_what_was_read_since() -> None:
    assert has_cause(active_job().place.active, AttemptView())
    assert not has_cause(active_job(2).place.active, AttemptView(verified=True))


@pytest.mark.parametrize("state", [State.TIMED_OUT, State.LOST, State.FAILED, State.NOT_STARTED, None])
def test_an_attempt_has_the_cause_that_its_leader_knew(state: State | None) -> None:
    """None: its timeout passed in silence."""
    job = active_job(2, after=("t0",))
    known = looked_back(job, state)
    assert has_cause(job.place.active, known)
    assert step(job, moment(), known) is None


@pytest.mark.parametrize("state", [State.TIMED_OUT, State.LOST, State.FAILED, None])
def test_an_attempt_has_no_cause_in_a_claim_that_its_leader_did_not_know(state: State | None) -> None:
    job = active_job(2, after=("t0",), spent=1)
    known = looked_back(job, State.NOT_STARTED, state)
    assert not has_cause(job.place.active, known)
    decision = step(job, moment(), known)
    back = decision.job.place.active
    assert (decision.launch, back.attempt, back.term, back.spent, back.after) == (False, 1, 7, 1, ())
    assert step(job, moment(), replace(known, claims_closed=False)) is None, "it may be claimed yet"
    assert step(job, moment(), replace(known, claims=(sample_claim("x", "t"),))) is None, "it is claimed"


def test_a_claim_that_came_to_nothing_is_no_reason_against_the_next_attempt() -> None:
    job = active_job(2, after=("t0",))
    known = looked_back(job, State.NOT_STARTED, State.NOT_STARTED)
    assert has_cause(job.place.active, known)
    still_open = looked_back(job, State.NOT_STARTED, State.NOT_STARTED, claims_closed=False)
    assert not has_cause(job.place.active, still_open)
    assert step(job, moment(), still_open) is None


@pytest.mark.parametrize("state", [State.FAILED, State.TIMED_OUT])
def test_a_claim_beside_one_that_is_known_to_have_run_cannot_have_started(state: State) -> None:
    job = active_job(2, after=("t0",))
    assert has_cause(job.place.active, looked_back(job, state, None))


def test_an_attempt_without_cause_whose_claims_came_to_nothing_is_not_followed_by_another_one() -> None:
    job = active_job(2)
    before = looked_back(job, None).before
    nobody = view(job, State.NOT_STARTED, before=before)
    assert step(job, moment(), nobody).job.place.active.attempt == 1
    assert step(job, moment(), replace(nobody, claims_closed=False)) is None
    ran = view(job, State.SUCCEEDED, before=before)
    assert step(job, moment(), ran).job.place.last.state is State.SUCCEEDED


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.CANCELLED])
def test_an_attempt_has_no_cause_once_the_one_before_has_ended_for_good(state: State) -> None:
    job = active_job(2, after=("t0",))
    assert not has_cause(job.place.active, looked_back(job, state))
    assert step(job, moment(), looked_back(job, state)).job.place.active.attempt == 1


@pytest.mark.parametrize("kind", VerdictKind)
def test_a_person_s_word_on_the_attempt_before_is_cause_or_none(kind: VerdictKind) -> None:
    job = active_job(2)
    verdict = Verdict("x", kind, "somebody", "", START)
    known = looked_back(job, None, verdict=verdict, claims_closed=False)
    assert has_cause(job.place.active, known) is (kind is VerdictKind.RETRY)


def test_a_retry_keeps_what_was_coalesced_into_its_occurrence() -> None:
    launched = step(sample_job(), moment(START + 2 * MINUTE), None).job
    retried = step(launched, moment(START + 3 * MINUTE), view(launched, State.LOST)).job
    assert retried.place.active.coalesced == launched.place.active.coalesced
    assert retried.place.next_at == launched.place.next_at


TRUE_ENDS = [State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED]
ENDS = [*TRUE_ENDS, State.LOST, State.NOT_STARTED]


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", ENDS)
def test_of_two_outcomes_of_a_token_a_true_end_counts_then_that_it_is_lost(
    first: State, second: State
) -> None:
    told = most_telling([sample_outcome("e", "t", first), sample_outcome("e", "t", second)]).state
    if first in TRUE_ENDS or second in TRUE_ENDS:
        assert told in TRUE_ENDS
    else:
        assert told is (State.LOST if State.LOST in (first, second) else State.NOT_STARTED)
