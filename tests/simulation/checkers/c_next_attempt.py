"""(c) A next attempt has a cause: an outcome that allows it, silence past the timeout, or a person's word."""

from __future__ import annotations

from collections.abc import Iterator

from dcron.domain.model import Outcome, State
from dcron.ports import JOBS
from tests.simulation.timeline import Attempt, Timeline, Version, parts_of

__all__ = ["check", "intents", "was_silent"]

RETRIED = {State.TIMED_OUT, State.LOST, State.FAILED}


def check(timeline: Timeline) -> Iterator[str]:
    """Every attempt but the first whose predecessor gave no cause for it when it was claimed."""
    # Not when it was intended: one that was decided on a copy that was cut off is found out, and taken back.
    intended = intents(timeline, sure=True)
    started = {run.started.token for run in timeline.runs}
    for execution_id, attempt in timeline.attempts.items():
        uid, key, number = parts_of(execution_id)
        if number == 1:
            continue
        before_id = f"{uid}:{key}:{number - 1:03d}"
        if execution_id not in intended:
            yield f"{execution_id} was claimed, and no job document that counts ever intended it"
            continue
        before = timeline.attempts.get(before_id, Attempt())
        claimed_at = min((at for at, _ in attempt.claims), default=None)
        if claimed_at is not None and not _has_cause(timeline, before, claimed_at, started):
            yield f"{execution_id} was claimed at {claimed_at:.3f}; {before_id} gave no cause"


def intents(timeline: Timeline, *, sure: bool = False) -> dict[str, Version]:
    """The first stored state of a job that intends each attempt, by execution id; with `sure`, the first
    that got a plain success."""
    found: dict[str, Version] = {}
    for name, versions in timeline.versions.items():
        for version in versions:
            if sure and (JOBS, name, version.revision) not in timeline.acknowledged:
                continue
            if version.job is not None and version.job.place.active is not None:
                found.setdefault(version.job.place.active.execution_id, version)
    return found


def _has_cause(timeline: Timeline, before: Attempt, at: float, started: set[str]) -> bool:
    known = [outcome for stored_at, outcome in before.outcomes if stored_at <= at]
    if any(outcome.state in RETRIED for outcome in known):
        return True
    if any(stored_at <= at for stored_at, _ in before.verdicts) or was_silent(timeline, before, at):
        return True
    return bool(known) and _nobody_started(before, known, started)


def _nobody_started(before: Attempt, known: list[Outcome], started: set[str]) -> bool:
    """Whether nobody started it, ever: not even after this was believed."""
    return all(outcome.state is State.NOT_STARTED for outcome in known) and not any(
        claim.token in started for _, claim in before.claims
    )


def was_silent(timeline: Timeline, attempt: Attempt, at: float) -> bool:
    """Whether the script's own timeout and grace had passed since the attempt was claimed."""
    tokens = {claim.token for _, claim in attempt.claims}
    limits = [
        run.started.timeout_seconds + run.started.grace_seconds
        for run in timeline.runs
        if run.started.token in tokens
    ] or [claim.timeout_seconds for _, claim in attempt.claims]
    timed = all(claim.timeout_seconds > 0 for _, claim in attempt.claims)
    return timed and any(stored_at + max(limits) <= at for stored_at, _ in attempt.claims)
