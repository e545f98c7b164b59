"""(d) Scripts of one job do not overlap, unless the earlier one was given up by its timeout or a person."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.checkers.c_next_attempt import intents, was_silent
from tests.simulation.timeline import Attempt, Run, Timeline, parts_of

__all__ = ["check"]


def check(timeline: Timeline) -> Iterator[str]:
    """Starts during another script of the same job that was not given up, and starts after a giving up."""
    yield from _given_up_before(timeline)
    by_job: dict[str, list[Run]] = {}
    for run in timeline.runs:
        earlier = by_job.setdefault(parts_of(run.started.execution_id)[0], [])
        # Given up by a person between its claim and its start, it may begin beside what follows it.
        given_up_itself = _resolved(timeline, run, run.started.at)
        for other in earlier:
            if given_up_itself and _is_earlier_attempt(run, other):
                continue
            if other.lasts_at(run.started.at) and not _given_up(timeline, other, run.started.at):
                yield (
                    f"{run.started.execution_id} began on {run.started.node} at {run.started.at:.3f} while "
                    f"{other.started.execution_id} ran on {other.started.node} since {other.started.at:.3f}"
                )
        earlier.append(run)


def _given_up_before(timeline: Timeline) -> Iterator[str]:
    """Silence gives up what was claimed long ago; nothing may start that late."""
    # An intent without a plain success is none: it stays on a branch, and is merged away.
    intended = intents(timeline, sure=True)
    for run in timeline.runs:
        uid, key, number = parts_of(run.started.execution_id)
        later = intended.get(f"{uid}:{key}:{number + 1:03d}")
        resolved = timeline.attempts.get(run.started.execution_id, Attempt()).verdicts
        if later is not None and later.at < run.started.at and not resolved:
            yield f"{run.started.execution_id} began at {run.started.at:.3f}, given up at {later.at:.3f}"


def _given_up(timeline: Timeline, run: Run, at: float) -> bool:
    attempt = timeline.attempts.get(run.started.execution_id, Attempt())
    return _resolved(timeline, run, at) or was_silent(timeline, attempt, at)


def _resolved(timeline: Timeline, run: Run, at: float) -> bool:
    attempt = timeline.attempts.get(run.started.execution_id, Attempt())
    return any(stored_at <= at for stored_at, _ in attempt.verdicts)


def _is_earlier_attempt(run: Run, other: Run) -> bool:
    *occurrence, number = parts_of(run.started.execution_id)
    *other_occurrence, other_number = parts_of(other.started.execution_id)
    return occurrence == other_occurrence and number < other_number
