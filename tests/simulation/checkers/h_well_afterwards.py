"""(h) After the faults the cluster is well: one leader, nothing stuck, all due work done, no defect."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from dcron.domain.job_documents import job_of
from dcron.ports import JOBS
from tests.simulation.history import Asked, Defect
from tests.simulation.timeline import Timeline

__all__ = ["check"]

BEHIND = timedelta(seconds=180)
"""How far the schedule of a job may be behind when it is paused at last: the longest period, script
and timeout together."""


def check(timeline: Timeline) -> Iterator[str]:
    """What is not as it should be in the end."""
    for defect in timeline.history.of(Defect):
        yield f"{defect.node} at {defect.at:.3f}: {defect.what}"
    final = timeline.final
    for when, leaders in (("in time", final.leaders_settled), ("in the end", final.leaders)):
        if len(leaders) != 1:
            yield f"leading {when}: {', '.join(leaders) or 'nobody'}"
    for node, spooled in final.spooled.items():
        if spooled:
            yield f"the spool of {node} still holds {', '.join(spooled)}"
    if final.running:
        yield f"scripts still run: {', '.join(sorted(final.running))}"
    yield from _unfinished(timeline)


def _unfinished(timeline: Timeline) -> Iterator[str]:
    paused_at = {
        event.job: timeline.true_time(event.at)
        for event in timeline.history.of(Asked)
        if event.action == "pause" and event.answer == "ok" and event.at > timeline.history.faults_end
    }
    for (database, name), leaves in timeline.final.leaves.items():
        if database != JOBS or name.startswith("~"):
            continue
        if len(leaves) > 1:
            yield f"{name} still has {len(leaves)} branches"
        place = job_of(name, leaves[0][1]).place
        if place.active is not None:
            yield f"{name} is still at work on {place.active.execution_id}"
        if place.waiting or place.skips:
            yield f"{name}: {len(place.waiting)} runs and {len(place.skips)} skip records still wait"
        was_running = _was_running(timeline, name)
        if was_running and name in paused_at and place.paused_from < paused_at[name] - BEHIND:
            yield f"{name}: its schedule stood at {place.paused_from} when it was paused at {paused_at[name]}"


def _was_running(timeline: Timeline, name: str) -> bool:
    """Whether a job was not paused when the faults were over."""
    before = [
        version
        for version in timeline.lineages.get(name, [])
        if version.at <= timeline.history.faults_end and version.job is not None
    ]
    return bool(before) and not before[-1].job.paused
