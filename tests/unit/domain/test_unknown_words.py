"""Words that only a newer version knows: an end is an end, and a verdict waits for who knows it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcron.domain.attempt_results import AttemptView, has_cause, has_lost_its_cause, most_telling, result_of
from dcron.domain.model import Skip, State, Verdict, VerdictKind
from dcron.domain.planning import step
from dcron.domain.records import Unrecognized
from dcron.domain.views import execution_view
from tests.doubles import START, UID, sample_claim, sample_job, sample_outcome
from tests.unit.domain.planning_samples import active_job, moment, view

PREEMPTED = Unrecognized("preempted")


def verdict(job, kind: VerdictKind | Unrecognized) -> Verdict:
    return Verdict(job.place.active.execution_id, kind, "operator", "", START)


def second_attempt(before: AttemptView, after: tuple[str, ...] = ("t0",)):
    job = active_job(2, after=after)
    return job.place.active, replace(view(job), before=before)


def test_an_unknown_end_settles_the_occurrence_without_a_further_attempt() -> None:
    job = active_job(failure_retries=5)
    decision = step(job, moment(), view(job, PREEMPTED, verified=False, claims_closed=False))
    assert not decision.launch
    assert decision.job.place.active is None
    assert decision.job.place.last.state == PREEMPTED
    assert "preempted" in decision.why


def test_an_unknown_verdict_is_left_to_a_leader_that_knows_it() -> None:
    job = active_job()
    assert (
        result_of(job, job.place.active, view(job, None, verdict=verdict(job, Unrecognized("hold")))) is None
    )
    assert step(job, moment(), view(job, None, verdict=verdict(job, Unrecognized("hold")))) is None


@pytest.mark.parametrize(("after", "may_start"), [(("t0",), True), ((), False)])
def test_an_attempt_after_an_unknown_end_stays_if_that_end_was_known_to_who_intended_it(
    after: tuple[str, ...], may_start: bool
) -> None:
    active, seen = second_attempt(view(active_job(), PREEMPTED), after)
    assert has_cause(active, seen) is may_start
    assert has_lost_its_cause(active, seen) is not may_start


def test_an_attempt_after_an_unknown_verdict_stays() -> None:
    job = active_job()
    active, seen = second_attempt(view(job, None, verdict=verdict(job, Unrecognized("hold"))))
    assert has_cause(active, seen)
    assert not has_lost_its_cause(active, seen)


def test_an_unknown_end_is_one_that_a_script_came_to() -> None:
    first, second = sample_claim("x", "t1"), sample_claim("x", "t2")
    ended = sample_outcome("x", "t1", PREEMPTED)
    shown = execution_view([first, second], {"t1": ended}, None)
    assert (shown.state, shown.claim) == (PREEMPTED, first)
    assert most_telling([sample_outcome("x", "t1", State.LOST), ended]) is ended


def test_a_skip_of_an_unknown_reason_waits_to_be_copied_like_another() -> None:
    skip = Skip(UID, START, START, Unrecognized("held"), 1)
    decision = step(sample_job(skips=(skip,)), moment(), None)
    assert decision.job.place.skips == (skip,)
