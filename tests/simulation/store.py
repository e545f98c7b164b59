"""The document store as a cluster of three copies: quorums, 202, branches, replication between the copies.

A write goes to every copy that its coordinator can reach, and each decides for itself; stored by two is
stored, and stored by one is a 202, whatever the others say. What that leads to (a loser's body on one copy,
nobody's win, an update of either branch) is not scripted here: it follows, as it does in CouchDB, and
tests/contract/test_simulated_store.py finds out whether it does so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from dcron.adapters.documents import UnstorableError, encode
from dcron.domain.errors import StoreUnreachable
from dcron.ports import CLUSTER, JOBS, Document, WriteKind, WriteResult
from tests.simulation.copies import Copy, NewRevision, Revision, Tree, created, document, winner_first
from tests.simulation.history import History, Stored
from tests.simulation.loop import VirtualLoop

__all__ = ["Cluster"]

COPIES = ("couch1", "couch2", "couch3")
QUORUM = 2
COPY_SECONDS = (0.0005, 0.004)
"""How long a copy takes for a request when all is well,"""
SLOWER = 10
"""or so many times as long, now and then:"""
SLOWER_SHARE = 0.1
SYNC_SECONDS = (0.2, 8.0)
"""When replication between copies gets to a document that they do not all have,"""
PUSHED = 0.8
"""and the share of copies that it gets to then; the others come later."""


class Cluster:
    """Three copies and what is between them. The conditions are set by the plan of faults."""

    def __init__(self, loop: VirtualLoop, random: Random, history: History) -> None:
        self._loop = loop
        self._random = random
        self._history = history
        self.copies = [Copy(name) for name in COPIES]
        self.isolated: set[str] = set()
        """Copies that nodes reach but other copies do not."""
        self.slow_seconds = 0.0
        """What each copy may take beyond the usual."""
        self._changed: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._seen: set[tuple[str, str, str]] = set()
        self._never = asyncio.Event()

    # What copies are there.

    def reachable_from(self, coordinator: Copy) -> list[Copy]:
        """The copies that a coordinator can ask."""
        return [
            copy
            for copy in self.copies
            if copy is coordinator
            or (copy.up and copy.name not in self.isolated and coordinator.name not in self.isolated)
        ]

    def databases(self, copy: Copy) -> list[str]:
        """Names of the databases that hold anything; making one is immediate on all copies."""
        return [name for name in copy.databases if name not in {JOBS, CLUSTER}]

    # Requests, carried out whether or not anybody waits for them any more.

    async def write(
        self, coordinator: Copy, database: str, documents: Sequence[Document]
    ) -> list[WriteResult]:
        """What becomes of each document; StoreUnreachable when no copy said anything."""
        results: dict[int, WriteResult] = {}
        request = _Write(self._loop, database)
        for position, each in enumerate(documents):
            try:
                text = encode(each)
            except UnstorableError as error:
                results[position] = WriteResult(WriteKind.REJECTED, reason=str(error))
                continue
            if each.revision is not None and not self._exists(coordinator, database, each.id):
                results[position] = WriteResult(WriteKind.LOST)
                continue
            request.wanted[position] = NewRevision(each, text)
        if request.wanted:
            results |= await self._ask_all(coordinator, request)
        return [results[position] for position in range(len(documents))]

    def _exists(self, coordinator: Copy, database: str, document_id: str) -> bool:
        return any(copy.tree(database, document_id) for copy in self.reachable_from(coordinator))

    async def _ask_all(self, coordinator: Copy, request: _Write) -> dict[int, WriteResult]:
        copies = self.reachable_from(coordinator)
        request.open = len(copies)
        for copy in copies:
            self._later(copy, request, self._apply)
        await request.answered
        return request.results()

    def _later(self, copy: Copy, request: _Write, act: Callable[[Copy, _Write], None]) -> None:
        self._loop.call_later(self._copy_seconds(), act, copy, request)

    def _copy_seconds(self) -> float:
        seconds = self._random.uniform(*COPY_SECONDS)
        if self._random.random() < SLOWER_SHARE:
            seconds *= SLOWER
        return seconds + (self._random.uniform(0, self.slow_seconds) if self.slow_seconds else 0.0)

    def _apply(self, copy: Copy, request: _Write) -> None:
        if copy.hung:
            if not request.hangs:
                # The others do not wait for it to tell each other.
                request.hangs = True
                self._replicate_soon(request)
            self._loop.call_later(0.1, self._apply, copy, request)
            return
        if not copy.up:
            request.take(copy.name, None)
            self._replicate_later(request)
            return
        replies = {}
        for position, new in request.wanted.items():
            revision = copy.write(request.database, new, self._loop.time())
            replies[position] = revision
            if revision is not None:
                self._note(request.database, new.wanted.id, revision)
        request.take(copy.name, replies)
        self._wake(copy, request.database)
        self._replicate_later(request)

    def _note(self, database: str, document_id: str, revision: Revision) -> None:
        key = (database, document_id, revision.id)
        if key not in self._seen:
            self._seen.add(key)
            self._history.add(
                Stored(
                    self._loop.time(),
                    database,
                    document_id,
                    revision.id,
                    revision.parent,
                    revision.deleted,
                    revision.body,
                )
            )

    async def read(self, coordinator: Copy, database: str, ids: Sequence[str]) -> list[tuple[Document, ...]]:
        """All live leaves that two copies know together, once the last one asked knows all of them; if none
        does, that all copies know which are not known to be down."""
        copies = self.reachable_from(coordinator)
        asked = self._random.sample(copies, len(copies))
        answering = [copy for copy in asked if not copy.hung]
        found: dict[str, tuple[Document, ...]] = {}
        trees: dict[str, list[Tree | None]] = {each: [] for each in ids}
        waited = 0.0
        for copy, at in zip(answering, sorted(self._copy_seconds() for _ in answering), strict=True):
            await asyncio.sleep(at - waited)
            waited = at
            for each in trees.keys() - found.keys():
                trees[each].append(copy.tree(database, each))
                if _is_answered(trees[each], len(copies)):
                    found[each] = _leaves(each, trees[each])
            if len(found) == len(trees):
                return [found[each] for each in ids]
        # One that hangs is waited for until the caller gives up.
        await self._never.wait()
        raise StoreUnreachable("a copy hung for ever")

    async def confirm(self, coordinator: Copy, database: str, documents: Sequence[Document]) -> list[bool]:
        """Whether a quorum has these revisions, once every copy that can be reached was sent them."""
        copies = self.reachable_from(coordinator)
        answering = [copy for copy in copies if not copy.hung]
        if len(answering) < min(QUORUM, len(copies)):
            # One that hangs is waited for until the caller gives up.
            await self._loop.create_future()
        await asyncio.sleep(max(self._copy_seconds() for _ in answering))
        kept_by = [copy for copy in answering if copy.up]
        for copy in kept_by:
            for each in documents:
                copy.take(database, each.id, created(each), self._loop.time())
            self._wake(copy, database)
        return [len(kept_by) >= QUORUM] * len(documents)

    # Between the copies.

    def _replicate_later(self, request: _Write) -> None:
        """Once all have spoken, and unless all have the same, bring it to the others some time."""
        if request.open or (len(request.replies) == len(COPIES) and request.is_unanimous()):
            return
        self._replicate_soon(request)

    def _replicate_soon(self, request: _Write) -> None:
        for new in request.wanted.values():
            self._loop.call_later(
                self._random.uniform(*SYNC_SECONDS), self._replicate, request.database, new.wanted.id
            )

    def _replicate(self, database: str, document_id: str) -> None:
        connected = [
            copy for copy in self.copies if copy.up and not copy.hung and copy.name not in self.isolated
        ]
        left = len(connected) < len(COPIES)
        for source in connected:
            tree = source.tree(database, document_id)
            for target in connected:
                if tree is None or source is target:
                    continue
                if self._random.random() < PUSHED:
                    self._push(tree, target, database, document_id)
                else:
                    left = True
        if left:
            self._loop.call_later(self._random.uniform(*SYNC_SECONDS), self._replicate, database, document_id)

    def _push(self, tree: Tree, target: Copy, database: str, document_id: str) -> None:
        taken = [
            target.take(database, document_id, revision, self._loop.time())
            for revision in list(tree.revisions.values())
        ]
        if any(taken):
            self._wake(target, database)

    # Changes feeds.

    def _wake(self, copy: Copy, database: str) -> None:
        waiting = self._changed.pop((copy.name, database), None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def change_of(self, copy: Copy, database: str) -> asyncio.Future[None]:
        """Done at the next change of a database on a copy; shield it, for others wait for it too."""
        key = (copy.name, database)
        waiting = self._changed.get(key)
        if waiting is None:
            waiting = self._changed[key] = self._loop.create_future()
        return waiting


def _is_answered(trees: list[Tree | None], copies: int) -> bool:
    """Whether what some copies know is the answer, when that of the last one has just come."""
    if len(trees) == copies:
        return True
    last = trees[-1].leaves.keys() if trees[-1] is not None else set()
    together = {leaf for tree in trees if tree is not None for leaf in tree.leaves}
    return len(trees) >= QUORUM and last == together


def _leaves(document_id: str, trees: list[Tree | None]) -> tuple[Document, ...]:
    known = [tree for tree in trees if tree is not None]
    return tuple(document(document_id, leaf) for leaf in winner_first(known)) if known else ()


class _Write:
    """One write request on its way through the copies."""

    def __init__(self, loop: VirtualLoop, database: str) -> None:
        self.database = database
        self.wanted: dict[int, NewRevision] = {}
        self.replies: dict[str, dict[int, Revision | None]] = {}
        self.open = 0
        self.hangs = False
        self.answered: asyncio.Future[None] = loop.create_future()

    def take(self, copy: str, replies: dict[int, Revision | None] | None) -> None:
        """Take in what one copy said; None when it went away before it said anything."""
        self.open -= 1
        if replies is not None:
            self.replies[copy] = replies
        if not self.answered.done() and (self.open == 0 or all(map(self._stored, self.wanted))):
            self.answered.set_result(None)

    def _said(self, position: int) -> list[str | None]:
        return [
            revision.id if revision else None
            for revision in (replies[position] for replies in self.replies.values())
        ]

    def _stored(self, position: int) -> str | None:
        """The revision that a quorum has stored. Refusals make no quorum: they have to come from all."""
        counted = Counter(answer for answer in self._said(position) if answer is not None)
        return next((revision for revision, count in counted.items() if count >= QUORUM), None)

    def is_unanimous(self) -> bool:
        """Whether all copies that answered stored the same, or all refused."""
        return all(len(set(self._said(position))) == 1 for position in self.wanted)

    def results(self) -> dict[int, WriteResult]:
        """What the client is told, as CouchDB's coordinator puts it together."""
        return {position: self._result(position) for position in self.wanted}

    def _result(self, position: int) -> WriteResult:
        said = self._said(position)
        if not said:
            raise StoreUnreachable("no copy answered")
        sure = self._stored(position)
        if sure is not None:
            return WriteResult(WriteKind.DONE, sure)
        # One copy is enough for a 202, even where all others refuse.
        stored = [answer for answer in said if answer is not None]
        return WriteResult(WriteKind.UNSURE, stored[0]) if stored else WriteResult(WriteKind.LOST)
