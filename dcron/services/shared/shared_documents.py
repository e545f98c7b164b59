"""Rewriting documents that several nodes write, in a store whose updates may go onto any branch.

A change is answered only after a plain success of its own over the one branch there is. What was lost
to another writer is done again on what that one wrote; what was stored without a quorum is read again
and written over; branches that a split left are merged first.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from dcron.domain.errors import InvalidInput, Overloaded, StoreUnreachable
from dcron.ports import Document, DocumentStore, WriteKind, WriteResult

__all__ = ["MAX_TRIES", "Form", "SharedDocuments", "doubt"]

MAX_TRIES = 10
"""Rounds of read and write that one change takes at most."""
RETRY_SECONDS = 0.02
"""Longest wait before the second round; grows by this much with each further one."""

log = structlog.get_logger()
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Form(Generic[Value]):
    """Form of one kind of document: how it is written down, and how two or more branches become one."""

    encode: Callable[[Value], Mapping[str, Any]]
    decode: Callable[[str, Mapping[str, Any]], Value]
    merge: Callable[[Sequence[Value]], Value]


class SharedDocuments(Generic[Value]):
    """Documents of one kind in one database."""

    def __init__(self, store: DocumentStore, database: str, form: Form[Value]) -> None:
        self._store = store
        self._database = database
        self._form = form

    async def read(self, identifier: str) -> Value | None:
        """The document as a quorum has it, its branches merged without writing; None where there is none."""
        [leaves] = await self._store.read(self._database, [identifier])
        return self._merged(leaves) if leaves else None

    async def rewrite(self, identifier: str, change: Callable[[Value | None], Awaitable[Value]]) -> Value:
        """Write what `change` makes of the document (None where there is none), until that is certain.

        `change` is called again after a lost or unsure write, then with what is stored by now; it ends
        the matter by raising. Even an unchanged value is written: what was read may be on one copy only.
        Overloaded when others are always first; StoreUnreachable when it may or may not be stored."""
        unsure = False
        for round_number in range(MAX_TRIES):
            await _wait(round_number)
            with doubt(identifier, in_doubt=unsure):
                leaves = await self._one_leaf(identifier)
                if len(leaves) > 1:
                    continue
                value = await change(self._merged(leaves) if leaves else None)
            document = Document(identifier, self._form.encode(value), leaves[0].revision if leaves else None)
            with doubt(identifier, in_doubt=True):
                [result] = await self._store.write(self._database, [document])
            if result.done:
                return value
            _raise_if_rejected(identifier, result)
            unsure = unsure or result.kind is WriteKind.UNSURE
        raise _exhausted(identifier, unsure=unsure)

    async def remove(self, identifier: str, before: Callable[[Value], Awaitable[None]]) -> Value | None:
        """Delete the document on all branches and return what it was; None where there was none.

        `before` is awaited with each value that is about to be deleted, and may raise to end the matter."""
        value: Value | None = None
        unsure = False
        for round_number in range(MAX_TRIES):
            await _wait(round_number)
            with doubt(identifier, in_doubt=unsure):
                [leaves] = await self._store.read(self._database, [identifier])
                if not leaves:
                    break
                value = self._merged(leaves)
                await before(value)
            with doubt(identifier, in_doubt=True):
                results = await self._store.write(self._database, [_deletion(leaf) for leaf in leaves])
            if all(result.done for result in results):
                return value
            unsure = unsure or any(result.kind is WriteKind.UNSURE for result in results)
        else:
            raise _exhausted(identifier, unsure=unsure)
        if unsure:
            # There is nothing left to write over, so nothing tells whether a quorum knows of it.
            raise StoreUnreachable(f"{identifier!r} was removed on one copy of the store only; ask again")
        return value

    async def _one_leaf(self, identifier: str) -> Sequence[Document]:
        """The leaves of a document; more than one were just merged and have to be read again."""
        [leaves] = await self._store.read(self._database, [identifier])
        if len(leaves) > 1:
            winner, *losers = leaves
            log.warning("merging branches", action="merge_leaves", id=identifier, leaves=len(leaves))
            merged = Document(identifier, self._form.encode(self._merged(leaves)), winner.revision)
            [result] = await self._store.write(self._database, [merged])
            # Only what the merged branch is certain to hold may go.
            if result.done:
                await self._store.write(self._database, [_deletion(leaf) for leaf in losers])
        return leaves

    def _merged(self, leaves: Sequence[Document]) -> Value:
        values = [self._form.decode(leaf.id, leaf.body) for leaf in leaves]
        return values[0] if len(values) == 1 else self._form.merge(values)


class _InDoubtError(StoreUnreachable):
    """A change may or may not have been made, and the message says so."""


@contextmanager
def doubt(identifier: str, *, in_doubt: bool) -> Iterator[None]:
    """Say in StoreUnreachable that the change may be stored, where that is so and not said yet."""
    try:
        yield
    except StoreUnreachable as error:
        if not in_doubt or isinstance(error, _InDoubtError):
            raise
        raise _InDoubtError(f"{error}; the change of {identifier!r} may or may not have been made") from error


def _deletion(leaf: Document) -> Document:
    return Document(leaf.id, {}, leaf.revision, deleted=True)


async def _wait(round_number: int) -> None:
    if round_number:
        await asyncio.sleep(random.uniform(0, RETRY_SECONDS * round_number))


def _raise_if_rejected(identifier: str, result: WriteResult) -> None:
    if result.kind is WriteKind.REJECTED:
        raise InvalidInput("specification", f"{identifier!r} cannot be stored: {result.reason}")


def _exhausted(identifier: str, *, unsure: bool) -> Exception:
    if unsure:
        return _InDoubtError(
            f"the store does not confirm writes at present; the change of {identifier!r} may or may not "
            "have been made"
        )
    return Overloaded(f"{identifier!r} is being changed by others all the time; try again shortly")
