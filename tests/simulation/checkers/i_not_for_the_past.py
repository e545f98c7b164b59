"""(i) After a pause nothing starts that falls due later; no change and no resume fires for the past."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from dcron.domain.ids import is_ulid
from dcron.domain.planning import AHEAD_SECONDS
from tests.simulation.checkers.c_next_attempt import intents
from tests.simulation.history import Asked
from tests.simulation.timeline import Timeline, Version, parts_of

__all__ = ["check"]

UNPAUSING = {"resume", "create", "delete"}
ABANDONED_SECONDS = 60.0
"""How long a request that its client gave up on may still be carried out: longer than nodes are paused."""


def check(timeline: Timeline) -> Iterator[str]:
    """Launches under a state of the job that was over."""
    launches = {
        execution_id: version
        for execution_id, version in intents(timeline).items()
        if parts_of(execution_id)[2] == 1 and not is_ulid(parts_of(execution_id)[1])
    }
    yield from _after_a_pause(timeline, launches)
    yield from _for_the_past(timeline, launches)


def _after_a_pause(timeline: Timeline, launches: dict[str, Version]) -> Iterator[str]:
    asked = timeline.history.of(Asked)
    started = {run.started.execution_id for run in timeline.runs}
    for pause in asked:
        if pause.action != "pause" or pause.answer != "ok":
            continue
        until = min(
            (
                other.asked_at
                for other in asked
                if other.job == pause.job and other.action in UNPAUSING and _may_come_after(other, pause)
            ),
            default=timeline.final.at,
        )
        paused_at = timeline.true_time(pause.at)
        for execution_id, version in launches.items():
            active = version.job.place.active
            # What is due after the answer may not have been launched ahead of it either.
            if version.job.name != pause.job or not pause.at - AHEAD_SECONDS < version.at < until:
                continue
            tolerance = timeline.clock_tolerance(pause.at, version.at)
            # An intent alone is none: one that got no plain success may be stored on a copy that was behind.
            if active.occurrence.scheduled_at > paused_at + tolerance and execution_id in started:
                yield f"{execution_id} was launched at {version.at:.3f}, paused since {pause.at:.3f}"


def _may_come_after(other: Asked, pause: Asked) -> bool:
    """Whether a request may take effect after a pause. One without an answer may still be under way in a node
    that stands still."""
    under_way_until = other.at if other.answer else other.at + ABANDONED_SECONDS
    return under_way_until >= pause.asked_at


def _for_the_past(timeline: Timeline, launches: dict[str, Version]) -> Iterator[str]:
    for _, life, _ in timeline.lives():
        for before, version in pairwise(life):
            resumed = before.job.paused and not version.job.paused
            changed = before.job.specification.schedule != version.job.specification.schedule
            if not resumed and not changed:
                continue
            counts_from = version.job.place.counts_from
            left_due = None if resumed else before.job.place.next_at
            for later in life[life.index(version) :]:
                active = later.job.place.active
                if active is None or launches.get(active.execution_id) is not later:
                    continue
                due_at = active.occurrence.scheduled_at
                if due_at <= counts_from and due_at != left_due:
                    what = "resume" if resumed else "change"
                    yield f"{active.execution_id} was launched for the past by a {what} at {version.at:.3f}"
