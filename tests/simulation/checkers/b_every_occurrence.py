"""(b) Each occurrence of the calendar has executions or a true skip record, and nothing else runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from dcron.domain.model import Skip, SkipReason
from dcron.ports import JOBS
from tests.simulation.checkers.c_next_attempt import intents
from tests.simulation.history import Fault, Stored
from tests.simulation.timeline import CLOCK_OFF, Attempt, Timeline, Version, occurrences, parts_of

__all__ = ["check"]

HARMLESS_TO_LAUNCHES = {"objects cut", "slow keeper", "disk full", "cut", "lossy network"}
"""Faults that can hold up an attempt, but not a leader and its intents."""
LATE_SECONDS = 60.0
"""How long before a late launch a fault may lie that is to blame for it."""


def check(timeline: Timeline) -> Iterator[str]:
    """Occurrences without account, accounts without occurrence or ahead of it, and untrue reasons."""
    yield from _too_early(timeline)
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
    # By the revisions that had a plain success: the branch that won may have missed a change of schedule.
    certain = [
        each for each in timeline.states(uid) if (JOBS, each.job.name, each.revision) in timeline.acknowledged
    ]
    certain.sort(key=lambda each: each.job.revision)
    for schedule, since, until in segments([*certain, life[-1]]):
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


def _too_early(timeline: Timeline) -> Iterator[str]:
    intended = intents(timeline)
    for run in timeline.runs:
        at = run.started.at
        uid, key, _ = parts_of(run.started.execution_id)
        intent = intended.get(f"{uid}:{key}:001")
        # The leader's clock may have been ahead when it decided, and be right again by now.
        decided_at = min(at, intent.at) if intent else at
        latest = timeline.true_time(at) + timeline.clock_tolerance(decided_at, at)
        for _, claim in timeline.attempts.get(run.started.execution_id, Attempt()).claims:
            if claim.token == run.started.token and claim.scheduled_at > latest:
                yield f"{run.started.execution_id} began at {at:.3f}, before it was due"


def _plain(skip: Skip) -> Skip:
    return replace(skip, unknown={})


def _untrue(timeline: Timeline, states: list[Version], skip: Skip) -> Iterator[str]:
    told = f"{states[0].job.name}: {skip.id} says {skip.reason.value}"
    # Whatever a newer version added to it since: the first to have it decided it.
    decision = next((state for state in states if _plain(skip) in map(_plain, state.job.place.skips)), None)
    if decision is None:
        yield f"{told}, and no job document ever decided it"
        return
    if timeline.true_time(decision.at) < skip.until - timeline.clock_tolerance(decision.at, decision.at):
        yield f"{told} until {skip.until:%H:%M:%S}, decided at {timeline.true_time(decision.at):%H:%M:%S}"
    if skip.reason is SkipReason.PAUSED:
        if not any(state.job.paused and state.job.place.paused_from == skip.scheduled_at for state in states):
            yield f"{told}, but no pause held it back"
    elif skip.reason is SkipReason.FROZEN:
        if not _was_frozen(timeline, skip.scheduled_at, timeline.true_time(decision.at)):
            yield f"{told}, but the cluster was not frozen"
    elif skip.reason is SkipReason.COALESCED:
        yield from (f"{told}, but {why}" for why in _not_coalesced(timeline, states, decision, skip))
    else:
        yield f"{told}, and nobody raised the floor"


def _was_frozen(timeline: Timeline, due_at: datetime, decided_at: datetime) -> bool:
    """Whether the cluster was frozen at some time between an occurrence and the decision to skip it."""
    states = [event for event in timeline.history.of(Stored) if event.id == "settings" and not event.deleted]
    for number, event in enumerate(states):
        # What an older branch of the settings says meanwhile ends no freeze: only a newer word does.
        # One that got 202 does not either: it may be on one copy alone, and nobody need see it.
        newer = [
            later
            for later in states[number:]
            if later.body["sequence"] > event.body["sequence"]
            and (later.database, later.id, later.revision) in timeline.acknowledged
        ]
        ended_at = newer[0].at if newer else timeline.final.at
        # A thaw that is on one copy of the store only is not known to everybody yet.
        until = timeline.true_time(ended_at) + CLOCK_OFF
        since = timeline.true_time(event.at)
        if event.body["frozen"] and since <= decided_at and due_at <= until:
            return True
    return False


def _not_coalesced(timeline: Timeline, states: list[Version], decision: Version, skip: Skip) -> Iterator[str]:
    place = decision.job.place
    # A launch coalesces into what it launches; a change of the schedule into what is due next.
    waited = [place.active.occurrence.scheduled_at] if place.active else []
    waited += [place.next_at] if place.next_at else []
    if not any(_key(due_at) == skip.into and due_at < skip.scheduled_at for due_at in waited):
        yield f"{skip.into} was not what waited"
    if not _had_to_wait(timeline, states, decision, skip):
        yield "neither an execution of the job nor a fault made it wait"


def _had_to_wait(timeline: Timeline, states: list[Version], decision: Version, skip: Skip) -> bool:
    if any(
        fault.at <= decision.at and fault.until >= decision.at - LATE_SECONDS
        for fault in timeline.history.of(Fault)
        if fault.what not in HARMLESS_TO_LAUNCHES
    ):
        return True
    since = (skip.scheduled_at - timeline.true_time(0.0)).total_seconds()
    return any(
        before.job.place.active is not None and state.at >= since
        for before, state in pairwise(states)
        if state.at <= decision.at
    )


def _key(instant: datetime) -> str:
    return f"{instant:%Y%m%dT%H%M%SZ}"
