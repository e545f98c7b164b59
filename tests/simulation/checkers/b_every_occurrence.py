"""(b) Each occurrence of the calendar has executions or a true skip record, and nothing else runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from dcron.domain.model import Skip, SkipReason
from tests.simulation.history import Fault, Stored
from tests.simulation.timeline import Timeline, Version, occurrences

__all__ = ["check"]

CLOCK_TOLERANCE = timedelta(seconds=6)
"""A leader's clock may be off by 5 s."""
LATE_SECONDS = 60.0
"""How long before a late launch a fault may lie that is to blame for it."""


def check(timeline: Timeline) -> Iterator[str]:
    """Occurrences without account, accounts without occurrence, and reasons that are not true."""
    for uid, life, removed in timeline.lives():
        skips = {skip.id: skip for skip in timeline.skips.get(uid, [])}
        if removed:
            skips |= {skip.id: skip for version in life for skip in version.job.place.skips}
        yield from _unaccounted(timeline, uid, life, list(skips.values()))
        yield from _uncalled_for(timeline, uid)
        # A state on a branch that was merged away was as true in its time.
        states = timeline.states(uid)
        for skip in skips.values():
            yield from _untrue(timeline, states, skip)


def segments(life: list[Version]) -> Iterator[tuple[str, datetime, datetime]]:
    """Schedule, beginning (exclusive) and end of each part of a job's life with one schedule."""
    begun: list[tuple[str, datetime]] = []
    for version in life:
        entry = (version.job.specification.schedule, version.job.place.counts_from)
        if not begun or begun[-1] != entry:
            begun.append(entry)
    ends = [counts_from for _, counts_from in begun[1:]]
    last = life[-1].job.place
    ends.append(max(last.next_at or last.paused_from, last.counts_from))
    for (schedule, since), until in zip(begun, ends, strict=True):
        yield schedule, since, until


def _unaccounted(timeline: Timeline, uid: str, life: list[Version], skips: list[Skip]) -> Iterator[str]:
    place = life[-1].job.place
    frontier = place.next_at or place.paused_from
    launched = set(timeline.scheduled.get(uid, {}).values())
    if place.active is not None:
        launched.add(place.active.occurrence.scheduled_at)
    for schedule, since, until in segments(life):
        for instant in occurrences(schedule, since, until):
            skipped = any(skip.scheduled_at <= instant <= skip.until for skip in skips)
            if instant < frontier and instant not in launched and not skipped:
                yield f"{life[0].job.name} ({uid}): nothing accounts for {instant:%H:%M:%S} of {schedule!r}"


def _uncalled_for(timeline: Timeline, uid: str) -> Iterator[str]:
    states = [version.job for version in timeline.states(uid)]
    for key, scheduled_at in timeline.scheduled.get(uid, {}).items():
        just_before = scheduled_at - timedelta(seconds=1)
        if not any(
            job.place.counts_from < scheduled_at
            and scheduled_at in occurrences(job.specification.schedule, just_before, scheduled_at)
            for job in states
        ):
            yield f"{uid}:{key} ran, and no schedule of the job ever named it"


def _untrue(timeline: Timeline, states: list[Version], skip: Skip) -> Iterator[str]:
    told = f"{states[0].job.name}: {skip.id} says {skip.reason.value}"
    if skip.reason is SkipReason.PAUSED:
        if not any(v.job.paused and v.job.place.paused_from == skip.scheduled_at for v in states):
            yield f"{told}, but no pause held it back"
    elif skip.reason is SkipReason.FROZEN:
        if not _was_frozen(timeline, skip):
            yield f"{told}, but the cluster was not frozen"
    elif skip.reason is SkipReason.COALESCED:
        yield from (f"{told}, but {why}" for why in _not_coalesced(timeline, states, skip))
    else:
        yield f"{told}, and nobody raised the floor"


def _was_frozen(timeline: Timeline, skip: Skip) -> bool:
    states = [event for event in timeline.history.of(Stored) if event.id == "settings" and not event.deleted]
    for event, following in zip(states, [*states[1:], None], strict=True):
        until = timeline.true_time(following.at if following else timeline.final.at)
        since = timeline.true_time(event.at)
        if event.body["frozen"] and since - CLOCK_TOLERANCE <= skip.until <= until + CLOCK_TOLERANCE:
            return True
    return False


def _not_coalesced(timeline: Timeline, states: list[Version], skip: Skip) -> Iterator[str]:
    launch = next(
        (v for v in states if v.job.place.active and v.job.place.active.occurrence.key == skip.into), None
    )
    if launch is None:
        held_back = any(v.job.place.next_at and _key(v.job.place.next_at) == skip.into for v in states)
        if not held_back:
            yield f"its occurrence {skip.into} was never due"
        return
    if launch.job.place.active.occurrence.scheduled_at >= skip.scheduled_at:
        yield f"{skip.into} is not earlier"
    if timeline.true_time(launch.at) < skip.until - CLOCK_TOLERANCE:
        yield f"{skip.into} was launched at {timeline.true_time(launch.at):%H:%M:%S}, before it was due"
    if not _had_to_wait(timeline, states, launch, skip):
        yield "neither an execution of the job nor a fault made it wait"


def _had_to_wait(timeline: Timeline, states: list[Version], launch: Version, skip: Skip) -> bool:
    if any(
        fault.at <= launch.at and fault.until >= launch.at - LATE_SECONDS
        for fault in timeline.history.of(Fault)
    ):
        return True
    since = (skip.scheduled_at - timeline.true_time(0.0)).total_seconds()
    return any(
        before.job.place.active is not None and version.at >= since
        for before, version in zip(states, states[1:], strict=False)
        if version.at <= launch.at
    )


def _key(instant: datetime) -> str:
    return f"{instant:%Y%m%dT%H%M%SZ}"
