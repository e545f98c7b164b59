"""(j) No attempt is settled as lost while its claimant is alive and connected."""

from __future__ import annotations

from collections.abc import Iterator

from dcron.domain.model import State
from tests.simulation.checkers.c_next_attempt import intents
from tests.simulation.history import Fault
from tests.simulation.timeline import Attempt, Timeline, parts_of

__all__ = ["check"]

RECENT_SECONDS = 45.0
"""A fault that ended this long ago may still be why nothing was heard: feeds and backoffs lag behind it."""
OF_ALL = {"lossy network", "lossy store", "slow store", "broken feeds", "stale listings"}
OF_STORE = {"copy down", "copy hung", "copy isolated"}


def check(timeline: Timeline) -> Iterator[str]:
    """Attempts that were written off, or given up in silence, without a fault that could excuse it."""
    yield from _written_off(timeline)
    intended = intents(timeline)
    for execution_id, version in intended.items():
        uid, key, number = parts_of(execution_id)
        before = timeline.attempts.get(f"{uid}:{key}:{number - 1:03d}", Attempt())
        if number > 1 and not _is_told(before, version.at) and not _excused(timeline, before, version.at):
            yield f"{uid}:{key}:{number - 1:03d} was given up at {version.at:.3f} while its node was well"


def _written_off(timeline: Timeline) -> Iterator[str]:
    runs = {run.started.token: run for run in timeline.runs}
    for execution_id, attempt in timeline.attempts.items():
        for stored_at, outcome in attempt.outcomes:
            run = runs.get(outcome.token)
            if outcome.state is State.LOST and run is not None and run.ended and run.ended.seen:
                yield f"{execution_id} was written off at {stored_at:.3f}; its script was seen to end"


def _is_told(before: Attempt, at: float) -> bool:
    told = [stored_at for stored_at, _ in (*before.outcomes, *before.verdicts)]
    return any(stored_at <= at for stored_at in told)


def _excused(timeline: Timeline, before: Attempt, at: float) -> bool:
    nodes = {claim.node_id for _, claim in before.claims}
    return any(
        fault.at <= at
        and fault.until >= at - RECENT_SECONDS
        and (fault.what in OF_ALL | OF_STORE or nodes & set(fault.where))
        for fault in timeline.history.of(Fault)
    )
