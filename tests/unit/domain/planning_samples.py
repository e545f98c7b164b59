"""Jobs at work, and what is known of their attempts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from dcron.domain.attempt_results import AttemptView
from dcron.domain.model import Active, ClusterSettings, Job, Occurrence, State
from dcron.domain.planning import Moment
from tests.doubles import START, UID, sample_claim, sample_job, sample_outcome

MINUTE = timedelta(minutes=1)
FLOOR = datetime(2000, 1, 1, tzinfo=UTC)


def moment(now: datetime = START, *, frozen: bool = False, floor: datetime = FLOOR, term: int = 7) -> Moment:
    return Moment(now, term, ClusterSettings(1, floor, frozen=frozen))


def active_job(attempt: int = 1, *, timeout_seconds: float = 60.0, failure_retries: int = 0, **active) -> Job:
    running = Active(Occurrence.of_schedule(UID, START), attempt, 1, START, **active)
    job = sample_job(active=running, next_at=START + MINUTE)
    specification = replace(
        job.specification, timeout_seconds=timeout_seconds, failure_retries=failure_retries
    )
    return replace(job, specification=specification)


def view(job: Job, *states: State | None, **fields) -> AttemptView:
    """One claimant for each state, on nodes a, b, …; None has written no outcome."""
    execution = job.place.active.execution_id
    claims = tuple(sample_claim(execution, f"t{n}", "abc"[n]) for n in range(len(states)))
    outcomes = {
        f"t{n}": sample_outcome(execution, f"t{n}", state, "abc"[n])
        for n, state in enumerate(states)
        if state
    }
    known = {"verified": True, "claims_closed": True} | fields
    return AttemptView(claims=claims, outcomes=outcomes, **known)
