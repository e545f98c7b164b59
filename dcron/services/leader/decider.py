"""The cycle of a leader: decide on what is due or has news, write it, act on what got a plain success.

The only place where a leader writes jobs: read the settings, ask the pure planner, write the job
documents in one request. Whatever is doubtful afterwards is read again before the next decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime

import structlog

from dcron.domain.attempt_results import AttemptView
from dcron.domain.errors import StoreUnreachable
from dcron.domain.instants import format_key
from dcron.domain.model import Active, Job
from dcron.domain.offers import offered
from dcron.domain.planning import Moment, Step, launch_ahead, step
from dcron.domain.standing import Standing
from dcron.ports import Clock
from dcron.services.leader.dispatcher import Dispatcher
from dcron.services.leader.knowledge import Knowledge
from dcron.services.leader.mandate import Deposed, Leadership
from dcron.services.leader.skip_copier import SkipCopier
from dcron.services.leader.tracker import Tracked
from dcron.services.shared import loops
from dcron.services.shared.pacing import Pace, wait_for
from dcron.services.shared.starts_first import StartsFirst
from dcron.services.shared.trouble import Trouble

__all__ = ["Decider"]

CYCLE_JOBS = 200
"""Jobs decided on in one cycle, and written in one request: workers start the first of many while the leader
decides on the next."""
DECIDE_SECONDS = 0.1
"""Time for which one cycle may plan before it lets others run."""
LOOK_SECONDS = 1.0
"""The longest sleep between two looks at the clock, which may have been set."""
STALE_SECONDS = 0.05
"""Wait before a doubtful job is read again for the first time."""
MAX_DOUBLINGS = 6
MAX_PUT_OFF_SECONDS = 2.0
"""The longest interval between two readings of a doubtful job."""

log = structlog.get_logger()


class Decider:
    """The jobs that are to be decided on next, and the deciding."""

    def __init__(
        self,
        knowledge: Knowledge,
        clock: Clock,
        leadership: Leadership,
        skips: SkipCopier,
        dispatcher: Dispatcher,
        burst: StartsFirst,
    ) -> None:
        self._knowledge = knowledge
        self._due, self._book, self._tracker = knowledge.due, knowledge.book, knowledge.tracker
        self._clock = clock
        self._leadership = leadership
        self._skips = skips
        self._dispatcher = dispatcher
        self._burst = burst
        self._intended: set[str] = set()
        """Attempts whose intent this very object wrote, active ones and those before them: nobody before it
        can have offered them."""
        self._dirty: dict[str, None] = {}
        self._news_pace = Pace(by_duration=True)
        self._put_off_until: dict[str, tuple[int, float]] = {}
        """Times in a row that a job was put off, and until when, by the event loop's time."""
        self._trouble = Trouble("cycle", "cannot decide on jobs", "decides on jobs again")
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something may be due or stale."""
        self._woken.set()

    def take_in(self, names: Iterable[str]) -> None:
        """Follow what was just loaded, and have it decided on."""
        for name in names:
            if self._book.is_stale(name):
                # Somebody is changing it: the cycle reads it again before anything follows from it.
                continue
            job = self._book.get(name)
            self._follow(name, job)
            if job is not None:
                self._dirty[name] = None
        self.wake()

    def _follow(self, name: str, job: Job | None) -> None:
        before = self._tracker.of_job(name)
        if job is None:
            self._tracker.drop(name)
            self._put_off_until.pop(name, None)
        else:
            self._tracker.follow(job)
            if self._book.is_confirmed(name):
                self._skips.add(job)
        now = self._tracker.of_job(name)
        if now is before:
            if job is not None and now is not None:
                self._follow_on(job, now)
            return
        if before is not None:
            kept = now.active.latest_ids if now is not None else ()
            self._intended.difference_update(set(before.active.latest_ids).difference(kept))
            self._dispatcher.drop(before.active.execution_id)
        if now is not None:
            # Whether it is claimed, or has been offered at all, only the database knows.
            self._tracker.doubt(now.active.execution_id)

    def _follow_on(self, job: Job, tracked: Tracked) -> None:
        """Read again what somebody else has written a job over with an attempt that goes on."""
        execution_id = tracked.active.execution_id
        changed = self._is_offered_otherwise(job, tracked.active)
        if changed:
            # What it waits for is not what its job says now: it comes back once that is certain.
            self._dispatcher.drop(execution_id)
        if changed or not tracked.was_looked_back(self._book.confirmed_revision(job.name)):
            self._tracker.doubt(execution_id)

    def _is_offered_otherwise(self, job: Job, active: Active) -> bool:
        """Whether an attempt is offered under another revision of its job than that which is held."""
        pending = self._dispatcher.pending(active.execution_id)
        return pending is not None and pending != offered(job, active)

    def mark(self, names: Iterable[str]) -> None:
        """There is news of these jobs."""
        self._dirty.update(dict.fromkeys(names))
        if self._dirty:
            self.wake()

    async def run(self) -> None:
        """Decide and write until no longer entitled to (Deposed)."""
        while self._leadership.may_lead():
            with self._trouble.of(StoreUnreachable):
                await self._cycle()
            if self._trouble:
                await asyncio.sleep(loops.BACKOFF_SECONDS)
            if not self._news_is_ripe() and not self._readable_stale():
                await self._sleep_until_due()
        raise Deposed

    def _news_is_ripe(self) -> bool:
        return bool(self._dirty) and not self._news_pace.left_seconds()

    def _take_news(self) -> list[str]:
        """Jobs with news. Those of a short while share a request; what is due does not wait for it."""
        return list(self._dirty)[:CYCLE_JOBS] if self._news_is_ripe() else []

    async def _sleep_until_due(self) -> None:
        due_at = self._due.next_due_at(early=True)
        wait_seconds = STALE_SECONDS if self._book.stale else LOOK_SECONDS
        if self._dirty:
            wait_seconds = min(wait_seconds, self._news_pace.left_seconds())
        if due_at is not None:
            wait_seconds = min(max((due_at - self._clock.now()).total_seconds(), 0.0), wait_seconds)
        await wait_for(self._woken, wait_seconds)

    async def _cycle(self) -> None:
        """Decide on all that is due, or about to be, or has news, at most CYCLE_JOBS of each."""
        if not self._leadership.clock_is_steady():
            # What is due by a clock that was just set may be due in an hour.
            self._leadership.look()
            await asyncio.sleep(STALE_SECONDS)
            return
        stale = self._readable_stale()[:CYCLE_JOBS]
        if stale:
            await self._book.load(stale)
            for name in self._book.stale.intersection(stale):
                self._put_off(name)
            self.take_in(stale)
        now = self._clock.now()
        news = self._take_news()
        due = self._due.take_due(now, CYCLE_JOBS, early=True)
        names = dict.fromkeys([*news, *due])
        for name in names:
            self._dirty.pop(name, None)
        if names:
            with self._burst.of(len(due)):
                async with self._news_pace.turn() if news else nullcontext():
                    await self._decide_on(list(names), frozenset(due), now)

    async def _decide_on(self, names: list[str], due: Collection[str], now: datetime) -> None:
        """Decide and write; all that could not be is to be decided on again."""
        try:
            # Anew, less than AHEAD_SECONDS before the instant: whoever was told that the cluster is frozen
            # before it is obeyed.
            settings = await self._knowledge.settings.read()
            steps, undecided = self._decide(names, due, Moment(now, self._leadership.term, settings))
            if undecided:
                self._book.put_back(undecided)
                self.mark(undecided)
            if not self._leadership.may_lead():
                raise Deposed
            # At once: what is read in between must not be written over by what was decided before.
            if steps:
                await self._carry_out(steps)
            else:
                await asyncio.sleep(0)
        except StoreUnreachable:
            self._book.put_back(names)
            self.mark(names)
            raise

    def _readable_stale(self) -> list[str]:
        """Doubtful jobs that are to be read now: while the store is split, each at growing intervals."""
        now = asyncio.get_running_loop().time()
        return sorted(name for name in self._book.stale if self._put_off_until.get(name, (0, 0.0))[1] <= now)

    def _put_off(self, name: str) -> None:
        """A job could not be read or written for certain: next time later."""
        times = self._put_off_until.get(name, (0, 0.0))[0] + 1
        pause_seconds = min(STALE_SECONDS * 2 ** min(times - 1, MAX_DOUBLINGS), MAX_PUT_OFF_SECONDS)
        self._put_off_until[name] = (times, asyncio.get_running_loop().time() + pause_seconds)

    def _decide(self, names: list[str], due: Collection[str], moment: Moment) -> tuple[list[Step], list[str]]:
        """Decisions, and the names that the time for it was not enough for: a lease has to be renewed
        meanwhile, and after a long absence a single job can take milliseconds."""
        steps: list[Step] = []
        deadline = self._clock.monotonic() + DECIDE_SECONDS
        for index, name in enumerate(names):
            if self._clock.monotonic() > deadline:
                return steps, names[index:]
            job = self._book.get(name)
            if job is None:
                continue
            try:
                decision = self._decide_one(job, moment, is_due=name in due)
            except Exception:
                # One job must not stop all others. The next poll or reconciliation tries it again.
                log.exception("cannot plan job", action="plan", job=name)
                self._book.forget(name)
                continue
            if decision is not None:
                steps.append(decision)
            elif name in due:
                self._due.leave(name, moment.now)
        return steps, []

    def _decide_one(self, job: Job, moment: Moment, *, is_due: bool) -> Step | None:
        """Decision on a job now; `is_due` when its instant has come or is about to."""
        tidy = self._without_copied(job)
        decision = step(tidy, moment, self._view(job))
        if decision is None and is_due:
            decision = launch_ahead(tidy, moment)
        if decision is not None:
            return decision
        if self._waits_for_take_over(job):
            return _confirmation(job, moment, launch=True)
        if self._has_unconfirmed_skips(job):
            return _confirmation(job, moment, launch=False)
        if tidy is not job and tidy.place.active is None:
            return Step(tidy, launch=False, why="its skip records are copied")
        return None

    def _waits_for_take_over(self, job: Job) -> bool:
        """Whether its attempt is to be offered, but the intent was only read: perhaps from one copy, which
        it reached alone (202). It counts once it is written again with a plain success."""
        tracked = self._tracker.of_job(job.name)
        is_under_way = tracked is not None and self._dispatcher.is_under_way(tracked.active.execution_id)
        return (
            tracked is not None
            and self._knowledge.standing_of(tracked) is Standing.WRITE_AGAIN_FIRST
            and (not is_under_way or self._is_offered_otherwise(job, tracked.active))
        )

    def _has_unconfirmed_skips(self, job: Job) -> bool:
        return bool(job.place.skips) and not self._book.is_confirmed(job.name)

    def _view(self, job: Job) -> AttemptView | None:
        """Knowledge of the active attempt and of no other one: a poll may have read the job anew."""
        active, tracked = job.place.active, self._tracker.of_job(job.name)
        if active is not None and (tracked is None or tracked.active.execution_id != active.execution_id):
            self._follow(job.name, job)
            tracked = self._tracker.of_job(job.name)
        return tracked.view if tracked else None

    def closed(self, tracked: Tracked) -> set[str]:
        """Those of an attempt and the one before it of which no offer can still become a claim; an earlier
        scheduler of this very term may have left some, too."""
        by_time = {each for each in tracked.active.latest_ids if self._is_closed(each)}
        return by_time | tracked.closed_by_claimants

    def _is_closed(self, execution_id: str) -> bool:
        intended_in_term = self._leadership.term if execution_id in self._intended else 0
        return self._dispatcher.is_closed(execution_id, intended_in_term)

    def _without_copied(self, job: Job) -> Job:
        # What is coalesced into an occurrence that still waits is named by its execution, too.
        ahead = format_key(job.place.next_at) if job.place.next_at else ""
        left = tuple(
            skip for skip in job.place.skips if skip.into == ahead != "" or not self._skips.is_copied(skip)
        )
        if len(left) == len(job.place.skips):
            return job
        return replace(job, place=replace(job.place, skips=left, sequence=job.place.sequence + 1))

    async def _carry_out(self, steps: list[Step]) -> None:
        """Intent first: write, and launch only what got a plain success."""
        before = {each.job.name: job for each in steps if (job := self._book.get(each.job.name)) is not None}
        assert len(before) == len(steps), "what is decided on is held, and nothing has come in since"
        written = await self._book.write([each.job for each in steps])
        for each, done in zip(steps, written, strict=True):
            name, earlier = each.job.name, before[each.job.name]
            if not done:
                self._put_off(name)
                continue
            self._put_off_until.pop(name, None)
            _tell(each)
            self._skips.forget(set(earlier.place.skips) - set(each.job.place.skips))
            active = each.job.place.active
            is_new = earlier.place.active != active
            if each.launch and active is not None and is_new:
                assert active.term == self._leadership.term, "an intent names the term that wrote it"
                self._intended.add(active.execution_id)
            if not self._book.is_confirmed(name):
                # Somebody has written over it already: what that says is what is followed.
                self.take_in([name])
                continue
            self._follow(name, each.job)
            if each.launch and active is not None:
                self._launch(each.job, active, is_new=is_new)

    def _launch(self, job: Job, active: Active, *, is_new: bool) -> None:
        """Offer an attempt whose intent was just written, unless only another reading can say that it may."""
        tracked = self._tracker.of_job(job.name)
        assert self._book.is_confirmed(job.name), "an intent is on a quorum before it is offered"
        assert tracked is not None, "what is launched is followed"
        if is_new and active.attempt == 1 and not tracked.view.claims:
            self._tracker.trust(active.execution_id)
        elif self._knowledge.standing_of(tracked) is not Standing.OFFER:
            self._tracker.doubt(active.execution_id)
            return
        self._dispatcher.add(offered(job, active), active.avoid)


def _tell(done: Step) -> None:
    """Log a decision at its level. A normal course is told once for each execution, by its worker."""
    active = done.job.place.active
    is_usual = active is None or (done.launch and active.attempt == 1)
    (log.debug if is_usual else log.info)(done.why, action="plan", job=done.job.name)


def _confirmation(job: Job, moment: Moment, *, launch: bool) -> Step:
    """The job written as it is, so that what was only read is known to be on a quorum."""
    place = replace(job.place, sequence=job.place.sequence + 1, term=moment.term)
    return Step(replace(job, place=place), launch=launch, why="is taken over")
