"""Belief of a node about the newest term: read from a quorum, and claimed by creating its document.

The rules are in dcron.domain.leadership; here they meet the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from dcron.domain.documents import SETTINGS_ID, drain_id, node_key, term_key
from dcron.domain.errors import StoreUnreachable
from dcron.domain.instants import format_precise
from dcron.domain.leadership import Reading, TermView, claims_since, observe, silent_holder
from dcron.domain.nodes import NodeRecord, node_of
from dcron.ports import CLUSTER, Clock, Document, DocumentStore, WriteKind
from dcron.services.shared.cluster_settings import check_format, settings_in
from dcron.services.shared.node_state import LocalState

__all__ = ["Terms"]

MAX_TERM_STEPS = 100
"""Terms looked at in one reading; the newest is found by stepping up from a listing's hint."""

_CLAIMED = {
    WriteKind.DONE: "claimed the next term",
    WriteKind.LOST: "another node claimed the next term first",
    WriteKind.UNSURE: "the store does not confirm the claim of the next term",
    WriteKind.REJECTED: "the store rejects the claim of the next term",
}

log = structlog.get_logger()


class Terms:
    """The newest term as this node has seen it. What else a reading brings, its drain and the floor, goes to
    `local`."""

    def __init__(self, store: DocumentStore, clock: Clock, local: LocalState, record: NodeRecord) -> None:
        """`record` says who this node is; only what never changes of it is used."""
        self._store = store
        self._clock = clock
        self._local = local
        self._node_id = record.node_id
        self._incarnation = record.incarnation
        self._version = record.version
        self._won = 0
        self.view: TermView | None = None
        """None before the first reading, and while no term has been claimed."""
        self.silent: Mapping[str, str] = {}
        """Of the term that was won last: see `Leadership.silent`."""
        self.claims_since: Mapping[str, float] = {}
        """What the leaders so far have told: see `Leadership.claims_since`."""

    def held(self) -> int:
        """The term this node won with a plain success, if it is the newest; 0 otherwise."""
        if self.view is None or self.view.reading.holder_incarnation != self._incarnation:
            return 0
        return self.view.reading.term

    async def read(self) -> None:
        """Read from a quorum: the newest term, its holder's document, our drain, the settings.

        Raises StoreUnreachable, and SetupError when a newer dcron has taken the cluster."""
        if self.view is None:
            hint = await self._store.range(CLUSTER, "term:", "term;", limit=1, descending=True)
            term = int(hint[0].id.split(":")[1]) if hint else 0
        else:
            term = self.view.reading.term
        for _ in range(MAX_TERM_STEPS):
            newer = await self._read_once(term)
            if newer is None:
                return
            term = newer
        raise StoreUnreachable(f"more than {MAX_TERM_STEPS} terms went by in one reading")

    async def _read_once(self, term: int) -> int | None:
        """Take in a term; the next one when it exists already."""
        holder_id = self.view.reading.holder_id if self.view else ""
        ids = [
            term_key(term),
            term_key(term + 1),
            drain_id(self._node_id),
            SETTINGS_ID,
            node_key(holder_id or self._node_id),
        ]
        current, following, drain, settings, holder = await self._store.read(CLUSTER, ids)
        if drain:
            # Such documents are never removed: one that is missing has not come to this copy yet.
            self._set_draining(draining=bool(drain[0].body["draining"]))
        chosen = settings_in(settings)
        check_format(chosen, self._version)
        self._local.saw_floor(chosen.floor)
        if following:
            return term + 1
        if not current:
            return None
        assert self.view is None or term >= self.view.reading.term, "terms go up"
        self._local.saw_term(term)
        holder_now = str(current[0].body["node"])
        if holder_now != holder_id:
            [holder] = await self._store.read(CLUSTER, [node_key(holder_now)])
        reading = self._reading(term, holder_now, str(current[0].body["token"]), holder)
        self.view = observe(self.view, reading, self._clock.monotonic())
        return None

    def _reading(self, term: int, holder_id: str, incarnation: str, holder: Sequence[Document]) -> Reading:
        """A term beside the leaves of its holder's document, which may be of another incarnation by now."""
        record = node_of(holder_id, holder[0].body) if holder else None
        same = record is not None and record.incarnation == incarnation
        if record is not None and same and record.leading == term:
            self._learn_claims(record)
        unsure = incarnation == self._incarnation and term != self._won
        return Reading(
            term=term,
            holder_id=holder_id,
            # A term of ours without a plain success is nobody's: whoever else may hold it, we do not.
            holder_incarnation="" if unsure else incarnation,
            holder_revision=(holder[0].revision or "") if holder else "",
            holder_leading=record.leading if record and same else 0,
            holder_resigned=record.resigned if record and same else 0,
        )

    def _learn_claims(self, leader: NodeRecord) -> None:
        told = leader.report.claims_known_seconds if leader.report is not None else None
        if told is not None:
            self.claims_since = claims_since(self.claims_since, told, self._clock.monotonic())

    def _set_draining(self, *, draining: bool) -> None:
        if draining is not self._local.draining:
            log.info("drained: takes nothing new" if draining else "takes executions again", action="drain")
            self._local.draining = draining

    async def claim(self) -> bool:
        """Try to become the holder of the next term; losing is fine, and is followed by a reading."""
        term = (self.view.reading.term if self.view else 0) + 1
        body = {
            "kind": "term",
            "node": self._node_id,
            "token": self._incarnation,
            "claimed_at": format_precise(self._clock.now()),
        }
        silent = silent_holder(self.view, self._incarnation)
        [result] = await self._store.write(CLUSTER, [Document(term_key(term), body)])
        log.info(_CLAIMED[result.kind], action="claim_term", term=term)
        if not result.done:
            await self.read()
            return False
        self._won, self.silent = term, silent
        self._local.saw_term(term)
        mine = Reading(term, self._node_id, self._incarnation)
        self.view = observe(self.view, mine, self._clock.monotonic())
        return True
