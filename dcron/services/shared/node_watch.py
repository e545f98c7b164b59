"""Watch over the nodes that are alive: by new revisions of their documents, on the watcher's own clock. The
settings of the cluster are read along with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dcron.domain.documents import SETTINGS_ID, node_key
from dcron.domain.nodes import NodeRecord, node_of
from dcron.domain.placement import Candidate
from dcron.ports import CLUSTER, Clock, DocumentStore
from dcron.services.shared.cluster_settings import KnownSettings
from dcron.services.shared.node_documents import list_nodes

__all__ = ["NodeWatch"]

LISTING_ROUNDS = 2
"""Refreshes for one listing: only a node that was never there before is found by it."""


@dataclass(slots=True)
class _Seen:
    record: NodeRecord
    revision: str
    changed_at: float


class NodeWatch:
    """Node records, and since when (monotonic) each has not changed."""

    def __init__(
        self,
        store: DocumentStore,
        clock: Clock,
        *,
        lease_seconds: float,
        silent: Mapping[str, str] | None = None,
    ) -> None:
        """`silent` names nodes that have already stayed at a revision for a lease."""
        self._store = store
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._silent = dict(silent or {})
        self._seen: dict[str, _Seen] = {}
        self._rounds = 0
        self.settings = KnownSettings(store)

    async def refresh(self) -> None:
        """Read all node documents and the settings from a quorum. A node seen for the first time is given a
        lease, unless it is known to be silent."""
        now = self._clock.monotonic()
        wanted = sorted({*await self._listed(), *self._seen})
        settings, *found = await self._store.read(CLUSTER, [SETTINGS_ID, *map(node_key, wanted)])
        self.settings.take(settings)
        for node_id, leaves in zip(wanted, found, strict=True):
            if leaves:
                self._take(node_of(node_id, leaves[0].body), leaves[0].revision or "", now)
            elif node_id in self._seen and not self._is_alive(self._seen[node_id]):
                # One copy that does not know of a node does not end its life. Its silence does.
                del self._seen[node_id]

    async def _listed(self) -> list[str]:
        """Ids of the nodes, in every other round."""
        self._rounds += 1
        if self._seen and self._rounds % LISTING_ROUNDS:
            return []
        return list(await list_nodes(self._store))

    def _take(self, record: NodeRecord, revision: str, now: float) -> None:
        seen = self._seen.get(record.node_id)
        if seen is None or seen.revision != revision:
            is_silent = seen is None and self._silent.get(record.node_id) == revision
            changed_at = now - self._lease_seconds if is_silent else now
            self._seen[record.node_id] = _Seen(record, revision, changed_at)

    def _is_alive(self, seen: _Seen) -> bool:
        silent_seconds = self._clock.monotonic() - seen.changed_at
        return not seen.record.stopped and silent_seconds < self._lease_seconds

    def alive(self) -> frozenset[str]:
        """Ids of the nodes that renewed within the lease."""
        return frozenset(node_id for node_id, seen in self._seen.items() if self._is_alive(seen))

    def address(self, node_id: str) -> str | None:
        """Address of a live node; None when it is not alive."""
        seen = self._seen.get(node_id)
        return seen.record.address if seen and self._is_alive(seen) else None

    def workers(self) -> list[Candidate]:
        """Live nodes that take new executions, in a fixed order for round-robin."""
        return [
            Candidate(node_id, seen.record.address, seen.record.labels)
            for node_id, seen in sorted(self._seen.items())
            if self._is_alive(seen) and not seen.record.draining
        ]
