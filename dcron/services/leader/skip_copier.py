"""Copies skip records from job documents, where they were decided, to the executions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from dcron.domain.documents import skip_record_body
from dcron.domain.errors import StoreUnreachable
from dcron.domain.model import Job, Skip
from dcron.ports import Document, DocumentStore, WriteKind
from dcron.services.shared.certainty import ids_kept
from dcron.services.shared.months import by_month
from dcron.services.shared.trouble import Trouble

__all__ = ["SkipCopier"]

BATCH = 500
AGAIN_SECONDS = 1.0
"""Pause after a batch of which nothing is known to be stored."""


class SkipCopier:
    """Skips of the jobs that the leader holds; `copied` tells which may leave their job document."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self._waiting: dict[str, tuple[str, Skip]] = {}
        self._copied: set[str] = set()
        self._wake = asyncio.Event()
        self._trouble = Trouble("copy_skips", "cannot copy skip records", "copies skip records again")

    def add(self, job: Job) -> None:
        """Copy what a job document carries."""
        for skip in job.place.skips:
            if skip.id not in self._copied:
                self._waiting[skip.id] = (job.name, skip)
                self._wake.set()

    def is_copied(self, skip: Skip) -> bool:
        """Whether the executions have it."""
        return skip.id in self._copied

    def forget(self, skips: Iterable[Skip]) -> None:
        """Their job document carries them no more."""
        self._copied.difference_update(skip.id for skip in skips)

    async def next_copied(self) -> set[str]:
        """Copy what waits; names of the jobs whose documents can be tidied now."""
        while not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        batch = dict(list(self._waiting.items())[:BATCH])
        tidy: set[str] = set()
        with self._trouble.of(StoreUnreachable):
            tidy = await self._copy(batch)
        if not tidy:
            await asyncio.sleep(AGAIN_SECONDS)
        return tidy

    async def _copy(self, batch: dict[str, tuple[str, Skip]]) -> set[str]:
        tidy: set[str] = set()
        for database, ids in by_month(batch, lambda identifier: batch[identifier][1].scheduled_at).items():
            documents = [
                Document(identifier, skip_record_body(skip, job))
                for identifier in ids
                for job, skip in (batch[identifier],)
            ]
            results = dict(zip(ids, await self._store.write(database, documents), strict=True))
            copied = {each for each, result in results.items() if result.done}
            # Unsure: written again. Lost: an earlier write is there, perhaps on one copy of the store alone.
            there = [each for each, result in results.items() if result.kind is WriteKind.LOST]
            copied |= await ids_kept(self._store, database, there) if there else set()
            for identifier in copied:
                del self._waiting[identifier]
                self._copied.add(identifier)
                tidy.add(batch[identifier][0])
        return tidy
