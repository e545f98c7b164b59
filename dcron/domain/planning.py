"""Planning of a job at an instant: pure functions from (job, now, what is known) to decisions.

The leader asks `step` for every job that is due or whose attempt has news; the answer is the job
document to write. Nothing is launched before that write is a plain success.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from dcron.domain.attempt_results import AttemptView, Result, has_lost_its_cause, result_of
from dcron.domain.cron import MAX_STEPS, Schedule, parse_schedule
from dcron.domain.execution_id import MAX_ATTEMPT
from dcron.domain.instants import floor_second
from dcron.domain.model import (
    Active,
    ClusterSettings,
    Coalesced,
    Job,
    LastOutcome,
    Occurrence,
    Skip,
    SkipReason,
    State,
)

__all__ = [
    "AHEAD_SECONDS",
    "MAX_PENDING_SKIPS",
    "Moment",
    "Step",
    "launch_ahead",
    "may_be_offered",
    "skip_range",
    "step",
]

AHEAD_SECONDS = 2.0
"""Time before its instant in which an occurrence may be decided on, offered and claimed, so that nothing but
its start is left for the instant. A pause, a change and a freeze are answered so much later, where it
matters."""
MAX_PENDING_SKIPS = 16
"""Skip records that a job document carries at most until they are copied."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The circumstances of a decision."""

    now: datetime
    term: int
    settings: ClusterSettings


@dataclass(frozen=True, slots=True)
class Step:
    """A decision: the job as it is to be written, and whether its active attempt is to be offered then.

    `why` says it in words, for the log."""

    job: Job
    launch: bool
    why: str


def step(job: Job, moment: Moment, view: AttemptView | None) -> Step | None:
    """The next decision about a job; None when there is nothing to write now.

    `view` is what is known of the active attempt, if there is one."""
    if job.place.active is None:
        return _start_next(job, moment)
    active, view = job.place.active, view or AttemptView()
    if has_lost_its_cause(active, view):
        return _go_back(job, active, moment)
    result = result_of(job, active, view)
    if result is None or (result.state is State.NOT_STARTED and not may_be_offered(active, moment.settings)):
        return _give_up(job, active, view, moment)
    # No worker would take another attempt of what is from before the floor.
    if result.retry and not _is_before_floor(active, moment.settings):
        if moment.settings.frozen:
            return None
        return _retry(job, active, result, view, moment)
    settled = _settle(job, active, result, moment)
    following = _start_next(settled.job, moment)
    if following is None:
        return settled
    return replace(following, why=f"{settled.why}; {following.why}")


def launch_ahead(job: Job, moment: Moment) -> Step | None:
    """The launch of an occurrence whose instant is about to come; None when that has to be waited for.

    Only where nothing but time can come between: all else there is to decide is decided at the instant."""
    place = job.place
    if place.active is not None or place.waiting or place.skips or job.paused or moment.settings.frozen:
        return None
    due_at = place.next_at
    if due_at is None or due_at > moment.now + timedelta(seconds=AHEAD_SECONDS):
        return None
    if due_at < moment.settings.floor or _thawed_after(due_at, moment.settings):
        return None
    return _launch_due(job, moment, due_at)


def may_be_offered(active: Active, settings: ClusterSettings) -> bool:
    """Whether workers may take an attempt at all."""
    return not active.revoked and not _is_before_floor(active, settings)


def _is_before_floor(active: Active, settings: ClusterSettings) -> bool:
    return active.occurrence.scheduled_at < settings.floor


def _give_up(job: Job, active: Active, view: AttemptView, moment: Moment) -> Step | None:
    """End the wait of an attempt that no worker may take, once it is certain that none has started it."""
    unstarted = view.verified and view.claims_closed and all(c.token in view.outcomes for c in view.claims)
    if not unstarted or may_be_offered(active, moment.settings):
        return None
    changes: dict[str, Any] = {"active": None}
    scheduled_at = active.occurrence.scheduled_at
    reason = None if active.occurrence.manual else SkipReason.MISSED
    why = "is from before the retention floor"
    if active.revoked:
        why = "was revoked by a pause or a change"
        if job.paused:
            changes["paused_from"] = min(scheduled_at, job.place.paused_from or scheduled_at)
        reason = SkipReason.PAUSED if _was_resumed_after(job, scheduled_at) else None
    if reason is not None:
        skip = Skip(job.uid, scheduled_at, scheduled_at, reason, 1)
        changes["skips"] = (*job.place.skips, skip)
    return Step(_advance(job, moment, **changes), launch=False, why=f"{active.execution_id} {why}")


def _was_resumed_after(job: Job, scheduled_at: datetime) -> bool:
    """Whether the pause that held an occurrence back is over, and nothing else will account for it."""
    is_named = _schedule(job).next_after(scheduled_at - timedelta(seconds=1)) == scheduled_at
    return is_named and not job.paused and scheduled_at <= job.place.counts_from


def _go_back(job: Job, active: Active, moment: Moment) -> Step:
    """The attempt before it is the active one again. Whether it counted towards the bounds is not known any
    more: it still does."""
    earlier = replace(active, attempt=active.attempt - 1, term=moment.term, after=())
    why = f"{active.execution_id} had no cause: {earlier.execution_id} goes on"
    return Step(_advance(job, moment, active=earlier), launch=False, why=why)


def _retry(job: Job, active: Active, result: Result, view: AttemptView, moment: Moment) -> Step:
    assert active.attempt < MAX_ATTEMPT, "an id has three digits for an attempt"
    attempt = replace(
        active,
        attempt=active.attempt + 1,
        term=moment.term,
        intended_at=moment.now,
        spent=active.spent + int(result.spends),
        failures=active.failures + int(result.state is State.FAILED),
        avoid=tuple(dict.fromkeys((*active.avoid, *result.node_ids))),
        after=tuple(dict.fromkeys([*(claim.token for claim in view.claims), *view.outcomes])),
    )
    why = f"{active.execution_id} {result.why}; attempt {attempt.attempt} follows"
    return Step(_advance(job, moment, active=attempt), launch=True, why=why)


def _settle(job: Job, active: Active, result: Result, moment: Moment) -> Step:
    last = LastOutcome(active.execution_id, result.state, moment.now)
    settled = _advance(job, moment, active=None, last=last)
    return Step(settled, launch=False, why=f"{active.execution_id} {result.why}")


def _start_next(job: Job, moment: Moment) -> Step | None:
    """Launch or skip what is due for an idle job."""
    place = job.place
    if len(place.skips) >= MAX_PENDING_SKIPS:
        return None
    if place.waiting and not moment.settings.frozen:
        return _launch_manual(job, moment)
    if job.paused or place.next_at is None or place.next_at > moment.now:
        return None
    if place.next_at < moment.settings.floor:
        last_missed = moment.settings.floor - timedelta(microseconds=1)
        return _skip_due(job, moment, SkipReason.MISSED, min(moment.now, last_missed))
    if moment.settings.frozen:
        return _skip_due(job, moment, SkipReason.FROZEN, moment.now)
    thawed_at = _thawed_after(place.next_at, moment.settings)
    if thawed_at is not None:
        return _skip_due(job, moment, SkipReason.FROZEN, min(moment.now, thawed_at))
    return _launch_due(job, moment, place.next_at)


def _thawed_after(due_at: datetime, settings: ClusterSettings) -> datetime | None:
    """End of the last freeze, if an occurrence fell due during it."""
    if settings.frozen_at is None or settings.thawed_at is None:
        return None
    return settings.thawed_at if settings.frozen_at <= due_at <= settings.thawed_at else None


def _launch_manual(job: Job, moment: Moment) -> Step:
    assert job.place.active is None, "no two occurrences of a job are at work"
    first, *others = job.place.waiting
    occurrence = Occurrence.of_request(job.uid, first.request_id)
    active = Active(occurrence, 1, moment.term, moment.now)
    if occurrence.scheduled_at < moment.settings.floor:
        dropped = _advance(job, moment, waiting=tuple(others))
        return Step(dropped, launch=False, why=f"{active.execution_id} is from before the retention floor")
    launched = _advance(job, moment, active=active, waiting=tuple(others))
    return Step(launched, launch=True, why=f"{active.execution_id} was asked for")


def _launch_due(job: Job, moment: Moment, due_at: datetime) -> Step:
    assert job.place.active is None, "no two occurrences of a job are at work"
    rest, next_at = _schedule(job).between(max(due_at, job.place.counts_from), moment.now)
    occurrence = Occurrence.of_schedule(job.uid, due_at)
    earlier = [skip for skip in job.place.skips if skip.into == occurrence.key]
    skips = job.place.skips
    if rest:
        skips = (*skips, _skip(job, rest, moment.now, SkipReason.COALESCED, into=occurrence.key))
    own = [*earlier, *skips[len(job.place.skips) :]]
    active = Active(occurrence, 1, moment.term, moment.now, coalesced=_sum(own))
    launched = _advance(job, moment, active=active, next_at=next_at, skips=skips)
    return Step(launched, launch=True, why=f"{active.execution_id} is due")


def _sum(skips: list[Skip]) -> Coalesced | None:
    """All that was coalesced into one occurrence, before and after a change of its schedule."""
    if not skips:
        return None
    counts = [skip.count for skip in skips]
    total = None if None in counts else sum(count for count in counts if count is not None)
    return Coalesced(max(skip.until for skip in skips), total)


def _skip_due(job: Job, moment: Moment, reason: SkipReason, until: datetime) -> Step:
    skip, next_at = skip_range(job, until, reason)
    skipped = _advance(job, moment, next_at=next_at, skips=(*job.place.skips, skip))
    return Step(skipped, launch=False, why=f"{skip.id} {reason.value}")


def skip_range(job: Job, until: datetime, reason: SkipReason) -> tuple[Skip, datetime | None]:
    """The record of all that a job has due through `until`, and its first occurrence after that.

    The job's first occurrence not accounted for (`next_at`, or `paused_from`) is at or before `until`."""
    first = job.place.next_at or job.place.paused_from
    if first is None:
        raise ValueError(f"job {job.name} has nothing due")
    rest, next_at = _schedule(job).between(max(first, job.place.counts_from), until)
    return _skip(job, [first, *rest], until, reason), next_at


def _skip(job: Job, occurrences: list[datetime], until: datetime, reason: SkipReason, into: str = "") -> Skip:
    """One record for consecutive occurrences; `until` is its end when there are too many to count."""
    complete = len(occurrences) < MAX_STEPS
    last = occurrences[-1] if complete else floor_second(until)
    return Skip(job.uid, occurrences[0], last, reason, len(occurrences) if complete else None, into)


def _schedule(job: Job) -> Schedule:
    return parse_schedule(job.specification.schedule, job.specification.timezone)


def _advance(job: Job, moment: Moment, **changes: Any) -> Job:
    """The job with these changes of its place, moved on by this term."""
    place = replace(job.place, sequence=job.place.sequence + 1, term=moment.term, **changes)
    before, after = job.place.next_at, place.next_at
    assert before is None or after is None or after >= before, "a schedule goes on, and never back"
    return replace(job, place=place)
