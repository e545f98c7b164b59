"""Brings outcomes to the document store and logs to the object store, until both have them.

The two do not wait for each other for long: while the object store is away or has much to do, outcomes go
ahead, so that retries and results do not depend on it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

import structlog

from dcron.domain.attempt_results import is_true_end
from dcron.domain.documents import outcome_body, outcome_of
from dcron.domain.errors import ObjectsUnreachable, StoreUnreachable
from dcron.domain.model import LogObject, Outcome, State
from dcron.domain.views import HeldExecution
from dcron.ports import Document, DocumentStore, ObjectStore, WriteKind, generation
from dcron.services.shared.loops import growing_backoff_seconds
from dcron.services.shared.months import by_month
from dcron.services.shared.pacing import Pace
from dcron.services.shared.starts_first import StartsFirst
from dcron.services.shared.trouble import Trouble
from dcron.services.worker.spool import Entry, Spool

__all__ = ["LOG_CUT_NOTICE", "Outbox"]

OUTCOME_BATCH = 500
"""Outcomes in one write, or deliveries in one note."""
UPLOADS = 8
"""Logs uploaded at once."""
LOG_PATIENCE_SECONDS = 3.0
"""Time for which an outcome waits for its log to be stored first."""
LOGS_WAITED_FOR = 2 * UPLOADS
"""Logs that may be waiting if an outcome is to wait for its own. With more, a burst has ended, and its
outcomes go ahead in few requests."""
MAX_NAMED = 5
"""Rejected outcomes that the node names in its warnings."""
LOG_CUT_NOTICE = "\n[dcron: the log is cut here; {cut_bytes} more bytes were printed and not kept]\n"

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Item:
    """One ended attempt on its way."""

    entry: Entry
    outcome: Outcome
    log_stored: bool
    added_at: float
    """By the event loop's time."""
    ready: bool = False
    recorded: bool = False


class Outbox:
    """Outcomes and logs that have not arrived yet, by token. What is being started goes first."""

    def __init__(self, store: DocumentStore, objects: ObjectStore, spool: Spool, burst: StartsFirst) -> None:
        self._store = store
        self._objects = objects
        self._spool = spool
        self._burst = burst
        self._items: dict[str, _Item] = {}
        self._of_execution: dict[str, dict[str, _Item]] = {}
        self._logs: deque[_Item] = deque()
        self._ready: deque[_Item] = deque()
        self._rejected: list[tuple[Outcome, str]] = []
        """Outcomes that the store will never take, and why."""
        self._delivered: dict[str, Entry] = {}
        """By token, what both stores have and the spool has not noted as delivered yet."""
        self._logs_wake = asyncio.Event()
        self._ready_wake = asyncio.Event()
        self._delivered_wake = asyncio.Event()
        self.store_trouble = Trouble(
            "outbox", "outcomes wait in the spool for the document store", "outcomes are recorded again"
        )
        self.objects_trouble = Trouble(
            "outbox", "logs wait in the spool for the object store", "logs are stored again"
        )
        self._spool_trouble = Trouble(
            "outbox", "the spool cannot note what was delivered, and keeps it", "the spool is cleared again"
        )

    def add(self, entry: Entry, outcome: Outcome) -> None:
        """Deliver an outcome and its log."""
        added_at = asyncio.get_running_loop().time()
        item = _Item(entry, outcome, log_stored=outcome.log is None, added_at=added_at)
        self._items[outcome.token] = item
        self._of_execution.setdefault(outcome.execution_id, {})[outcome.token] = item
        if item.log_stored:
            self._make_ready(item)
            return
        self._logs.append(item)
        self._logs_wake.set()
        if len(self._logs) > LOGS_WAITED_FOR:
            self._make_ready(item)
        else:
            asyncio.get_running_loop().call_later(LOG_PATIENCE_SECONDS, self._make_ready, item)

    def holds(self, token: str) -> bool:
        """Whether an outcome is still on its way."""
        return token in self._items

    async def delivered(self, tokens: Collection[str]) -> frozenset[str]:
        """Those of some tokens whose outcomes were delivered from here, as far as the spool remembers.

        Raises OSError."""
        unnoted = self._delivered.keys() & tokens
        others = [token for token in tokens if token not in unnoted]
        noted = await asyncio.to_thread(self._spool.delivered_among, others) if others else frozenset()
        return noted | unnoted

    def entry_of(self, execution_id: str) -> Entry | None:
        """The spooled attempt of an execution, with its log: the one that was started, if there are more."""
        items = self._of_execution.get(execution_id, {}).values()
        first = min(items, key=lambda item: item.outcome.state is State.NOT_STARTED, default=None)
        return first.entry if first is not None else None

    def is_unstarted(self, token: str) -> bool:
        """Whether what is on its way says that the attempt was not started."""
        item = self._items.get(token)
        return item is not None and item.outcome.state is State.NOT_STARTED

    def held(self) -> Iterator[HeldExecution]:
        """Results on their way and where to, the oldest first."""
        for item in self._items.values():
            missing = ("" if item.recorded else "document store", "" if item.log_stored else "object store")
            yield HeldExecution(
                item.outcome.execution_id,
                item.entry.claim.job,
                item.outcome.state,
                item.outcome.finished_at,
                " and ".join(filter(None, missing)),
            )

    def oldest_at(self) -> datetime | None:
        """End of the oldest result that is on its way; None when there is none."""
        return min((item.outcome.finished_at for item in self._items.values()), default=None)

    def warnings(self) -> tuple[str, ...]:
        """Reason why the stores do not take what is on its way, in words."""
        store = f"the document store does not answer ({self.store_trouble.reason})"
        objects = f"the object store does not answer ({self.objects_trouble.reason})"
        return (
            *([store] if self.store_trouble else []),
            *([objects] if self.objects_trouble else []),
            *(_rejection(outcome, why) for outcome, why in self._rejected[:MAX_NAMED]),
        )

    def __len__(self) -> int:
        return len(self._items)

    async def run(self) -> None:
        """Deliver until cancelled; what is left is found in the spool at the next start."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._record_loop())
            group.create_task(self._remove_loop())
            for _ in range(UPLOADS):
                group.create_task(self._upload_loop())

    def _make_ready(self, item: _Item) -> None:
        if not item.ready:
            item.ready = True
            self._ready.append(item)
            self._ready_wake.set()

    async def _record_loop(self) -> None:
        failures = 0
        pace = Pace(by_duration=True)
        while True:
            while not self._ready:
                self._ready_wake.clear()
                await self._ready_wake.wait()
            await self._burst.over(self._ready[0].added_at)
            async with pace.turn():
                batch = [self._ready.popleft() for _ in range(min(len(self._ready), OUTCOME_BATCH))]
                left = await self._record(batch)
            self._ready.extend(left)
            failures = failures + 1 if left else 0
            if left:
                await asyncio.sleep(growing_backoff_seconds(failures))

    async def _record(self, batch: list[_Item]) -> list[_Item]:
        """Write outcomes; those that are to be tried again."""
        left: list[_Item] = []
        for database, items in by_month(batch, lambda item: item.entry.claim.scheduled_at).items():
            documents = [Document(item.outcome.id, outcome_body(item.outcome)) for item in items]
            try:
                results = await self._store.write(database, documents)
            except StoreUnreachable as error:
                self.store_trouble.met(str(error))
                left.extend(items)
                continue
            self.store_trouble.over()
            there: list[_Item] = []
            for item, result in zip(items, results, strict=True):
                if result.done:
                    self._recorded(item)
                elif result.kind is WriteKind.LOST:
                    there.append(item)
                elif result.kind is WriteKind.UNSURE:
                    left.append(item)
                else:
                    self._reject(item, result.reason)
            left += await self._confirm(database, there)
        return left

    async def _confirm(self, database: str, items: list[_Item]) -> list[_Item]:
        """See to outcomes that are stored already; those that are to be tried again.

        An earlier write of theirs arrived, for nobody else has their tokens. But it may have reached one copy
        alone, and whoever reads from the others would believe that the attempt was lost."""
        if not items:
            return []
        try:
            found = await self._store.read(database, [item.outcome.id for item in items])
            pairs = list(zip(items, found, strict=True))
            overruled = {item.outcome.id: over for item, each in pairs if (over := _over(item.outcome, each))}
            leaves = [leaf for each in found for leaf in each if leaf.id not in overruled]
            confirmed = await self._store.confirm(database, leaves) if leaves else []
            doubtful = {leaf.id for leaf, sure in zip(leaves, confirmed, strict=True) if not sure}
            certain = {leaf.id for leaf in leaves} - doubtful
            certain |= await self._write_over(database, list(overruled.values()))
        except StoreUnreachable as error:
            self.store_trouble.met(str(error))
            return items
        for item in items:
            if item.outcome.id in certain:
                self._recorded(item)
        return [item for item in items if not item.recorded]

    async def _write_over(self, database: str, documents: list[Document]) -> set[str]:
        """Tell how attempts ended that were written off while this spool was away: its disk was not mounted,
        or is back from another machine. Ids of what is certain."""
        if not documents:
            return set()
        log.warning("tells an end that had been written off", action="record", outcomes=len(documents))
        results = await self._store.write(database, documents)
        return {each.id for each, result in zip(documents, results, strict=True) if result.done}

    def _reject(self, item: _Item, reason: str) -> None:
        self._rejected.append((item.outcome, reason))
        log.error(
            "store rejects outcome; it stays in the spool, and needs a person",
            action="record",
            execution=item.outcome.execution_id,
            reason=reason,
        )

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
            item = await self._next_log()
            try:
                await self._upload(item)
            except ObjectsUnreachable as error:
                self.objects_trouble.met(str(error))
                failures += 1
                self._logs.append(item)
                await asyncio.sleep(growing_backoff_seconds(failures))
                continue
            except Exception:
                # Its own fault, not the store's: the others go on, and so does its outcome. The next
                # start of the node tries again.
                log.exception("log stays in the spool", action="upload", execution=item.outcome.execution_id)
                self._make_ready(item)
                continue
            failures = 0
            self.objects_trouble.over()
            item.log_stored = True
            self._make_ready(item)
            self._finish(item)

    async def _next_log(self) -> _Item:
        while True:
            while not self._logs:
                self._logs_wake.clear()
                await self._logs_wake.wait()
            await self._burst.over(self._logs[0].added_at)
            # Another of the loops may have taken it.
            if self._logs:
                return self._logs.popleft()

    async def _upload(self, item: _Item) -> None:
        stored = self._log_there_is(item)
        if stored is None:
            return
        notice = LOG_CUT_NOTICE.format(cut_bytes=stored.cut_bytes) if stored.cut_bytes else ""
        await self._objects.put_file(
            stored.key, item.entry.log_path, size_bytes=stored.size_bytes, trailer=notice.encode()
        )

    def _log_there_is(self, item: _Item) -> LogObject | None:
        """The log as far as the file still holds it: scripts can truncate or remove it, power cuts too."""
        stored = item.outcome.log
        if stored is None:
            return None
        path = item.entry.log_path
        path.touch()
        missing_bytes = stored.size_bytes - path.stat().st_size
        if missing_bytes <= 0:
            return stored
        log.error(
            "log is shorter than it was",
            action="upload",
            execution=item.outcome.execution_id,
            missing_bytes=missing_bytes,
        )
        left = replace(
            stored,
            size_bytes=stored.size_bytes - missing_bytes,
            cut_bytes=stored.cut_bytes + missing_bytes,
        )
        item.outcome = replace(item.outcome, log=left)
        return left

    def _finish(self, item: _Item) -> None:
        if not (item.recorded and item.log_stored) or self._items.pop(item.outcome.token, None) is None:
            return
        of_execution = self._of_execution[item.outcome.execution_id]
        del of_execution[item.outcome.token]
        if not of_execution:
            del self._of_execution[item.outcome.execution_id]
        self._delivered[item.outcome.token] = item.entry
        self._delivered_wake.set()

    async def _remove_loop(self) -> None:
        """Clear the spool of what was delivered, beside everything else: it may wait for the disk."""
        failures = 0
        while True:
            while not self._delivered:
                self._delivered_wake.clear()
                await self._delivered_wake.wait()
            batch = dict(islice(self._delivered.items(), OUTCOME_BATCH))
            with self._spool_trouble.of(OSError):
                await asyncio.to_thread(self._spool.note_delivered, batch.values())
                failures = 0
                for token in batch:
                    del self._delivered[token]
                await asyncio.to_thread(self._remove, batch.values())
                continue
            failures += 1
            await asyncio.sleep(growing_backoff_seconds(failures))

    def _remove(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            try:
                self._spool.remove(entry)
            except OSError as error:
                log.error(
                    "cannot remove what was delivered; the next start tries again",
                    action="outbox",
                    execution=entry.claim.execution_id,
                    error=str(error),
                )


def _over(outcome: Outcome, leaves: Sequence[Document]) -> Document | None:
    """What is to be written over what is stored of an attempt: its true end, where none is stored; what was
    written over before, since only what is as it was created can be confirmed."""
    ended = is_true_end(outcome)
    is_missing = ended and not any(is_true_end(outcome_of(leaf.body)) for leaf in leaves)
    is_as_created = all(generation(leaf.revision or "1-") == 1 for leaf in leaves)
    if not leaves or (is_as_created and not is_missing):
        return None
    return Document(outcome.id, outcome_body(outcome) if ended else leaves[0].body, leaves[0].revision)


def _rejection(outcome: Outcome, why: str) -> str:
    verdict = "succeeded" if outcome.state is State.SUCCEEDED else "failed"
    return (
        f"the document store rejects the outcome of {outcome.execution_id}, which is {outcome.state.value} "
        f"({why}); say it with 'dcron execution resolve {outcome.execution_id} --as {verdict}'"
    )
