"""Renews this node's document, watches who leads, claims a term when nobody does.

The rules are in dcron.domain.leadership; here they meet the store and the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from dcron.domain.documents import INITIAL_SETTINGS, SETTINGS_ID, settings_body
from dcron.domain.errors import StoreUnreachable
from dcron.domain.leadership import Action, Decision, Lease, decide, lead_until
from dcron.domain.nodes import LeaderReport, NodeRecord
from dcron.ports import CLUSTER, Clock, Document, DocumentStore, NodeClient
from dcron.services.election.clock_check import ClockCheck
from dcron.services.election.node_document import OwnDocument, Workload
from dcron.services.election.resigning import announce_resignation, other_addresses
from dcron.services.election.terms import Terms
from dcron.services.leader.mandate import Deposed, Leadership
from dcron.services.leader.scheduler import Scheduler
from dcron.services.shared.cluster_settings import check_format, read_settings
from dcron.services.shared.node_state import LocalState
from dcron.services.shared.pacing import wait_for
from dcron.services.shared.trouble import StoreTrouble

__all__ = ["Elector"]

RESTART_SECONDS = 1.0
"""Pause before leading again after a defect ended the scheduler."""
MIN_PAUSE_SECONDS = 0.05
"""Between two rounds, however long the last one took."""

log = structlog.get_logger()


class Elector:
    """One node's part in leadership. `record` is what it says of itself; `make_scheduler` is called
    for each term it leads."""

    def __init__(
        self,
        store: DocumentStore,
        nodes: NodeClient,
        clock: Clock,
        lease: Lease,
        record: NodeRecord,
        local: LocalState,
        workload: Callable[[], Workload],
        make_scheduler: Callable[[Leadership], Scheduler],
    ) -> None:
        self._store = store
        self._nodes = nodes
        self._clock = clock
        self._lease = lease
        self._node_id = record.node_id
        self._local = local
        self._make_scheduler = make_scheduler
        self._clock_check = ClockCheck(store, clock)
        self._own = OwnDocument(store, clock, record, workload, lambda: self._clock_check.hindrance)
        self._terms = Terms(store, clock, local, record)
        self._decision = Decision(Action.FOLLOW, f"{record.node_id} is starting", 0.0)
        self._lead_until = float("-inf")
        self._scheduler: Scheduler | None = None
        self._leading: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self.store_trouble = StoreTrouble(clock)

    # What others ask.

    def summary(self) -> str:
        """Sentence on who leads or why nobody does, as this node sees it."""
        if self.store_trouble:
            return f"{self._node_id} cannot reach the document store, and does not know who leads"
        leader_id = self.leader_id()
        if not leader_id:
            return f"nobody leads: {self._decision.why}"
        if self._decision.action is Action.LEAD and not self._may_lead():
            return f"{leader_id} holds term {self.term()}, but does not act: its renewals are not confirmed"
        return f"{leader_id} leads term {self.term()}"

    def leader_id(self) -> str:
        """The node that leads as far as this one knows; empty when none does."""
        view = self._terms.view
        if view is None or self.store_trouble:
            return ""
        reading = view.reading
        silent_seconds = self._clock.monotonic() - view.seen_at
        mine = reading.holder_incarnation == self._own.record.incarnation
        if reading.holder_resigned >= reading.term or (
            not mine and silent_seconds > self._lease.length_seconds
        ):
            return ""
        return reading.holder_id

    def term(self) -> int:
        """The newest term this node has seen."""
        return self._local.newest_term

    def report(self) -> LeaderReport | None:
        """This node's own report while it leads."""
        return self._scheduler.report() if self._scheduler else None

    def record(self) -> NodeRecord:
        """Record of this node as it is now."""
        return self._own.present()

    def clock_trouble(self) -> str:
        """Reason why this node's wall clock cannot be relied on, in words; empty when it can."""
        return self._clock_check.trouble()

    async def resignation(self, term: int) -> None:
        """A leader said that it stops: look at once."""
        if term >= self._local.newest_term:
            self._look.set()

    # The life of a node in the cluster.

    async def join(self) -> None:
        """Write the settings if there are none, check them, and take this node's document.

        Raises SetupError when the format is newer, or another node lives under this id."""
        settings = await read_settings(self._store)
        if settings is INITIAL_SETTINGS:
            await self._store.write(CLUSTER, [Document(SETTINGS_ID, settings_body(settings))])
            settings = await read_settings(self._store)
        check_format(settings, self._own.record.version)
        await self._own.check_unique(self._lease.length_seconds)

    async def run(self) -> None:
        """Renew, watch and lead until cancelled; then give the term up so that another leads at once.

        Raises SetupError when another node has taken this id, or a newer dcron the cluster."""
        try:
            while True:
                began_at = self._clock.monotonic()
                await self._round()
                await wait_for(self._look, self._pause_seconds(began_at))
        finally:
            await self._leave()

    def _pause_seconds(self, began_at: float) -> float:
        """Counted from the beginning of a round: a slow store must not make renewals rarer."""
        wanted_seconds = min(self._decision.again_seconds, self._lease.renewal_seconds)
        return max(wanted_seconds - (self._clock.monotonic() - began_at), MIN_PAUSE_SECONDS)

    async def _round(self) -> None:
        """One renewal and one look at who leads; the decision is logged when it changes."""
        decision = replace(self._decision, again_seconds=self._lease.renewal_seconds / 2)
        with self.store_trouble.of(StoreUnreachable):
            await self._clock_check.compare()
            if self._term_held():
                await self._renew_and_read()
                decision = self._decide()
            else:
                decision = await self._look_and_renew()
            if decision.action is Action.CLAIM:
                # Lost, and the winner cannot be read: a split store. Not again at once.
                why = f"{decision.why}; the store confirms no claim of the next term"
                decision = replace(decision, why=why, again_seconds=self._lease.renewal_seconds / 2)
        if decision.why != self._decision.why:
            log.info(decision.why, action="leadership", term=self._local.newest_term)
        self._decision = decision
        await self._act()

    async def _renew_and_read(self) -> None:
        """Lead on, if nobody else does by now."""
        renewed_boottime = await self._renew()
        await self._terms.read()
        # Not before the read: after a pause somebody else may lead.
        self._prolong(renewed_boottime)

    async def _look_and_renew(self) -> Decision:
        """A follower's round. It looks first: when the leader is gone, every request counts."""
        await self._terms.read()
        decision = self._decide()
        if decision.action is not Action.CLAIM:
            await self._renew()
            return decision
        if await self._terms.claim():
            # Followers count from our first document that says so.
            await self._renew_and_read()
        else:
            await self._renew()
        return self._decide()

    def _decide(self) -> Decision:
        return decide(
            self._terms.view,
            self._own.record.incarnation,
            self._lease,
            self._clock.monotonic(),
            hindrance=self._clock_check.hindrance,
        )

    def _may_lead(self) -> bool:
        # Boot time goes on while the machine sleeps, as the time of those who wait for us does.
        return self._clock.boottime() < self._lead_until

    def _term_held(self) -> int:
        """The term this node won with a plain success and has not given up; 0 when none."""
        term = self._terms.held()
        return term if self._own.record.resigned < term else 0

    async def _renew(self) -> float | None:
        """Write this node's document; the boot time from before a plain success."""
        if self._clock_check.hindrance and self._term_held():
            await self._resign()
        return await self._own.renew(
            draining=self._local.draining, leading=self._term_held(), report=self.report()
        )

    def _prolong(self, renewed_boottime: float | None) -> None:
        """Lead on after a renewal; only a plain success that names the term counts."""
        term = self._term_held()
        if renewed_boottime is not None and term and self._own.record.leading == term:
            self._lead_until = lead_until(self._lease, renewed_boottime)

    async def _act(self) -> None:
        """Start or stop the scheduler, as the decision and the lease have it."""
        leads = self._decision.action is Action.LEAD and self._may_lead() and not self._clock_check.hindrance
        if leads and (self._leading is None or self._leading.done()):
            self._leading = asyncio.create_task(self._lead(self._term_held()))
        elif not leads and self._leading is not None:
            await self._stop_leading()

    async def _lead(self, term: int) -> None:
        """One scheduler's life. A defect in it is logged whole, and another one is made."""
        leadership = Leadership(
            term,
            self._node_id,
            self._may_lead,
            self._look.set,
            self._clock_check.is_steady,
            self._terms.silent,
            self._terms.claims_since,
        )
        try:
            self._scheduler = self._make_scheduler(leadership)
            await self._scheduler.run()
        except* Deposed:
            pass  # the last line says so, as it does when the elector is the first to find out
        except* Exception:
            log.exception("the scheduler failed; another one follows", action="lead", term=term)
            await asyncio.sleep(RESTART_SECONDS)
        finally:
            self._scheduler = None
            log.info("stops leading", action="lead", term=term)

    async def _stop_leading(self) -> None:
        self._lead_until = float("-inf")
        if self._leading is not None:
            self._leading.cancel()
            await asyncio.wait([self._leading])
            self._leading = None

    async def _resign(self) -> None:
        """Give the term up: stop acting first, then say so."""
        term = self._term_held()
        await self._stop_leading()
        self._own.resign(term)
        log.info("resigns", action="resign", term=term)

    async def _leave(self) -> None:
        """A clean stop: nobody need wait for the lease to run out."""
        term = self._term_held()
        await self._resign() if term else await self._stop_leading()
        try:
            if not term:
                await self._own.stop()
                return
            others = other_addresses(self._store, self._own.record.incarnation)
            _, addresses = await asyncio.gather(self._own.stop(), others)
            await announce_resignation(self._nodes, addresses, term)
        except StoreUnreachable as error:
            log.warning("cannot say that this node stops", action="leave", error=str(error))
