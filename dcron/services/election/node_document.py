"""This node's own document in the cluster, which no other node may write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from dcron.domain.documents import node_key
from dcron.domain.errors import SetupError
from dcron.domain.nodes import LeaderReport, NodeRecord, node_body, node_of
from dcron.ports import CLUSTER, Clock, Document, DocumentStore, WriteKind
from dcron.services.shared.trouble import Trouble

__all__ = ["OwnDocument", "Workload"]

TRIES = 2
"""Writes in one renewal: the second one over a revision that was read again."""
UNCONFIRMED = (
    "nothing new starts, since the document store confirms no writes: fewer than a majority of its copies "
    "take them; bring the CouchDB nodes back that are down"
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Workload:
    """Figures that a renewal tells of the node's other role."""

    running: int
    spooled: int
    warnings: tuple[str, ...]
    spooled_since: datetime | None = None


class OwnDocument:
    """What this node says of itself; the document of one node id, and how two nodes under one id find out."""

    def __init__(
        self,
        store: DocumentStore,
        clock: Clock,
        record: NodeRecord,
        workload: Callable[[], Workload],
        hindrance: Callable[[], str],
    ) -> None:
        """`record` is what is said first. `hindrance` says why this node may not lead, in words."""
        self._store = store
        self._clock = clock
        self._workload = workload
        self._hindrance = hindrance
        self._unconfirmed = Trouble(
            "renew", "the store confirms none of this node's writes", "the store confirms writes again"
        )
        self.record = record
        """As it was said last, or is about to be."""
        self._node_id = record.node_id
        self._key = node_key(record.node_id)
        self._revision: str | None = None
        self._losing: list[str] = []
        """Revisions of branches beside the winning one, that a split store left."""

    async def check_unique(self, lease_seconds: float) -> None:
        """Raises SetupError when another living node has this id: it shows itself by renewing within a lease.

        A document of this very spool is our own predecessor's, whose folder we could lock."""
        leaf = await self._leaf()
        if leaf is None:
            return
        self._revision = leaf.revision
        before = node_of(self._node_id, leaf.body)
        if before.stopped or before.spool_id == self.record.spool_id:
            return
        log.info("waiting to see whether this id is in use", action="join", node=self._node_id)
        await asyncio.sleep(lease_seconds)
        leaf = await self._leaf()
        if leaf is not None and leaf.revision != self._revision:
            raise SetupError(
                f"node id {self._node_id!r} is in use at {before.address}: give each node its own"
            )

    def present(self) -> NodeRecord:
        """What was said last, with the workload and the warnings of now."""
        workload = self._workload()
        warnings = (*workload.warnings, self._hindrance(), self._unconfirmed.reason)
        return replace(
            self.record,
            running=workload.running,
            spooled=workload.spooled,
            spooled_since=workload.spooled_since,
            warnings=tuple(filter(None, warnings)),
        )

    async def renew(self, *, draining: bool, leading: int, report: LeaderReport | None) -> float | None:
        """Say that this node lives; the boot time from before the write, or None without a plain success.

        Raises SetupError when a newer node has taken this id, or the store will never take the document."""
        self.record = replace(
            self.present(),
            renewed_at=self._clock.now(),
            draining=draining,
            leading=leading,
            report=report,
        )
        renewed_boottime = await self._write()
        if renewed_boottime is None:
            self._unconfirmed.met(UNCONFIRMED)
        else:
            self._unconfirmed.over()
        return renewed_boottime

    def resign(self, term: int) -> None:
        """Give a term up in what is said next."""
        self.record = replace(self.record, leading=0, resigned=term, report=None)

    async def stop(self) -> None:
        """Say that this node has stopped. Raises as `renew` does."""
        self.record = replace(self.record, stopped=True, renewed_at=self._clock.now())
        await self._write()

    async def _write(self) -> float | None:
        for _ in range(TRIES):
            began_boottime = self._clock.boottime()
            if await self._write_once(self.record):
                return began_boottime
        return None

    async def _write_once(self, record: NodeRecord) -> bool:
        """Write once. Without a plain success the revision is read again: an earlier write of ours may have
        arrived though its answer did not."""
        [result] = await self._store.write(CLUSTER, [Document(self._key, node_body(record), self._revision)])
        if result.done:
            self._revision = result.revision
            await self._remove_losing()
            return True
        if result.kind is WriteKind.REJECTED:
            raise SetupError(f"the store rejects this node's document: {result.reason}")
        leaf = await self._leaf()
        if leaf is not None and leaf.body["token"] != record.incarnation and self._revision is not None:
            other = node_of(self._node_id, leaf.body)
            if other.started_at > record.started_at and not _is_same_node(other, record):
                raise SetupError(
                    f"node id {self._node_id!r} was taken by {other.address}: give each node its own"
                )
        self._revision = leaf.revision if leaf else None
        return False

    async def _leaf(self) -> Document | None:
        """Its winning leaf; the other ones are noted."""
        [leaves] = await self._store.read(CLUSTER, [self._key])
        self._losing = [leaf.revision for leaf in leaves[1:] if leaf.revision]
        return leaves[0] if leaves else None

    async def _remove_losing(self) -> None:
        """Once the winner is on a quorum, not before: a copy with only the loser would have nothing left."""
        if self._losing:
            losers = [Document(self._key, {}, revision, deleted=True) for revision in self._losing]
            await self._store.write(CLUSTER, losers)
            self._losing = []


def _is_same_node(other: NodeRecord, record: NodeRecord) -> bool:
    """Whether a record is of an earlier start of this very node, whose clock may have been ahead then. A copy
    of its machine has its spool too, but hardly its address."""
    return (other.spool_id, other.address) == (record.spool_id, record.address)
