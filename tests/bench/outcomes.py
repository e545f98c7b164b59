"""Sees outcomes arrive in the document store, by its changes feed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import datetime
from threading import Event, Thread
from typing import Self

from dcron.ports import ChangeBatch, DocumentStore, executions_database
from tests.bench.seeding import open_patient

__all__ = ["OutcomeWatch"]

WAIT_SECONDS = 1.0
PAUSE_SECONDS = 0.1
"""Between two readings: who follows every change costs the store as much as a leader does."""
READY_SECONDS = 30.0


class OutcomeWatch:
    """Follows the database of the executions due at an instant, in a thread: from `follow` on it takes in
    what has changed since `with`.

    `seen` has the time at which each outcome was first seen here, and its state."""

    def __init__(self, store_url: str, due_at: datetime) -> None:
        self.seen: dict[str, tuple[float, str]] = {}
        self._url = store_url
        self._database = executions_database(due_at)
        self._ready = Event()
        self._wanted = Event()
        self._over = Event()
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(READY_SECONDS), "the changes feed gives no position to begin from"
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._wanted.set()
        self._thread.join()

    def follow(self) -> None:
        """Begin to read; before, nothing is asked of the store."""
        self._wanted.set()

    def has(self, count: int) -> bool:
        """Whether that many scripts have succeeded."""
        if self._failure is not None:
            raise self._failure
        return self._counted()["succeeded"] >= count

    def finished_after(self, due_at: datetime, count: int) -> float:
        """Seconds from the instant to the last outcome; fails unless `count` scripts ran, and succeeded."""
        counted = self._counted()
        assert counted["succeeded"] == count == counted.total() - self.not_started, (
            f"{count} scripts were due; outcomes: {dict(counted)}"
        )
        return max(at for at, _ in self.seen.values()) - due_at.timestamp()

    @property
    def not_started(self) -> int:
        """Attempts that came too late and were made again."""
        return self._counted()["not_started"]

    def _counted(self) -> Counter[str]:
        return Counter(state for _, state in list(self.seen.values()))

    def _run(self) -> None:
        try:
            asyncio.run(self._follow())
        except BaseException as error:  # noqa: BLE001 - told to whoever asks `has`
            self._failure = error

    async def _follow(self) -> None:
        store = open_patient(self._url)
        await store.prepare()
        try:
            await self._follow_in(store)
        finally:
            await store.close()

    async def _follow_in(self, store: DocumentStore) -> None:
        batch = await store.changes(self._database, None, wait_seconds=0)
        self._ready.set()
        await asyncio.to_thread(self._wanted.wait)
        while not self._over.is_set():
            batch = await store.changes(self._database, batch.since, wait_seconds=WAIT_SECONDS)
            self._take_in(batch)
            await asyncio.sleep(PAUSE_SECONDS)

    def _take_in(self, batch: ChangeBatch) -> None:
        now = time.time()
        for document in batch.documents:
            if document.body.get("kind") == "outcome":
                self.seen.setdefault(document.id, (now, document.body["state"]))
