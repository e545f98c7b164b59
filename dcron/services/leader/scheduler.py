"""The leader's work during one term: find what is due, write the intent, have it offered, settle it.

It follows the feeds, asks the index and reconciles; what it learns goes to the cycle, which decides. If the
leader dies anywhere, the next one finds the intent in the job document and goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from datetime import timedelta
from itertools import chain, repeat

import structlog

from dcron.domain.documents import INITIAL_SETTINGS
from dcron.domain.errors import StoreUnreachable
from dcron.domain.nodes import MAX_REPORTED, LeaderReport, Waiting
from dcron.ports import JOBS, ChangeBatch, Clock, Document, DocumentStore, NodeClient, executions_database
from dcron.services.leader.decider import Decider
from dcron.services.leader.dispatcher import Dispatcher
from dcron.services.leader.feeds import Feeds
from dcron.services.leader.job_book import is_job_id
from dcron.services.leader.knowledge import Knowledge
from dcron.services.leader.mandate import Deposed, Leadership
from dcron.services.leader.observer import Observer
from dcron.services.leader.reconciler import Reconciler
from dcron.services.leader.skip_copier import SkipCopier
from dcron.services.shared import loops
from dcron.services.shared.node_watch import NodeWatch
from dcron.services.shared.pacing import together
from dcron.services.shared.starts_first import StartsFirst
from dcron.services.shared.trouble import Trouble

__all__ = ["Scheduler"]

POLL_SECONDS = 60.0
"""Period of asking the index for what falls due, and of reconciling all that is active."""
EARLY_POLL_SECONDS = (5.0, 15.0)
"""Pauses after the first polls of a term. What was registered just before it may be missing from the copy
that is asked, and come before the position at which the feed was taken up on another one."""
HORIZON = timedelta(seconds=2 * POLL_SECONDS)
"""Time that a poll looks ahead: beyond the next poll, with room for a slow one."""
SILENCE_SECONDS = 1.0
"""Period of looking for overdue attempts, and of asking the index again when it named too many."""
DOUBT_SECONDS = 0.25
"""Period of reading doubtful attempts from a quorum."""
MADE_AHEAD = timedelta(days=1)
"""Time before a month begins at which its database is made."""

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
        burst: StartsFirst,
        *,
        unsure_sequences: dict[str, int],
        offer_numbers: Iterator[int],
        renewal_seconds: float,
    ) -> None:
        """`unsure_sequences` (see `JobBook`) and `offer_numbers` (see `Dispatcher`) outlive the term."""
        self._store = store
        self._clock = clock
        self._watch = watch
        self._leadership = leadership
        self._renewal_seconds = renewal_seconds
        self._knowledge = Knowledge(store, clock, watch.settings, unsure_sequences, leadership.claims_since)
        self._has_taken_over = False
        self._book, self._tracker = self._knowledge.book, self._knowledge.tracker
        self._skips = SkipCopier(store)
        self._feeds = Feeds(store, self._learn, {JOBS: self._knows}, burst)
        self._dispatcher = Dispatcher(
            nodes,
            clock,
            burst,
            leadership,
            self._tracker,
            workers=watch.workers,
            numbers=offer_numbers,
        )
        self._decider = Decider(self._knowledge, clock, leadership, self._skips, self._dispatcher, burst)
        self._reconciler = Reconciler(self._knowledge, self._dispatcher, nodes, watch)
        self._obeyed = INITIAL_SETTINGS
        self._observer = Observer()

    async def run(self) -> None:
        """Lead until no longer entitled to (Deposed) or cancelled. Any other error is a defect."""
        log.info("leads", action="lead", term=self._leadership.term)
        async with asyncio.TaskGroup() as group:
            await self._take_over(group)
            for loop in (
                self._reconcile_loop(group),
                self._months_loop(),
                self._watch_loop(),
                self._doubts_loop(),
                self._silence_loop(),
                self._skips_loop(),
                self._dispatcher.run(),
            ):
                group.create_task(loop)
            await self._decider.run()

    def report(self) -> LeaderReport:
        """Report of this leader, for all nodes to tell."""
        waiting = [
            Waiting(job, execution_id, reason)
            for execution_id, (job, reason) in self._dispatcher.waiting(MAX_REPORTED).items()
        ]
        return LeaderReport(
            alive=tuple(sorted(self._watch.alive())),
            waiting=tuple(waiting),
            waiting_count=self._dispatcher.waiting_count(),
            attention=tuple(self._reconciler.attention()[:MAX_REPORTED]),
            active_count=len(self._tracker.all()),
            claims_known_seconds=self._claims_known_seconds(),
        )

    def _claims_known_seconds(self) -> dict[str, float]:
        """What earlier leaders told, until this one has read all claims itself."""
        if self._has_taken_over:
            return self._tracker.claims_known_seconds()
        now = self._clock.monotonic()
        return {token: now - since for token, since in self._leadership.claims_since.items()}

    async def _take_over(self, group: asyncio.TaskGroup) -> None:
        """Begin following the feeds before the state is read, then read all that is active. What does not
        depend on each other is asked for at once: until the end of this nothing is offered anywhere."""
        await self._insist(lambda: together(self._watch.refresh(), self._follow_feeds(group)))
        self._obey_settings()
        group.create_task(self._poll_loop())
        await self._insist(self._read_active)
        self._has_taken_over = True

    async def _insist(self, act: Callable[[], Awaitable[object]]) -> None:
        """Try until the store answers, or raise Deposed."""
        trouble = Trouble("take_over", "cannot take over yet", "takes over")
        while self._leadership.may_lead():
            with trouble.of(StoreUnreachable):
                await act()
                return
            await asyncio.sleep(loops.BACKOFF_SECONDS)
        raise Deposed

    async def _follow_feeds(self, group: asyncio.TaskGroup) -> None:
        now = self._clock.now()
        certain = {JOBS, executions_database(now), executions_database(now + HORIZON)}
        certain |= self._tracker.databases()
        stored, *_ = await together(
            self._store.databases(), *(self._feeds.follow(each, group) for each in sorted(certain))
        )
        others = set(stored[-2:]) - certain
        await together(*(self._feeds.follow(each, group) for each in sorted(others)))
        self._feeds.keep_only(certain | others)

    async def _read_active(self) -> None:
        """Reconcile with the database: every active job, every attempt, from a quorum."""
        names = dict.fromkeys(await self._book.load_active())
        # The index may be old: what we took for active is read again, whatever it says.
        held = dict.fromkeys([*self._book.active_names(), *(each.job for each in self._tracker.all())])
        await self._book.load([name for name in held if name not in names])
        self._decider.take_in(names | held)
        await self._verify({each.active.execution_id for each in self._tracker.all()})

    async def _verify(self, execution_ids: Collection[str]) -> None:
        """Read attempts from a quorum, and offer what may start.

        What only time can settle stays doubtful, or becomes it."""
        followed = [tracked for each in sorted(execution_ids) if (tracked := self._tracker.get(each))]
        closed = set().union(*(self._decider.closed(each) for each in followed))
        confirmed = {each.job: self._book.confirmed_revision(each.job) for each in followed}
        self._decider.mark(await self._tracker.verify(sorted(execution_ids), closed, confirmed))
        for each in execution_ids:
            tracked = self._tracker.get(each)
            if tracked is not None and self._knowledge.standing_of(tracked).is_doubtful:
                self._tracker.doubt(each)
            else:
                self._tracker.trust(each)
        self._reconciler.offer_unclaimed()

    # News from outside; it marks jobs, and the cycle decides.

    def _learn(self, database: str, batch: ChangeBatch) -> None:
        if database == JOBS:
            self._learn_jobs(batch)
            return
        for document in batch.documents:
            if self._dispatcher.waits(document.id):
                # A claim of what waits for a worker: its claimant's answer was lost.
                self._tracker.doubt(document.id)
        news = self._tracker.learn(batch.documents)
        if news:
            self._decider.mark(news)
            self._dispatcher.freed()

    def _knows(self, identifier: str, revision: str) -> bool:
        """Whether a change of the jobs is an echo of this leader's own, as most are."""
        return not is_job_id(identifier) or self._book.is_known(Document(identifier, {}, revision))

    def _learn_jobs(self, batch: ChangeBatch) -> None:
        for document in batch.documents:
            if not is_job_id(document.id):
                continue
            if document.id in batch.branched:
                self._book.note_branches(document.id)
            elif not self._book.is_known(document):
                self._book.note_change(document, self._clock.now() + HORIZON)
        self._decider.wake()

    async def _poll_loop(self) -> None:
        trouble = Trouble("poll", "cannot look for due jobs", "looks for due jobs again")
        pauses = chain(EARLY_POLL_SECONDS, repeat(POLL_SECONDS))

        async def poll() -> float:
            horizon = self._clock.now() + HORIZON
            full = await self._book.poll(horizon)
            self._book.trim(horizon)
            unknown = [name for name in self._book.active_names() if self._tracker.of_job(name) is None]
            self._decider.take_in(unknown)
            self._decider.wake()
            return SILENCE_SECONDS if full else next(pauses)

        await loops.repeat(poll, trouble)

    async def _reconcile_loop(self, group: asyncio.TaskGroup) -> None:
        trouble = Trouble("reconcile", "cannot reconcile", "reconciles again")

        async def reconcile() -> None:
            await self._follow_feeds(group)
            await self._read_active()
            self._decider.take_in(await self._book.look_again())
            await self._reconciler.compare_claims()

        await asyncio.sleep(POLL_SECONDS)
        await loops.every(POLL_SECONDS, reconcile, trouble)

    async def _months_loop(self) -> None:
        trouble = Trouble("make_month", "cannot make a month's database", "the month's databases are there")

        async def make_months() -> None:
            now = self._clock.now()
            for database in sorted({executions_database(now), executions_database(now + MADE_AHEAD)}):
                await self._store.make_ready(database)

        await loops.every(POLL_SECONDS, make_months, trouble)

    async def _watch_loop(self) -> None:
        trouble = Trouble("watch", "cannot read the nodes", "reads the nodes again")
        changed = False

        async def look() -> None:
            nonlocal changed
            await self._watch.refresh()
            self._observer.observe(self._watch.alive(), self._reconciler.attention())
            changed = self._obey_settings() or changed
            if changed:
                # Take up what waited for a thaw, and give up what no worker may take any more.
                await self._read_active()
                changed = False

        await asyncio.sleep(self._renewal_seconds)
        await loops.every(self._renewal_seconds, look, trouble)

    def _obey_settings(self) -> bool:
        """Hold offers while the cluster is frozen; True when that changed, or the retention floor did."""
        settings, obeyed = self._knowledge.settings.latest, self._obeyed
        self._obeyed = settings
        if settings.frozen != obeyed.frozen:
            frozen = settings.frozen
            log.info("frozen: nothing new starts" if frozen else "not frozen any more", action="freeze")
            self._dispatcher.hold("the cluster is frozen" if frozen else "")
        return (settings.frozen, settings.floor) != (obeyed.frozen, obeyed.floor)

    async def _doubts_loop(self) -> None:
        """Settle by quorum reads what the feed cannot; attempts whose offers are still open come again."""
        trouble = Trouble("verify", "cannot verify attempts", "verifies attempts again")
        while True:
            await asyncio.sleep(DOUBT_SECONDS)
            doubtful = self._tracker.doubtful
            if not doubtful:
                continue
            with trouble.of(StoreUnreachable):
                await self._verify(doubtful)
            if trouble:
                await asyncio.sleep(loops.BACKOFF_SECONDS)

    async def _silence_loop(self) -> None:
        while True:
            await asyncio.sleep(SILENCE_SECONDS)
            given_up = await self._reconciler.settle_silence()
            for tracked in given_up:
                self._tracker.doubt(tracked.active.execution_id)

    async def _skips_loop(self) -> None:
        while True:
            self._decider.mark(await self._skips.next_copied())
