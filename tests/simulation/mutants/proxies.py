"""Stores and clocks that lie to one part of the product, so that a mutant can put them there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from dcron.domain.errors import StoreUnreachable
from dcron.ports import Clock, Document, DocumentStore, WriteKind, WriteResult

__all__ = [
    "CredulousStore",
    "ExtendingStore",
    "GenerousStore",
    "ListingStore",
    "OptimisticStore",
    "WallClock",
    "giving",
    "together",
]


MOST_LISTED = 10_000


class _Proxy:
    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class GenerousStore(_Proxy):
    """Takes a 202 for a plain success."""

    async def write(self, database: str, documents: Sequence[Document]) -> list[WriteResult]:
        results = await self._real.write(database, documents)
        return [
            replace(result, kind=WriteKind.DONE) if result.kind is WriteKind.UNSURE else result
            for result in results
        ]


class OptimisticStore(_Proxy):
    """Takes no answer for a plain success."""

    async def write(self, database: str, documents: Sequence[Document]) -> list[WriteResult]:
        try:
            return await self._real.write(database, documents)
        except StoreUnreachable:
            return [WriteResult(WriteKind.DONE, "1-hoped")] * len(documents)


class ExtendingStore(_Proxy):
    """Writes once more on top of a revision that got 202."""

    async def write(self, database: str, documents: Sequence[Document]) -> list[WriteResult]:
        results = await self._real.write(database, documents)
        again = [
            Document(document.id, document.body, result.revision)
            for document, result in zip(documents, results, strict=True)
            if result.kind is WriteKind.UNSURE
        ]
        if again:
            await self._real.write(database, again)
        return results


class CredulousStore(_Proxy):
    """Confirms whatever it is asked for."""

    async def confirm(self, _: str, documents: Sequence[Document]) -> list[bool]:
        return [True] * len(documents)


class ListingStore(_Proxy):
    """Reads documents as a listing shows them: from one copy, its winner only, perhaps from seconds ago."""

    async def read(self, database: str, ids: Sequence[str]) -> list[tuple[Document, ...]]:
        rows = await self._real.range(database, min(ids), f"{max(ids)}\0", limit=MOST_LISTED)
        found = {document.id: document for document in rows}
        return [(found[each],) if each in found else () for each in ids]


class WallClock(_Proxy):
    """Measures silence by the wall clock."""

    def monotonic(self) -> float:
        return float(self._real.now().timestamp())


@contextmanager
def giving(part: type, port: type[DocumentStore | Clock], proxy: Callable[[Any], Any]) -> Iterator[None]:
    """Within this, one class of the product gets a lying store or clock."""
    build = part.__init__
    sign = "write" if port is DocumentStore else "monotonic"

    def lied_to(self: Any, *arguments: Any, **options: Any) -> None:
        build(self, *(proxy(each) if hasattr(each, sign) else each for each in arguments), **options)

    with patch.object(part, "__init__", lied_to):
        yield


@contextmanager
def together(*changes: AbstractContextManager[Any]) -> Iterator[None]:
    """Several changes as one mutant."""
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(change)
        yield
