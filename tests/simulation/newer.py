"""Nodes of a newer version: they know one field, one state and one reason more than the others.

They run the same code. What makes them newer is done to documents on their way to the store and back: the
others find there what no code of theirs has ever heard of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dcron.ports import ChangeBatch, Document, WriteResult
from tests.simulation.store_client import StoreClient

__all__ = ["FIELD", "NewerStoreClient", "understood"]

FIELD = "newer"
"""What the newer version knows of jobs, specifications, places, active attempts, skips, settings, drains."""
WORDS = {"state": ("failed", "crashed"), "reason": ("paused", "held")}
"""By member: a word that every version knows, and the one that the newer version has for some of it."""
WITH_FIELD = {"specification", "place", "active"}
KINDS_WITH_FIELD = {"job", "skipped", "settings", "drain"}


class NewerStoreClient(StoreClient):
    """The connection of a node of the newer version."""

    async def write(self, database: str, documents: Sequence[Document]) -> list[WriteResult]:
        """See `DocumentStore.write`."""
        return await super().write(database, [_written_document(each) for each in documents])

    async def confirm(self, database: str, documents: Sequence[Document]) -> list[bool]:
        """See `DocumentStore.confirm`."""
        return await super().confirm(database, [_written_document(each) for each in documents])

    async def read(self, database: str, ids: Sequence[str]) -> list[tuple[Document, ...]]:
        """See `DocumentStore.read`."""
        found = await super().read(database, ids)
        return [tuple(_understood_document(leaf) for leaf in leaves) for leaves in found]

    async def range(self, *arguments: Any, **options: Any) -> list[Document]:
        """See `DocumentStore.range`."""
        return [_understood_document(each) for each in await super().range(*arguments, **options)]

    async def changes(self, *arguments: Any, **options: Any) -> ChangeBatch:
        """See `DocumentStore.changes`."""
        batch = await super().changes(*arguments, **options)
        return replace(batch, documents=tuple(_understood_document(each) for each in batch.documents))


def _written_document(document: Document) -> Document:
    return document if document.deleted else replace(document, body=_written(document.body))


def _understood_document(document: Document) -> Document:
    return replace(document, body=understood(document.body))


def _written(body: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """A body as the newer version writes it. Of failed scripts some have crashed, by their token."""
    keeps = {"state"} if int(body.get("token", "1"), 16) % 2 else set()
    members = {key: _in(value, key, _written) for key, value in body.items()}
    members |= {
        member: newer
        for member, (older, newer) in WORDS.items()
        if members.get(member) == older and member not in keeps
    }
    if name in WITH_FIELD or body.get("kind") in KINDS_WITH_FIELD:
        members[FIELD] = members.get(FIELD, "a newer node knows")
    return members


def understood(body: Mapping[str, Any], _: str = "") -> dict[str, Any]:
    """A body in words that every version knows."""
    members = {key: _in(value, key, understood) for key, value in body.items()}
    return members | {
        member: older for member, (older, newer) in WORDS.items() if members.get(member) == newer
    }


def _in(value: Any, name: str, convert: Any) -> Any:
    """What is inside of a member, converted."""
    if isinstance(value, Mapping):
        return convert(value, name)
    if isinstance(value, list):
        return [_in(each, name, convert) for each in value]
    return value
