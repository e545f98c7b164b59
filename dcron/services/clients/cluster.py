"""Nodes and the whole cluster, as people see and steer them from any node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Protocol

import structlog

from dcron.domain.concerns import Concern, concerns_of
from dcron.domain.documents import (
    INITIAL_SETTINGS,
    PRECISE,
    SETTINGS_ID,
    drain_id,
    node_key,
    settings_body,
    settings_of,
)
from dcron.domain.errors import FailedPrecondition, NotFound, StoreUnreachable
from dcron.domain.leadership import Lease
from dcron.domain.model import ClusterSettings
from dcron.domain.nodes import LeaderReport, NodeRecord, node_of
from dcron.domain.pages import page_size, page_token, position_of
from dcron.domain.planning import AHEAD_SECONDS
from dcron.domain.records import Record, Stored, all_unknown
from dcron.domain.validation import check_node_id, shown
from dcron.domain.views import ClusterView, HeldExecution, NodeView
from dcron.ports import CLUSTER, Clock, Document, DocumentStore, WriteKind
from dcron.services.clients.answering import trusted_now
from dcron.services.shared.cluster_settings import merge_settings, read_settings
from dcron.services.shared.node_documents import MAX_NODES, list_nodes
from dcron.services.shared.shared_documents import Form, SharedDocuments
from dcron.services.shared.trouble import StoreTrouble

__all__ = ["ClusterService", "Drain", "ElectorView", "drain_of"]

ALIVE_LEASES = 3
"""Leases after which a node's last renewal no longer speaks for it, while no leader watches."""

OBEDIENCE_LOOKS = 8
"""Looks of a drain at whether its node has taken notice, two in each renewal: four renewals."""

NODES_PAGE = 100
"""Nodes in one page, where the client does not say."""
MAX_HELD = 20
"""Executions of its spool that a node without the store names at most."""

_NODES = "nodes"
"""The one list of nodes there is."""

log = structlog.get_logger()


class ElectorView(Protocol):
    """Knowledge of this node's elector about leadership."""

    @property
    def store_trouble(self) -> StoreTrouble:
        """Whether the document store cannot be reached from here."""

    def record(self) -> NodeRecord:
        """Record of this node as it is now."""

    def summary(self) -> str:
        """In words: who leads, or why nobody does."""

    def leader_id(self) -> str:
        """The leader's node id; empty when there is none."""

    def term(self) -> int:
        """Number of the newest term."""

    def clock_trouble(self) -> str:
        """Reason why this node's wall clock cannot be relied on; empty when it can."""

    def report(self) -> LeaderReport | None:
        """Report of this node while it leads; None while it does not."""


@dataclass(frozen=True, slots=True)
class Drain(Stored):
    """Whether a person wants a node to take no new executions, since when."""

    draining: bool
    at: datetime


_DRAIN = Record(Drain, document="drain", at=PRECISE)


def drain_of(body: Mapping[str, Any]) -> Drain:
    """The drain of a document."""
    return _DRAIN.value(body)


def drained(present: Drain | None, now: datetime, *, draining: bool) -> Drain:
    """The drain once it is said at `now` whether the node drains; as it was if that changes nothing."""
    if present is None:
        return Drain(draining, now)
    return present if present.draining is draining else replace(present, draining=draining, at=now)


def _merge_drains(leaves: Sequence[Drain]) -> Drain:
    """The last word counts; of two at once, the careful one."""
    last = max(leaves, key=lambda drain: (drain.at, drain.draining))
    return replace(last, unknown=all_unknown([*leaves, last]))


DRAIN_FORM = Form(encode=_DRAIN.body, decode=lambda _, body: drain_of(body), merge=_merge_drains)
SETTINGS_FORM = Form(encode=settings_body, decode=lambda _, body: settings_of(body), merge=merge_settings)


class ClusterService:
    """Nodes, drains and the freeze; also tells `Executions` where nodes are reached."""

    def __init__(
        self,
        store: DocumentStore,
        clock: Clock,
        elector: ElectorView,
        held: Callable[[], Iterable[HeldExecution]],
        *,
        lease: Lease | None = None,
    ) -> None:
        """`held` tells what this node's spool holds."""
        self._held = held
        self._store = store
        self._clock = clock
        self._elector = elector
        self._lease = lease or Lease()
        self._drains = SharedDocuments(store, CLUSTER, DRAIN_FORM)
        self._settings = SharedDocuments(store, CLUSTER, SETTINGS_FORM)

    async def nodes(self, asked: int = 0, token: str = "") -> tuple[Sequence[NodeView], str]:
        """A page of the nodes that have joined, by id, and the token of the next one.

        One that joined a moment ago may be missing."""
        size = page_size(asked, NODES_PAGE, MAX_NODES)
        position = position_of(_NODES, token, 1)
        ids = list(await list_nodes(self._store, after=position[0] if position else "", limit=size + 1))
        views = await self._views(ids[:size], await self.report())
        return views, page_token(_NODES, ids[size - 1 : size] if len(ids) > size else ())

    async def drain(self, node_id: str) -> NodeView:
        """Let a node take no new executions; those that run go on. NotFound when it never joined."""
        return await self._set_drain(node_id, draining=True)

    async def undrain(self, node_id: str) -> NodeView:
        """Let a node take executions again."""
        return await self._set_drain(node_id, draining=False)

    async def forget(self, node_id: str) -> None:
        """Remove the document of a node that is gone for good. FailedPrecondition while it may be alive.

        One that starts again after all makes itself another."""
        check_node_id(node_id, "id")
        wanted = [node_key(node_id), drain_id(node_id)]
        leaves, drains = await self._store.read(CLUSTER, wanted)
        record = _record(node_id, leaves)
        if record is None and not drains:
            raise NotFound(f"node {shown(node_id)} not found")
        if record is not None:
            # The leader may not have seen yet that it has started.
            if self._is_alive(record, await self.report()) or self._is_heard_of(record):
                raise FailedPrecondition(f"node {node_id} is alive; stop dcron there first")
            await self._remove(node_id, leaves)
        # Last: a node that turns out to be there keeps its drain.
        await self._remove(node_id, drains)
        log.info("node forgotten", action="forget_node", forgotten=node_id)

    async def _remove(self, node_id: str, leaves: Sequence[Document]) -> None:
        """Remove documents of a node. FailedPrecondition when one has changed since it was read."""
        gone = [Document(leaf.id, {}, leaf.revision, deleted=True) for leaf in leaves]
        results = await self._store.write(CLUSTER, gone) if gone else []
        if any(result.kind is WriteKind.LOST for result in results):
            raise FailedPrecondition(f"node {node_id} has just been heard of; look at it again")
        if not all(result.done for result in results):
            raise StoreUnreachable(f"node {node_id} may or may not have been forgotten; ask again")

    async def status(self) -> ClusterView:
        """The cluster in one answer. StoreUnreachable: then there is `status_of_this_node`."""
        report = await self.report()
        return ClusterView(
            answering_id=self._elector.record().node_id,
            leader_id=self._elector.leader_id(),
            term=self._elector.term(),
            summary=self._elector.summary(),
            nodes=tuple(await self._views(list(await list_nodes(self._store)), report)),
            settings=await read_settings(self._store),
            report=report,
        )

    def status_of_this_node(self, trouble: str) -> ClusterView:
        """Status that this node knows by itself, while `trouble` keeps it from the store."""
        record = self._elector.record()
        known = self._elector.store_trouble
        return ClusterView(
            answering_id=record.node_id,
            leader_id="",
            term=self._elector.term(),
            summary=f"{record.node_id} cannot reach the document store, and does not know who leads",
            nodes=(NodeView(record, alive=True, leading=False, draining=record.draining),),
            settings=None,
            report=LeaderReport(),
            store_trouble=known.reason or trouble,
            store_trouble_since=known.since or self._clock.now(),
            held=tuple(islice(self._held(), MAX_HELD)),
        )

    def concerns(self, view: ClusterView) -> Sequence[Concern]:
        """Concerns about a view of the cluster, the worst first."""
        return concerns_of(view, self._clock.now())

    async def freeze(self) -> ClusterView:
        """Let nothing start anywhere until thawed. Freezing a frozen cluster keeps its instant."""
        await self._set_frozen(frozen=True)
        # What the leader has launched ahead of its instant is due before the answer then.
        await asyncio.sleep(AHEAD_SECONDS)
        return await self.status()

    async def thaw(self) -> ClusterView:
        """Let occurrences start again."""
        await self._set_frozen(frozen=False)
        return await self.status()

    async def address_of(self, node_id: str) -> str | None:
        """Address of a node; None when there is no such node, or it has stopped."""
        record = await self._read_record(node_id)
        return None if record is None or record.stopped else record.address

    async def report(self) -> LeaderReport:
        """Last report of the leader, from its node document; empty when there is no leader."""
        own = self._elector.report()
        if own is not None:
            return own
        leader_id = self._elector.leader_id()
        record = await self._read_record(leader_id) if leader_id else None
        return record.report if record and record.leading and record.report else LeaderReport()

    async def _read_record(self, node_id: str) -> NodeRecord | None:
        [leaves] = await self._store.read(CLUSTER, [node_key(node_id)])
        return _record(node_id, leaves)

    async def _views(self, node_ids: Sequence[str], report: LeaderReport) -> Sequence[NodeView]:
        wanted = [*map(node_key, node_ids), *map(drain_id, node_ids)]
        if not wanted:
            return []
        found = dict(zip(wanted, await self._store.read(CLUSTER, wanted), strict=True))
        views = []
        for node_id in sorted(node_ids):
            record = _record(node_id, found[node_key(node_id)])
            if record is not None:
                views.append(self._view(record, found[drain_id(node_id)], report))
        return views

    def _view(self, record: NodeRecord, drain_leaves: Sequence[Document], report: LeaderReport) -> NodeView:
        drains = [drain_of(leaf.body) for leaf in drain_leaves]
        return NodeView(
            record=record,
            alive=self._is_alive(record, report),
            leading=record.node_id == self._elector.leader_id(),
            draining=_merge_drains(drains).draining if drains else record.draining,
        )

    def _is_alive(self, record: NodeRecord, report: LeaderReport) -> bool:
        """By the word of the leader, which watches it; without one by its last renewal."""
        if record.stopped:
            return False
        return record.node_id in report.alive if report.alive else self._is_heard_of(record)

    def _is_heard_of(self, record: NodeRecord) -> bool:
        """Whether a node that has not stopped has renewed its record lately."""
        if record.stopped:
            return False
        silence = self._clock.now() - record.renewed_at
        return silence < timedelta(seconds=ALIVE_LEASES * self._lease.length_seconds)

    async def _set_drain(self, node_id: str, *, draining: bool) -> NodeView:
        check_node_id(node_id, "id")
        if await self._read_record(node_id) is None:
            raise NotFound(f"node {shown(node_id)} not found")

        async def change(drain: Drain | None) -> Drain:
            return drained(drain, self._clock.now(), draining=draining)

        await self._drains.rewrite(drain_id(node_id), change)
        log.info("drain set", action="drain", drained=node_id, draining=draining)
        await self._await_obedience(node_id, draining=draining)
        views = await self._views([node_id], await self.report())
        if not views:
            raise NotFound(f"node {shown(node_id)} cannot be read just now; ask again")
        return views[0]

    async def _await_obedience(self, node_id: str, *, draining: bool) -> None:
        """Wait until the node itself says so, so that the answer is true of it; a dead one cannot."""
        for _ in range(OBEDIENCE_LOOKS):
            record = await self._read_record(node_id)
            if record is None or record.stopped or record.draining is draining:
                return
            await asyncio.sleep(self._lease.renewal_seconds / 2)

    async def _set_frozen(self, *, frozen: bool) -> None:
        now = trusted_now(self._clock, self._elector.clock_trouble())

        async def change(settings: ClusterSettings | None) -> ClusterSettings:
            present = settings or INITIAL_SETTINGS
            said = replace(present, said_at=now, sequence=present.sequence + 1)
            if present.frozen is frozen:
                return said
            return replace(
                said,
                frozen=frozen,
                frozen_at=now if frozen else present.frozen_at,
                thawed_at=None if frozen else now,
            )

        await self._settings.rewrite(SETTINGS_ID, change)
        log.info("freeze set", action="freeze", frozen=frozen)


def _record(node_id: str, leaves: Sequence[Document]) -> NodeRecord | None:
    """The node's own last word, should a split store have kept several."""
    records = [node_of(node_id, leaf.body) for leaf in leaves]
    return max(records, key=lambda record: record.renewed_at, default=None)
