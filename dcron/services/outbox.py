"""Brings outcomes to the document store and logs to the object store, until both have them.

The two do not wait for each other for long: while the object store is away, outcomes go ahead after a
short patience, so that retries and results do not depend on it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

import structlog

from dcron.domain.documents import outcome_body
from dcron.domain.errors import ObjectsUnreachable, StoreUnreachable
from dcron.domain.model import Outcome
from dcron.ports import Document, DocumentStore, ObjectStore, WriteKind, executions_database
from dcron.services.spool import Entry, Spool

__all__ = ["LOG_CUT_NOTICE", "Outbox"]

OUTCOME_BATCH = 500
"""Outcomes in one write."""
UPLOADS = 8
"""Logs uploaded at once."""
LOG_PATIENCE_SECONDS = 3.0
"""How long an outcome waits for its log to be stored first."""
BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
LOG_CUT_NOTICE = "\n[dcron: the log is cut here; {cut_bytes} more bytes were printed and not kept]\n"

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Item:
    """One ended attempt on its way."""

    entry: Entry
    outcome: Outcome
    log_stored: bool
    ready: bool = False
    recorded: bool = False


class Outbox:
    """What ended here and has not arrived yet, by token."""

    def __init__(self, store: DocumentStore, objects: ObjectStore, spool: Spool) -> None:
        self._store = store
        self._objects = objects
        self._spool = spool
        self._items: dict[str, _Item] = {}
        self._logs: deque[_Item] = deque()
        self._ready: deque[_Item] = deque()
        self._logs_wake = asyncio.Event()
        self._ready_wake = asyncio.Event()
        self.store_trouble = ""
        self.objects_trouble = ""

    def add(self, entry: Entry, outcome: Outcome) -> None:
        """Deliver an outcome and its log."""
        stored = outcome.log is None or self._spool.is_log_stored(entry)
        item = _Item(entry, outcome, stored)
        self._items[outcome.token] = item
        if stored:
            self._make_ready(item)
            return
        self._logs.append(item)
        self._logs_wake.set()
        asyncio.get_running_loop().call_later(LOG_PATIENCE_SECONDS, self._make_ready, item)

    def holds(self, token: str) -> bool:
        """Whether an outcome is still on its way."""
        return token in self._items

    def entry_of(self, execution_id: str) -> Entry | None:
        """The spooled attempt of an execution, with its log."""
        for item in self._items.values():
            if item.outcome.execution_id == execution_id:
                return item.entry
        return None

    def __len__(self) -> int:
        return len(self._items)

    async def run(self) -> None:
        """Deliver until cancelled; what is left is found in the spool at the next start."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._record_loop())
            for _ in range(UPLOADS):
                group.create_task(self._upload_loop())

    def _make_ready(self, item: _Item) -> None:
        if not item.ready:
            item.ready = True
            self._ready.append(item)
            self._ready_wake.set()

    async def _record_loop(self) -> None:
        failures = 0
        while True:
            while not self._ready:
                self._ready_wake.clear()
                await self._ready_wake.wait()
            batch = [self._ready.popleft() for _ in range(min(len(self._ready), OUTCOME_BATCH))]
            left = await self._record(batch)
            self._ready.extend(left)
            failures = failures + 1 if left else 0
            if left:
                await asyncio.sleep(_backoff_seconds(failures))

    async def _record(self, batch: list[_Item]) -> list[_Item]:
        """Write outcomes; those that are to be tried again."""
        by_database: dict[str, list[_Item]] = {}
        for item in batch:
            by_database.setdefault(executions_database(item.entry.claim.scheduled_at), []).append(item)
        left: list[_Item] = []
        for database, items in by_database.items():
            documents = [Document(item.outcome.id, outcome_body(item.outcome)) for item in items]
            try:
                results = await self._store.write(database, documents)
            except StoreUnreachable as error:
                self._note_store(str(error))
                left.extend(items)
                continue
            self._note_store("")
            for item, result in zip(items, results, strict=True):
                if result.kind is WriteKind.UNSURE:
                    left.append(item)
                elif result.kind is WriteKind.REJECTED:
                    log.error(
                        "store rejects outcome; it stays in the spool",
                        action="record",
                        execution=item.outcome.execution_id,
                        reason=result.reason,
                    )
                else:
                    # Lost means that an earlier write of this very outcome arrived: nobody else has
                    # its token.
                    self._recorded(item)
        return left

    def _recorded(self, item: _Item) -> None:
        outcome = item.outcome
        item.recorded = True
        log.info(
            outcome.state.value, action="record", execution=outcome.execution_id, message=outcome.message
        )
        self._finish(item)

    async def _upload_loop(self) -> None:
        failures = 0
        while True:
            while not self._logs:
                self._logs_wake.clear()
                await self._logs_wake.wait()
            item = self._logs.popleft()
            try:
                await self._upload(item)
            except ObjectsUnreachable as error:
                self._note_objects(str(error))
                failures += 1
                self._logs.append(item)
                await asyncio.sleep(_backoff_seconds(failures))
                continue
            failures = 0
            self._note_objects("")
            item.log_stored = True
            self._spool.mark_log_stored(item.entry)
            self._make_ready(item)
            self._finish(item)

    async def _upload(self, item: _Item) -> None:
        stored = item.outcome.log
        if stored is None:
            return
        notice = LOG_CUT_NOTICE.format(cut_bytes=stored.cut_bytes) if stored.cut_bytes else ""
        await self._objects.put_file(
            stored.key, item.entry.log_path, size_bytes=stored.size_bytes, trailer=notice.encode()
        )

    def _finish(self, item: _Item) -> None:
        if item.recorded and item.log_stored and self._items.pop(item.outcome.token, None) is not None:
            self._spool.remove(item.entry)

    def _note_store(self, trouble: str) -> None:
        if trouble != self.store_trouble:
            self.store_trouble = trouble
            _say(trouble, "outcomes wait in the spool", "outcomes are recorded again")

    def _note_objects(self, trouble: str) -> None:
        if trouble != self.objects_trouble:
            self.objects_trouble = trouble
            _say(trouble, "logs wait in the spool", "logs are stored again")


def _say(trouble: str, bad: str, good: str) -> None:
    if trouble:
        log.warning(bad, action="outbox", error=trouble)
    else:
        log.info(good, action="outbox")


def _backoff_seconds(failures: int) -> float:
    return BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1]
