"""(k) A true outcome that comes late is stored, whatever a person or a leader had said before."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.checkers.c_next_attempt import intents
from tests.simulation.checkers.f_results_arrive import stored_outcome
from tests.simulation.timeline import Attempt, Run, Timeline, parts_of

__all__ = ["check"]


def check(timeline: Timeline) -> Iterator[str]:
    """Scripts that ended after their attempt had been settled, and whose outcome is not what is stored."""
    intended = intents(timeline)
    for run in timeline.runs:
        if run.ended is None or not _was_settled(timeline, run, intended):
            continue
        outcome = stored_outcome(timeline, run)
        if outcome is None or outcome.state.value != run.ended.state:
            yield f"{run.started.execution_id} {run.ended.state} after it was settled; that is not stored"


def _was_settled(timeline: Timeline, run: Run, intended: dict[str, object]) -> bool:
    uid, key, number = parts_of(run.started.execution_id)
    verdicts = timeline.attempts.get(run.started.execution_id, Attempt()).verdicts
    return bool(verdicts) or f"{uid}:{key}:{number + 1:03d}" in intended
