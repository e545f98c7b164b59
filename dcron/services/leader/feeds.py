"""Follows the changes feeds of the store, one task per database, for as long as a term lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from dcron.ports import ChangeBatch, DocumentStore, Known
from dcron.services.shared.loops import repeat
from dcron.services.shared.pacing import Pace
from dcron.services.shared.starts_first import StartsFirst
from dcron.services.shared.trouble import Trouble

__all__ = ["Feeds"]

WAIT_SECONDS = 25.0


class Feeds:
    """The feeds being followed; each batch goes to `on_change(database, batch)`."""

    def __init__(
        self,
        store: DocumentStore,
        on_change: Callable[[str, ChangeBatch], None],
        known: Mapping[str, Known],
        burst: StartsFirst,
    ) -> None:
        """`known` tells by database what need not be read. News of what is claimed and has ended waits for
        the end of a burst."""
        self._store = store
        self._on_change = on_change
        self._known = known
        self._burst = burst
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def follow(self, database: str, group: asyncio.TaskGroup) -> None:
        """Follow from now on. Raises StoreUnreachable when there is no position to begin from."""
        if database not in self._tasks:
            start = await self._store.changes(database, None, wait_seconds=0)
            self._tasks[database] = group.create_task(self._run(database, start.since))

    def keep_only(self, databases: Iterable[str]) -> None:
        """Stop following the others."""
        for database in self._tasks.keys() - set(databases):
            self._tasks.pop(database).cancel()

    async def _run(self, database: str, since: str) -> None:
        trouble = Trouble("follow", "feed broke", "feed is followed again", database=database)
        pace = Pace(by_duration=False)

        async def read_on() -> float:
            nonlocal since
            async with pace.turn():
                await self._burst.over()
                batch = await self._store.changes(
                    database, since, wait_seconds=WAIT_SECONDS, known=self._known.get(database)
                )
            since = batch.since
            if batch.documents:
                self._on_change(database, batch)
            return 0.0

        await repeat(read_on, trouble)
