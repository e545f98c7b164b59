"""A document store in this process's memory, for unit tests and the simulation; nothing is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from dcron.adapters.documents import (
    UnstorableError,
    encode,
    index_fields,
    is_executions_database,
    require_executions_database,
    require_index,
)
from dcron.ports import (
    AUDIT,
    CLUSTER,
    JOBS,
    ChangeBatch,
    Document,
    IndexRow,
    Known,
    WriteKind,
    WriteResult,
    generation,
)

__all__ = ["MemoryDocumentStore"]

_BEGINNING: Final = "0"


@dataclass(frozen=True, slots=True)
class _Stored:
    """One document as it is now. `text` is JSON, so that no caller shares what it holds."""

    revision: str
    text: bytes
    deleted: bool
    sequence: int


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryDocumentStore:
    """`DocumentStore` for the tasks of one event loop. Several nodes share one instance.

    Revisions are counted, not random, so that a simulation repeats itself; `now` is its clock."""

    def __init__(self, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self._databases: dict[str, dict[str, _Stored]] = {}
        self._sequence = 0
        self._changed = asyncio.Event()

    async def prepare(self) -> None:
        """See `DocumentStore.prepare`."""
        for database in (JOBS, CLUSTER, AUDIT):
            self._databases.setdefault(database, {})

    async def write(self, database: str, documents: Sequence[Document]) -> list[WriteResult]:
        """See `DocumentStore.write`."""
        index_fields(database)
        rows = self._databases.setdefault(database, {})
        results = [self._write_one(rows, document) for document in documents]
        # Who waits holds the old event; the next to wait takes the new one.
        self._changed.set()
        self._changed = asyncio.Event()
        return results

    def _write_one(self, rows: dict[str, _Stored], document: Document) -> WriteResult:
        try:
            text = encode(document)
        except UnstorableError as error:
            return WriteResult(WriteKind.REJECTED, reason=str(error))
        stored = rows.get(document.id)
        alive = stored.revision if stored is not None and not stored.deleted else None
        if document.revision != alive:
            return WriteResult(WriteKind.LOST)
        self._sequence += 1
        writes = 1 + (generation(stored.revision) if stored is not None else 0)
        revision = f"{writes}-{self._sequence:032x}"
        rows[document.id] = _Stored(revision, text, document.deleted, self._sequence)
        return WriteResult(WriteKind.DONE, revision=revision)

    async def read(self, database: str, ids: Sequence[str]) -> list[tuple[Document, ...]]:
        """See `DocumentStore.read`; there is never more than one leaf."""
        rows = self._rows(database)
        return [
            (_document(document_id, rows[document_id]),)
            if document_id in rows and not rows[document_id].deleted
            else ()
            for document_id in ids
        ]

    async def confirm(self, database: str, documents: Sequence[Document]) -> list[bool]:
        """See `DocumentStore.confirm`: there is one copy."""
        found = await self.read(database, [document.id for document in documents])
        return [document in leaves for document, leaves in zip(documents, found, strict=True)]

    async def range(
        self, database: str, start: str, end: str, *, limit: int, descending: bool = False
    ) -> list[Document]:
        """See `DocumentStore.range`."""
        rows = self._rows(database)
        ids = [
            document_id for document_id, row in rows.items() if start <= document_id < end and not row.deleted
        ]
        return [_document(document_id, rows[document_id]) for document_id in sorted(ids, reverse=descending)][
            :limit
        ]

    async def find(
        self,
        database: str,
        index: str,
        *,
        start: str = "",
        end: str = "\uffff",
        limit: int,
        descending: bool = False,
    ) -> list[IndexRow]:
        """See `DocumentStore.find`; here its cost follows what is stored."""
        require_index(database, index)
        found = []
        for document_id, row in self._rows(database).items():
            key = json.loads(row.text).get(index)
            if isinstance(key, str) and start <= key < end:
                found.append(IndexRow(document_id, key))
        return sorted(found, key=lambda row: (row.key, row.id), reverse=descending)[:limit]

    async def changes(
        self,
        database: str,
        since: str | None,
        *,
        wait_seconds: float,
        limit: int = 1000,
        known: Known | None = None,  # noqa: ARG002 - bodies cost nothing here
    ) -> ChangeBatch:
        """See `DocumentStore.changes`."""
        if since is None:
            return ChangeBatch((), str(self._sequence))
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_seconds
        while True:
            changed = self._changed
            batch = self._changed_since(database, int(since), limit)
            if batch.documents or loop.time() >= until:
                return batch
            try:
                async with asyncio.timeout_at(until):
                    await changed.wait()
            except TimeoutError:
                return batch

    def _changed_since(self, database: str, since: int, limit: int) -> ChangeBatch:
        newer = sorted(
            ((row.sequence, key, row) for key, row in self._rows(database).items() if row.sequence > since),
            key=lambda entry: entry[0],
        )[:limit]
        position = newer[-1][0] if newer else since
        return ChangeBatch(tuple(_document(key, row) for _, key, row in newer), str(position))

    async def databases(self) -> list[str]:
        """See `DocumentStore.databases`."""
        return sorted(name for name in self._databases if is_executions_database(name))

    async def make_ready(self, database: str) -> None:
        """See `DocumentStore.make_ready`; there is nothing to be made."""

    async def drop(self, database: str) -> None:
        """See `DocumentStore.drop`; ValueError for any other database."""
        require_executions_database(database)
        self._databases.pop(database, None)

    async def wall_clock(self) -> datetime:
        """See `DocumentStore.wall_clock`."""
        return self._now().replace(microsecond=0)

    async def close(self) -> None:
        """See `DocumentStore.close`; what is stored stays, for others may share it."""

    def _rows(self, database: str) -> dict[str, _Stored]:
        index_fields(database)
        return self._databases.get(database, {})


def _document(document_id: str, row: _Stored) -> Document:
    return Document(id=document_id, body=json.loads(row.text), revision=row.revision, deleted=row.deleted)
