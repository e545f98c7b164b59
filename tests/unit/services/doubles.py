"""Doubles for services that clients ask: a store that answers as a split cluster does, and a directory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from dcron.adapters.memory import MemoryDocumentStore
from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.domain.errors import StoreUnreachable
from dcron.domain.model import Script, Specification
from dcron.domain.nodes import LeaderReport, NodeRecord
from dcron.ports import Document, WriteKind, WriteResult

START = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)
SCRIPT_TEXT = b"#!/bin/sh\necho hello\n"
SCRIPT = Script(hashlib.sha256(SCRIPT_TEXT).hexdigest(), len(SCRIPT_TEXT), "hello.sh")
SPECIFICATION = Specification(schedule="*/5 * * * *", script=SCRIPT, interpreter="sh")
ADDRESS = "192.0.2.1:7000"


class SplitStore(MemoryDocumentStore):
    """A memory store with further leaves, whose writes can be made to go wrong one after the other.

    `faults` holds, per document id, what its next writes meet: a WriteKind (UNSURE is stored, LOST is
    not), "gone" (unreachable, not stored), "gone but stored", or a coroutine function that
    acts first and may return a WriteKind."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[str, list[WriteKind | str | Callable[[], Awaitable[WriteKind | None]]]] = {}
        self.branches: dict[str, list[Document]] = {}
        self.written: list[tuple[str, WriteKind]] = []

    async def write(self, database: str, documents: Sequence[Document]) -> list[WriteResult]:
        results = []
        for document in documents:
            result = await self._write_with_faults(database, document)
            self.written.append((document.id, result.kind))
            results.append(result)
        return results

    async def _write_with_faults(self, database: str, document: Document) -> WriteResult:
        branches = self.branches.get(document.id, [])
        for branch in branches:
            if document.deleted and branch.revision == document.revision:
                branches.remove(branch)
                return WriteResult(WriteKind.DONE, "9-gone")
        planned = self.faults.get(document.id, [])
        fault = planned.pop(0) if planned else WriteKind.DONE
        if callable(fault):
            fault = await fault() or WriteKind.DONE
        if fault is WriteKind.LOST:
            return WriteResult(WriteKind.LOST)
        if fault == "gone":
            raise StoreUnreachable("the store gave no answer")
        [result] = await super().write(database, [document])
        if fault == "gone but stored":
            raise StoreUnreachable("the store gave no answer")
        if fault is WriteKind.UNSURE and result.done:
            return replace(result, kind=WriteKind.UNSURE)
        return result

    async def read(self, database: str, ids: Sequence[str]) -> list[tuple[Document, ...]]:
        found = await super().read(database, ids)
        return [(*leaves, *self.branches.get(each, ())) for each, leaves in zip(ids, found, strict=True)]


class FakeDirectory:
    """Where the one worker is, and what the leader says."""

    def __init__(self) -> None:
        self.said = LeaderReport()

    async def address_of(self, node_id: str) -> str | None:
        return ADDRESS if node_id == "n2" else None

    async def report(self) -> LeaderReport:
        return self.said


async def objects_with_script() -> MemoryObjectStore:
    async def chunks() -> AsyncIterator[bytes]:
        yield SCRIPT_TEXT

    objects = MemoryObjectStore()
    await objects.put_stream(SCRIPT.key, chunks(), max_bytes=1000)
    return objects


def node_record(node_id: str, **fields: object) -> NodeRecord:
    record = NodeRecord(node_id, "token", "spool", ADDRESS, "0.1.0", 4, START, START)
    return replace(record, **fields)
