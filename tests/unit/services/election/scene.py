"""Electors that share a store and a clock, and are driven by hand."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from dcron.domain.documents import node_key
from dcron.domain.leadership import Lease
from dcron.domain.nodes import LeaderReport, NodeRecord, node_of
from dcron.ports import CLUSTER
from dcron.services.election.elector import Elector
from dcron.services.election.node_document import Workload
from dcron.services.leader.mandate import Leadership
from dcron.services.shared.node_state import LocalState
from tests.doubles import START, ManualClock
from tests.service_doubles import DirectNodes, FaultyStore

LEASE = Lease(6.0)


class FakeScheduler:
    """Leads until it may not, or fails as it is told."""

    def __init__(self, leadership: Leadership, failure: Exception | None) -> None:
        self.leadership = leadership
        self._failure = failure
        self.ended = False
        self.claims_known_seconds: dict[str, float] | None = None

    async def run(self) -> None:
        try:
            if self._failure is not None:
                raise ExceptionGroup("of the task group", [self._failure])
            await asyncio.Event().wait()
        finally:
            self.ended = True

    def report(self) -> LeaderReport:
        return LeaderReport(active_count=7, claims_known_seconds=self.claims_known_seconds)


class Store(FaultyStore):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock
        self.offset = timedelta()

    async def wall_clock(self):
        return self._clock.now() + self.offset


class Node:
    """One elector, driven by hand."""

    def __init__(self, store: Store, clock: ManualClock, record: NodeRecord) -> None:
        self.clock, self.store = clock, store
        self.schedulers: list[FakeScheduler] = []
        self.failure: Exception | None = None
        self.local = LocalState()
        self.nodes = DirectNodes()
        self.elector = Elector(
            store,
            self.nodes,
            clock,
            LEASE,
            record,
            self.local,
            lambda: Workload(1, 2, ("something",)),
            self._make,
        )

    def _make(self, leadership: Leadership) -> FakeScheduler:
        scheduler = FakeScheduler(leadership, self.failure)
        self.schedulers.append(scheduler)
        return scheduler

    async def round(self) -> None:
        await self.elector._round()
        await asyncio.sleep(0)

    async def rounds(self, seconds: float) -> None:
        """Live through some time, renewing as a node does."""
        for _ in range(int(seconds / LEASE.renewal_seconds)):
            self.clock.pass_seconds(LEASE.renewal_seconds)
            await self.round()

    def leads(self) -> bool:
        active = [each for each in self.schedulers if not each.ended]
        return bool(active) and self.elector._may_lead()

    async def stop(self) -> None:
        await self.elector._stop_leading()


class Scene:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = Store(self.clock)
        self.made: list[Node] = []

    def node(
        self, node_id: str = "a", *, incarnation: str = "", spool_id: str = "", started: datetime = START
    ) -> Node:
        incarnation = incarnation or f"incarnation-{node_id}"
        spool_id = spool_id or f"spool-{incarnation}"
        record = NodeRecord(node_id, incarnation, spool_id, f"{node_id}:1", "1", 4, started, started)
        node = Node(self.store, self.clock, record)
        self.made.append(node)
        return node

    async def leader(self, node_id: str = "a") -> Node:
        node = self.node(node_id)
        await node.elector.join()
        await node.round()
        assert node.leads()
        return node

    async def terms(self) -> list[int]:
        found = await self.store.range(CLUSTER, "term:", "term;", limit=100)
        return [int(document.id.split(":")[1]) for document in found]

    async def record(self, node_id: str) -> NodeRecord:
        [[leaf]] = await self.store.read(CLUSTER, [node_key(node_id)])
        return node_of(node_id, leaf.body)
