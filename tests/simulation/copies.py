"""One copy of the document store: revision trees with branches, as a CouchDB node keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dcron.ports import Document

__all__ = ["Copy", "NewRevision", "Revision", "Tree", "created", "document", "winner_first"]

KEPT_WINNERS = 20
"""Earlier winners that a tree remembers for stale listings: more than are written within their lag."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of a document; `id` is made of its content and parent, so that copies agree on it."""

    id: str
    parent: str | None
    deleted: bool
    body: Mapping[str, Any]

    @property
    def rank(self) -> tuple[bool, int, str]:
        """The winner of several leaves is the one with the highest rank, on every copy alike."""
        generation, _, digest = self.id.partition("-")
        return not self.deleted, int(generation), digest


class NewRevision:
    """What a client wants stored; each copy makes the revision by itself, and alike."""

    def __init__(self, wanted: Document, text: bytes) -> None:
        self.wanted = wanted
        self._text = text
        self._made: dict[str | None, Revision] = {}

    def under(self, parent: str | None) -> Revision:
        """The revision that it becomes with this parent."""
        if parent not in self._made:
            generation = 1 + int(parent.partition("-")[0]) if parent else 1
            content = b"%s %s " % (str(parent).encode(), str(self.wanted.deleted).encode()) + self._text
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            self._made[parent] = Revision(
                f"{generation}-{digest}", parent, self.wanted.deleted, self.wanted.body
            )
        return self._made[parent]


@dataclass(slots=True)
class Tree:
    """All revisions of one document that a copy knows."""

    revisions: dict[str, Revision] = field(default_factory=dict)
    parents: set[str] = field(default_factory=set)
    leaves: dict[str, Revision] = field(default_factory=dict)
    winners: list[tuple[float, Revision]] = field(default_factory=list)
    """When each became the winner, oldest first."""

    @property
    def winner(self) -> Revision:
        """What a plain read shows."""
        return self.winners[-1][1]

    @property
    def is_branched(self) -> bool:
        """Whether more than one leaf is alive."""
        return sum(not leaf.deleted for leaf in self.leaves.values()) > 1

    def winner_at(self, at: float) -> Revision | None:
        """What a plain read showed at an earlier time; None when there was nothing."""
        return next((revision for since, revision in reversed(self.winners) if since <= at), None)

    def add(self, revision: Revision, at: float) -> None:
        """Take in a revision, whose parent may be unknown here."""
        self.revisions[revision.id] = revision
        if revision.parent is not None:
            self.parents.add(revision.parent)
            self.leaves.pop(revision.parent, None)
        if revision.id not in self.parents:
            self.leaves[revision.id] = revision
        best = max(self.leaves.values(), key=lambda leaf: leaf.rank)
        if not self.winners or self.winner is not best:
            self.winners.append((at, best))
            del self.winners[:-KEPT_WINNERS]


class Copy:
    """One node of the store. `up`: others know whether it is; `hung`: it takes requests and does nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = True
        self.hung = False
        self.databases: dict[str, dict[str, Tree]] = {}
        self.logs: dict[str, list[tuple[float, str]]] = {}

    def tree(self, database: str, document_id: str) -> Tree | None:
        """The tree of a document, None where this copy knows nothing of it."""
        return self.databases.get(database, {}).get(document_id)

    def write(self, database: str, new: NewRevision, at: float) -> Revision | None:
        """Store a client's write; None is a conflict. What is updated need not be the winner."""
        wanted = new.wanted
        tree = self.tree(database, wanted.id)
        parent = wanted.revision
        if tree is None:
            pass
        elif parent is not None:
            if parent not in tree.leaves or tree.leaves[parent].deleted:
                return None
        elif tree.winner.deleted:
            parent = tree.winner.id
        else:
            return None
        revision = new.under(parent)
        self.take(database, wanted.id, revision, at)
        return revision

    def take(self, database: str, document_id: str, revision: Revision, at: float) -> bool:
        """Take in a revision that a client or another copy brings; False when it is known already."""
        tree = self.databases.setdefault(database, {}).setdefault(document_id, Tree())
        if revision.id in tree.revisions:
            return False
        tree.add(revision, at)
        self.logs.setdefault(database, []).append((at, document_id))
        return True

    def listed(self, database: str, at: float) -> Iterator[Document]:
        """The documents that were there at a time, in no order."""
        for document_id, tree in self.databases.get(database, {}).items():
            winner = tree.winner_at(at)
            if winner is not None and not winner.deleted:
                yield document(document_id, winner)


def document(document_id: str, revision: Revision) -> Document:
    """A revision as the port gives it."""
    return Document(document_id, revision.body, revision.id, revision.deleted)


def created(document: Document) -> Revision:
    """The revision of a document that was read and never updated."""
    return Revision(document.revision or "", None, document.deleted, document.body)


def winner_first(trees: list[Tree]) -> list[Revision]:
    """The live leaves of what several copies know together."""
    first, *others = trees
    leaves = dict(first.leaves)
    for tree in others:
        if tree.leaves.keys() != first.leaves.keys():
            leaves |= tree.leaves
    alive = [
        leaf
        for key, leaf in leaves.items()
        if not leaf.deleted and not any(key in tree.parents for tree in trees)
    ]
    return sorted(alive, key=lambda leaf: leaf.rank, reverse=True)
