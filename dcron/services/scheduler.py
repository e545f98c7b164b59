"""The leader's work during one term: find what is due, write the intent, have it offered, settle it.

Everything that changes a job goes through one cycle: read the settings, ask the pure planner, write the
job documents in one request, act on those that got a plain success. If the leader dies anywhere, the
next one finds the intent in the job document and goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from dcron.domain.errors import StoreUnreachable
from dcron.domain.model import Job
from dcron.domain.nodes import MAX_REPORTED, LeaderReport, Waiting
from dcron.domain.offers import offered
from dcron.domain.planning import AttemptView, Moment, Step, step
from dcron.ports import JOBS, Clock, Document, DocumentStore, NodeClient, executions_database
from dcron.services.book import JobBook, is_job_id
from dcron.services.dispatcher import Dispatcher
from dcron.services.feeds import Feeds
from dcron.services.leading import Deposed, Leadership
from dcron.services.membership import NodeWatch
from dcron.services.reconciler import Reconciler
from dcron.services.settings import read_settings
from dcron.services.skips import SkipCopier
from dcron.services.tracker import Tracked, Tracker
from dcron.services.waiting import wait_for

__all__ = ["Deposed", "Leadership", "Scheduler"]

POLL_SECONDS = 60.0
"""How often the index is asked for what falls due, and all that is active is reconciled."""
HORIZON = timedelta(seconds=2 * POLL_SECONDS)
"""How far ahead a poll looks: beyond the next poll, with room for a slow one."""
CYCLE_JOBS = 500
"""Jobs decided on in one cycle, and written in one request."""
LOOK_SECONDS = 1.0
"""The longest sleep between two looks at the clock, which may have been set."""
DOUBT_SECONDS = 0.25
"""How often doubtful attempts are read from a quorum."""
STALE_SECONDS = 0.05
"""Pause while a split store leaves jobs doubtful."""
BACKOFF_SECONDS = 0.5
"""Pause after the store could not be reached."""

log = structlog.get_logger()


class Scheduler:
    """One term of scheduling; made anew for each term."""

    def __init__(
        self,
        store: DocumentStore,
        nodes: NodeClient,
        clock: Clock,
        watch: NodeWatch,
        leadership: Leadership,
        *,
        renewal_seconds: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._watch = watch
        self._leadership = leadership
        self._renewal_seconds = renewal_seconds
        self._book = JobBook(store)
        self._tracker = Tracker(store, clock)
        self._skips = SkipCopier(store)
        self._feeds = Feeds(store, self._learn)
        self._dispatcher = Dispatcher(
            nodes,
            clock,
            term=leadership.term,
            leader_id=leadership.node_id,
            may_lead=leadership.may_lead,
            workers=watch.workers,
            on_doubtful=self._tracker.doubtful.add,
            on_older_term=leadership.look,
        )
        self._reconciler = Reconciler(self._tracker, self._dispatcher, nodes, watch, self._book)
        self._intended: set[str] = set()
        """Active attempts whose intent this very object wrote: nobody before it can have offered them."""
        self._dirty: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._frozen = False

    async def run(self) -> None:
        """Lead until no longer entitled to (Deposed) or cancelled. Any other error is a defect."""
        log.info("leads", action="lead", term=self._leadership.term)
        async with asyncio.TaskGroup() as group:
            await self._take_over(group)
            for loop in (
                self._poll_loop(),
                self._reconcile_loop(group),
                self._watch_loop(),
                self._doubts_loop(),
                self._silence_loop(),
                self._skips_loop(),
                self._dispatcher.run(),
            ):
                group.create_task(loop)
            await self._cycle_loop()

    def report(self) -> LeaderReport:
        """What this leader knows, for all nodes to tell."""
        waiting = [
            Waiting(job, execution_id, reason)
            for execution_id, (job, reason) in self._dispatcher.waiting().items()
        ]
        return LeaderReport(
            alive=tuple(sorted(self._watch.alive())),
            waiting=tuple(waiting[:MAX_REPORTED]),
            waiting_count=len(waiting),
            attention=tuple(self._reconciler.attention()[:MAX_REPORTED]),
            active_count=len(self._tracker.all()),
        )

    async def _take_over(self, group: asyncio.TaskGroup) -> None:
        """Begin following the feeds before the state is read, then read all that is active."""
        while self._leadership.may_lead():
            try:
                await self._watch.refresh()
                await self._follow_feeds(group)
                await self._hold_while_frozen()
                await self._read_active()
            except StoreUnreachable as error:
                log.warning("cannot take over yet", action="take_over", error=str(error))
                await asyncio.sleep(BACKOFF_SECONDS)
            else:
                return
        raise Deposed

    async def _follow_feeds(self, group: asyncio.TaskGroup) -> None:
        now = self._clock.now()
        months = {executions_database(now), executions_database(now + HORIZON)}
        wanted = {JOBS, *months, *(await self._store.databases())[-2:], *self._tracker.databases()}
        for database in sorted(wanted):
            await self._feeds.follow(database, group)
        self._feeds.keep_only(wanted)

    async def _read_active(self) -> None:
        """Reconcile with the database: every active job, every attempt, from a quorum."""
        names = await self._book.load_active()
        self._take_in({*names, *(tracked.job for tracked in self._tracker.all())})
        await self._verify({each.active.execution_id for each in self._tracker.all()})

    async def _verify(self, execution_ids: set[str]) -> None:
        """Read attempts from a quorum, and offer what nobody has claimed.

        What only time can settle stays doubtful, or becomes it."""
        self._mark(await self._tracker.verify(execution_ids))
        self._tracker.doubtful -= execution_ids
        self._tracker.doubtful |= {each for each in execution_ids if self._is_doubtful(each)}
        self._reconciler.offer_unclaimed()

    def _take_in(self, names: Iterable[str]) -> None:
        """Follow what was just loaded, and have it decided on."""
        for name in names:
            if name in self._book.stale:
                # Somebody is changing it: the cycle reads it again before anything follows from it.
                continue
            job = self._book.get(name)
            self._follow(name, job)
            if job is not None:
                self._dirty[name] = None
        self._wake.set()

    def _follow(self, name: str, job: Job | None) -> None:
        before = self._tracker.of_job(name)
        if job is None:
            self._tracker.drop(name)
        else:
            self._tracker.follow(job)
            self._skips.add(job)
        now = self._tracker.of_job(name)
        if now is before:
            return
        if before is not None:
            self._intended.discard(before.active.execution_id)
            self._dispatcher.forget(before.active.execution_id)
        if now is not None:
            # Whether it is claimed, or has been offered at all, only the database knows.
            self._tracker.doubtful.add(now.active.execution_id)

    def _mark(self, names: Iterable[str]) -> None:
        self._dirty.update(dict.fromkeys(names))
        if self._dirty:
            self._wake.set()

    # The cycle: the only place where jobs are written.

    async def _cycle_loop(self) -> None:
        while self._leadership.may_lead():
            try:
                await self._cycle()
            except StoreUnreachable as error:
                log.warning("store unreachable", action="cycle", error=str(error))
                await asyncio.sleep(BACKOFF_SECONDS)
            if not self._dirty and not self._book.stale:
                await self._sleep_until_due()
        raise Deposed

    async def _sleep_until_due(self) -> None:
        due_at = self._book.next_due_at()
        wait_seconds = LOOK_SECONDS
        if due_at is not None:
            wait_seconds = min(max((due_at - self._clock.now()).total_seconds(), 0.0), LOOK_SECONDS)
        await wait_for(self._wake, wait_seconds)

    async def _cycle(self) -> None:
        """Decide on all that is due or has news, at most CYCLE_JOBS of each."""
        stale = list(self._book.stale)[:CYCLE_JOBS]
        if stale:
            await self._book.load(stale)
            self._take_in(stale)
            if self._book.stale:
                await asyncio.sleep(STALE_SECONDS)
        now = self._clock.now()
        names = dict.fromkeys([*list(self._dirty)[:CYCLE_JOBS], *self._book.take_due(now, CYCLE_JOBS)])
        for name in names:
            self._dirty.pop(name, None)
        if not names:
            return
        try:
            # Read after the instant: whoever was told that the cluster is frozen before it is obeyed.
            settings = await read_settings(self._store)
            steps = self._decide(names, Moment(now, self._leadership.term, settings))
            if not self._leadership.may_lead():
                raise Deposed
            if steps:
                await self._carry_out(steps)
        except StoreUnreachable:
            self._book.put_back(names)
            self._mark(names)
            raise

    def _decide(self, names: Iterable[str], moment: Moment) -> list[Step]:
        steps: list[Step] = []
        for name in names:
            job = self._book.get(name)
            if job is None:
                continue
            tidy = self._without_copied(job)
            try:
                decision = step(tidy, moment, self._view(name))
            except Exception:
                # One job must not stop all others. The next poll or reconciliation tries it again.
                log.exception("cannot plan job", action="plan", job=name)
                self._book.forget(name)
                continue
            if decision is not None:
                steps.append(decision)
            elif tidy is not job and tidy.place.active is None:
                steps.append(Step(tidy, launch=False, why="its skip records are copied"))
        return steps

    def _view(self, name: str) -> AttemptView | None:
        tracked = self._tracker.of_job(name)
        if tracked is None:
            return None
        return replace(tracked.view, claims_closed=self._is_closed(tracked))

    def _is_closed(self, tracked: Tracked) -> bool:
        """Whether no offer of an attempt can still become a claim; an earlier scheduler of this very term
        may have left some, too."""
        execution_id = tracked.active.execution_id
        intended_in_term = tracked.active.term if execution_id in self._intended else 0
        return self._dispatcher.is_closed(execution_id, intended_in_term)

    def _without_copied(self, job: Job) -> Job:
        left = tuple(skip for skip in job.place.skips if not self._skips.is_copied(skip))
        if len(left) == len(job.place.skips):
            return job
        return replace(job, place=replace(job.place, skips=left, sequence=job.place.sequence + 1))

    async def _carry_out(self, steps: list[Step]) -> None:
        """Intent first: write, and launch only what got a plain success."""
        before = {each.job.name: self._book.get(each.job.name) for each in steps}
        written = await self._book.write([each.job for each in steps])
        for each, done in zip(steps, written, strict=True):
            if not done:
                continue
            log.info(each.why, action="plan", job=each.job.name)
            self._follow(each.job.name, each.job)
            earlier = before[each.job.name]
            if earlier is not None:
                self._skips.forget(set(earlier.place.skips) - set(each.job.place.skips))
            active = each.job.place.active
            if each.launch and active is not None:
                self._intended.add(active.execution_id)
                self._tracker.doubtful.discard(active.execution_id)
                self._dispatcher.add(offered(each.job, active), active.avoid)

    # News from outside; it marks jobs, and the cycle decides.

    def _learn(self, database: str, documents: Sequence[Document]) -> None:
        if database == JOBS:
            self._learn_jobs(documents)
            return
        news = self._tracker.learn(documents)
        if news:
            self._mark(news)
            self._dispatcher.freed()

    def _learn_jobs(self, documents: Sequence[Document]) -> None:
        for document in documents:
            if is_job_id(document.id) and not self._book.is_known(document):
                self._book.note_change(document, self._clock.now() + HORIZON)
        self._wake.set()

    async def _poll_loop(self) -> None:
        while True:
            horizon = self._clock.now() + HORIZON
            try:
                full = await self._book.poll(horizon)
            except StoreUnreachable as error:
                log.warning("cannot look for due jobs", action="poll", error=str(error))
                await asyncio.sleep(BACKOFF_SECONDS)
                continue
            self._book.trim(horizon)
            self._wake.set()
            await asyncio.sleep(LOOK_SECONDS if full else POLL_SECONDS)

    async def _reconcile_loop(self, group: asyncio.TaskGroup) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self._follow_feeds(group)
                await self._read_active()
                await self._reconciler.compare_claims()
            except StoreUnreachable as error:
                log.warning("cannot reconcile", action="reconcile", error=str(error))

    async def _watch_loop(self) -> None:
        thawed = False
        while True:
            await asyncio.sleep(self._renewal_seconds)
            try:
                await self._watch.refresh()
                thawed = await self._hold_while_frozen() or thawed
                if thawed:
                    # Take up what waited.
                    await self._read_active()
                    thawed = False
            except StoreUnreachable as error:
                log.warning("cannot read the nodes", action="watch", error=str(error))

    async def _hold_while_frozen(self) -> bool:
        """Hold offers while the cluster is frozen; True when that changed."""
        frozen = (await read_settings(self._store)).frozen
        if frozen == self._frozen:
            return False
        self._frozen = frozen
        self._dispatcher.hold("the cluster is frozen" if frozen else "")
        return True

    async def _doubts_loop(self) -> None:
        """Settle by quorum reads what the feed cannot; attempts whose offers are still open come again."""
        while True:
            await asyncio.sleep(DOUBT_SECONDS)
            doubtful = set(self._tracker.doubtful)
            if not doubtful:
                continue
            try:
                await self._verify(doubtful)
            except StoreUnreachable as error:
                log.warning("cannot verify attempts", action="verify", error=str(error))
                await asyncio.sleep(BACKOFF_SECONDS)

    def _is_doubtful(self, execution_id: str) -> bool:
        """Whether something was learnt since it was read, or every claimant says that it did not start and
        an offer might still become a claim."""
        tracked = self._tracker.get(execution_id)
        if tracked is None:
            return False
        if not tracked.view.verified:
            return True
        claims, outcomes = tracked.view.claims, tracked.view.outcomes
        unstarted = bool(claims) and all(claim.token in outcomes for claim in claims)
        return unstarted and not self._is_closed(tracked)

    async def _silence_loop(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            given_up = await self._reconciler.settle_silence()
            self._tracker.doubtful.update(tracked.active.execution_id for tracked in given_up)

    async def _skips_loop(self) -> None:
        while True:
            self._mark(await self._skips.next_copied())
