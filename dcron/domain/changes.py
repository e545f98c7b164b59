"""Changes of jobs by clients, as pure functions from the job before to the job after.

"Nothing due later than the answer starts under the old state" holds because the leader writes its
intent over the very revision it planned from: these writes take that revision away from it. What it intended
ahead of its instant is due before the answer, which waits for that (`services/clients/answering.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from dcron.domain.cron import parse_schedule
from dcron.domain.errors import FailedPrecondition, Overloaded
from dcron.domain.execution_id import ExecutionId
from dcron.domain.model import Active, Job, ManualRun, Occurrence, Place, Skip, SkipReason, Specification
from dcron.domain.planning import MAX_PENDING_SKIPS, skip_range
from dcron.domain.records import all_unknown

__all__ = [
    "MAX_WAITING_RUNS",
    "asked_run",
    "change",
    "create",
    "knows_of",
    "merge",
    "pause",
    "request_run",
    "resume",
]

MAX_WAITING_RUNS = 20
"""Manual runs of one job that may wait at once."""
_NEVER = datetime.max.replace(tzinfo=UTC)


def create(name: str, uid: str, specification: Specification, now: datetime, *, paused: bool) -> Job:
    """A new job, whose first occurrence is after `now`."""
    first = parse_schedule(specification.schedule, specification.timezone).next_after(now)
    place = Place(
        sequence=1,
        term=0,
        next_at=None if paused else first,
        counts_from=now,
        paused_from=first if paused else None,
    )
    return Job(name, uid, 1, specification, now, now, place, paused)


def change(job: Job, specification: Specification, now: datetime) -> Job:
    """The job with another specification. What was due before stays due; a new schedule counts from now."""
    changed = replace(job, specification=specification, revision=job.revision + 1, changed_at=now)
    before, after = job.specification, specification
    if (before.schedule, before.timezone) == (after.schedule, after.timezone):
        return changed
    first = parse_schedule(after.schedule, after.timezone).next_after(now)
    if job.paused:
        place = replace(_advance(job.place, _held_back(job, now)), counts_from=now, paused_from=first)
    elif job.place.next_at is not None and job.place.next_at <= now:
        place = replace(_advance(job.place, _coalesced_so_far(job, job.place.next_at, now)), counts_from=now)
    else:
        place = replace(_advance(job.place), counts_from=now, next_at=first)
    return replace(changed, place=place)


def pause(job: Job, now: datetime) -> Job:
    """The job paused: whatever it has not launched is held back from this write on."""
    if job.paused:
        return job
    place = replace(_advance(job.place), next_at=None, paused_from=job.place.next_at)
    return replace(job, paused=True, revision=job.revision + 1, changed_at=now, place=place)


def resume(job: Job, now: datetime) -> Job:
    """The job going on with its first occurrence after `now`; those of the pause are accounted for."""
    if not job.paused:
        return job
    first = job.place.paused_from
    if first is not None and first <= now:
        first = parse_schedule(job.specification.schedule, job.specification.timezone).next_after(now)
    held_back = _held_back(job, now)
    place = replace(_advance(job.place, held_back), next_at=first, counts_from=now, paused_from=None)
    return replace(job, paused=False, revision=job.revision + 1, changed_at=now, place=place)


def asked_run(job: Job, *keys: str) -> str:
    """The key of the run that waits or is worked on under one of these keys; empty where there is none.

    Keys are compared whole: two ULIDs of clients are two runs, whatever they have in common."""
    active = job.place.active
    present = [run.request_id for run in job.place.waiting]
    present += [active.occurrence.key] if active is not None and active.occurrence.manual else []
    return next((key for key in present if key in keys), "")


def request_run(job: Job, key: str, *others: str) -> Job:
    """The job with a manual run waiting; unchanged when that one waits or runs already.

    `others` are further keys of the same request, as a split store may have kept them."""
    if asked_run(job, key, *others):
        return job
    if len(job.place.waiting) >= MAX_WAITING_RUNS:
        raise Overloaded(
            f"{MAX_WAITING_RUNS} runs of {job.name!r} wait already; try again when one has ended"
        )
    waiting = (*job.place.waiting, ManualRun(key))
    return replace(job, place=replace(_advance(job.place), waiting=waiting))


def merge(leaves: Sequence[Job], confirmed: Job | None = None) -> Job:
    """One job out of the leaves that a split store left: the newest specification, the schedule that is
    furthest ahead, every skip record, and every manual run that was not settled on any leaf (running
    one twice is impossible: its claim exists). `confirmed` is the leaf that whoever merges has written last
    with a plain success, if it is among them: what it intended on another one before came to nothing.

    A leaf of an earlier job of that name can only have come back from a copy that was away when that
    job was removed: it has no part in this one. The bounds on waiting runs and skip records may be
    exceeded: nothing is lost, and neither grows further until it is below its bound again. Fields that
    only a newer version knows stay, whichever leaf has them."""
    uid = max(job.uid for job in leaves)
    present = [job for job in leaves if job.uid == uid]
    newest = max(present, key=lambda job: job.revision)
    ahead = _furthest(present, confirmed)
    skips = dict.fromkeys(skip for job in present for skip in job.place.skips)
    if ahead is confirmed:
        skips = dict.fromkeys(skip for skip in skips if _is_accounted_for(skip, ahead))
    place = replace(
        ahead.place,
        sequence=max(job.place.sequence for job in present) + 1,
        waiting=_unsettled_runs(present, ahead),
        skips=tuple(skips),
        active=_with_unknown(ahead.place.active, [job.place.active for job in present]),
        unknown=all_unknown([*(job.place for job in present), ahead.place]),
    )
    if ahead.revision != newest.revision:
        place = _replan(place, ahead, newest)
        if place.active is not None and _is_revoked(place.active, ahead, newest):
            place = replace(place, active=replace(place.active, revoked=True))
    same = [job.specification for job in present if job.revision == newest.revision]
    specification = replace(newest.specification, unknown=all_unknown([*same, newest.specification]))
    return replace(newest, specification=specification, place=place, unknown=all_unknown([*present, newest]))


def _with_unknown(active: Active | None, leaves: Sequence[Active | None]) -> Active | None:
    """An active attempt with what newer versions wrote of it on other leaves."""
    if active is None:
        return None
    same = [leaf for leaf in leaves if leaf is not None and leaf.id == active.id]
    return replace(active, unknown=all_unknown([*same, active]))


def _is_accounted_for(skip: Skip, ahead: Job) -> bool:
    """Whether the leaf ahead is beyond these occurrences, and will not come to them once more."""
    first_open = _first_open(ahead.place)
    return skip in ahead.place.skips or first_open is None or skip.scheduled_at < first_open


def _is_revoked(active: Active, ahead: Job, newest: Job) -> bool:
    """Whether a pause or another schedule came before the instant of an active occurrence.

    Of the two writes over one revision one at most had a plain success: if the change was answered, the
    intent never counted. If it did count, the occurrence may run, and its end has to be waited for."""
    held = newest.paused or _timetable(ahead) != _timetable(newest)
    return held and not active.occurrence.manual and active.occurrence.scheduled_at > newest.changed_at


def _furthest(leaves: Sequence[Job], confirmed: Job | None) -> Job:
    """The leaf of the newest term that has accounted for most of the schedule, or before it the confirmed
    one while it is at work: its attempt may have been offered, and another one would run beside it.

    First occurrences of different schedules tell nothing about that: then the one that is active."""
    same_schedule = all(_timetable(job) == _timetable(leaves[0]) for job in leaves)

    def progress(job: Job) -> tuple[int, bool, datetime, bool, int]:
        place = job.place
        first_open = (_first_open(place) or _NEVER) if same_schedule else _NEVER
        at_work = place.active is not None and not (
            _is_settled(place.active, leaves) or _is_taken_back(place, confirmed)
        )
        return place.term, at_work and job is confirmed, first_open, at_work, place.sequence

    return max(leaves, key=progress)


def _is_settled(active: Active, leaves: Sequence[Job]) -> bool:
    """Whether a leaf has settled an occurrence by this attempt or a later one."""
    ends = [_last_id(job.place) for job in leaves]
    return any(end is not None and end.reaches(active.id) for end in ends)


def knows_of(leaf: Job, job: Job) -> bool:
    """Whether a leaf accounts for the active attempt of a job that was stored before: as that or a later
    attempt, as settled, or because a later term or another job of the name has taken its place."""
    active = job.place.active
    if active is None or leaf.uid != job.uid or leaf.place.term > job.place.term:
        return True
    at_work = leaf.place.active
    return (at_work is not None and at_work.id.reaches(active.id)) or _is_settled(active, [leaf])


def _is_taken_back(place: Place, confirmed: Job | None) -> bool:
    """Whether this leader has settled the occurrence otherwise since, though by an earlier attempt."""
    settled = _last_id(confirmed.place) if confirmed is not None else None
    if place.active is None or confirmed is None or settled is None:
        return False
    same_occurrence = settled.occurrence == place.active.id.occurrence
    return (
        same_occurrence and confirmed.place.term == place.term and confirmed.place.sequence > place.sequence
    )


def _last_id(place: Place) -> ExecutionId | None:
    """The execution by which the last occurrence was settled; None when there was none yet."""
    return ExecutionId.parse_or_none(place.last.execution_id) if place.last is not None else None


def _unsettled_runs(leaves: Sequence[Job], ahead: Job) -> tuple[ManualRun, ...]:
    """Manual runs that are active or wait on any leaf, without those that the leaf ahead has beyond that."""
    active = [job.place.active.occurrence for job in leaves if job.place.active is not None]
    begun = [ManualRun(occurrence.key) for occurrence in active if occurrence.manual]
    waiting = [run for job in leaves for run in job.place.waiting]
    done = {ahead.place.active.occurrence.key} if ahead.place.active is not None else set()
    last = _last_id(ahead.place)
    if last is not None:
        done.add(last.key)
    # Of two of one request the waiting one: it may have fields that only a newer version knows.
    runs = {run.request_id: run for run in [*begun, *waiting]}
    return tuple(run for request_id, run in runs.items() if request_id not in done)


def _replan(place: Place, ahead: Job, newest: Job) -> Place:
    """The place of the leaf ahead under the newest revision, as if that change had been made to it."""
    first = _first_open(place)
    counts_from = max(place.counts_from, newest.place.counts_from)
    resumed = ahead.paused and not newest.paused
    same_schedule = _timetable(ahead) == _timetable(newest)
    if resumed and same_schedule:
        first = max(first, _first_open(newest.place), key=lambda instant: instant or _NEVER)
    elif resumed:
        first = _first_open(newest.place)
    elif not same_schedule and (first is None or first > counts_from):
        first = parse_schedule(*_timetable(newest)).next_after(counts_from)
    if newest.paused:
        return replace(place, counts_from=counts_from, next_at=None, paused_from=first)
    return replace(place, counts_from=counts_from, next_at=first, paused_from=None)


def _timetable(job: Job) -> tuple[str, str]:
    return job.specification.schedule, job.specification.timezone


def _first_open(place: Place) -> datetime | None:
    """The first occurrence not accounted for, whether a pause holds it back or not."""
    return place.next_at or place.paused_from


def _held_back(job: Job, now: datetime) -> Skip | None:
    """The record of what a pause held back through `now`; None when there was nothing."""
    if job.place.paused_from is None or job.place.paused_from > now:
        return None
    return skip_range(job, now, SkipReason.PAUSED)[0]


def _coalesced_so_far(job: Job, due_at: datetime, now: datetime) -> Skip | None:
    """Occurrence that the old schedule named after the waiting one; None when there was none."""
    following = parse_schedule(job.specification.schedule, job.specification.timezone).next_after(
        max(due_at, job.place.counts_from)
    )
    if following is None or following > now:
        return None
    rest = replace(job, place=replace(job.place, next_at=following))
    skip, _ = skip_range(rest, now, SkipReason.COALESCED)
    return replace(skip, into=Occurrence.of_schedule(job.uid, due_at).key)


def _advance(place: Place, skip: Skip | None = None) -> Place:
    """The place after one more write, with a skip record to be copied."""
    if skip is None:
        return replace(place, sequence=place.sequence + 1)
    if len(place.skips) >= MAX_PENDING_SKIPS:
        raise FailedPrecondition("the leader has not caught up with earlier changes; try again shortly")
    return replace(place, sequence=place.sequence + 1, skips=(*place.skips, skip))
