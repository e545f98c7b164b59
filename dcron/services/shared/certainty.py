"""Readings that a quorum of the store is certain to stand behind, although a copy that is cut off answers a
reading alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from dcron.ports import Document, DocumentStore

__all__ = ["certainly", "ids_kept"]

_Found = TypeVar("_Found")


async def certainly(
    store: DocumentStore, database: str, anchor: Sequence[Document], look: Callable[[], Awaitable[_Found]]
) -> _Found | None:
    """What `look` reads, if a quorum has answered; None where that is not certain. Raises StoreUnreachable.

    `anchor` are documents that are there, and that nobody ever updates. They are confirmed before the look
    and after it, which no copy can do alone. None without an anchor."""
    if not anchor or not all(await store.confirm(database, anchor)):
        return None
    found = await look()
    return found if all(await store.confirm(database, anchor)) else None


async def ids_kept(store: DocumentStore, database: str, ids: Sequence[str]) -> frozenset[str]:
    """Those of some documents, which nobody ever updates, that a quorum keeps as they are read.

    What a write found to be there may be on one copy alone. Raises StoreUnreachable."""
    leaves = [leaf for each in await store.read(database, ids) for leaf in each]
    confirmed = await store.confirm(database, leaves) if leaves else []
    doubtful = {leaf.id for leaf, sure in zip(leaves, confirmed, strict=True) if not sure}
    return frozenset(leaf.id for leaf in leaves) - doubtful
