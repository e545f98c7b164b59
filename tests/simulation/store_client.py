"""The document store as one node reaches it: `DocumentStore` over a network that loses things."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from random import Random
from typing import TypeVar

from dcron.adapters.documents import index_fields, require_executions_database, require_index
from dcron.domain.errors import StoreUnreachable
from dcron.ports import ChangeBatch, Document, IndexRow, Known, WriteKind, WriteResult
from tests.simulation.copies import Copy, document
from tests.simulation.history import History, Written, instant
from tests.simulation.links import Link
from tests.simulation.loop import VirtualLoop
from tests.simulation.store import Cluster

__all__ = ["StoreClient", "StoreWeather"]

CALL_SECONDS = 1.5
"""The deadline of a call, as the CouchDB adapter has it."""
LONGPOLL_GRACE_SECONDS = 0.5
NETWORK_SECONDS = (0.0002, 0.002)
SHUFFLED = 0.5
"""The share of a feed's batches that are out of order."""
LISTING_SECONDS = 0.005
"""How old a listing may be in good weather: its index follows the documents."""
REWIND = 5
"""Changes that a feed repeats at most when it repeats some."""

_Answer = TypeVar("_Answer")


class StoreWeather:
    """How the store treats single calls; all off when the weather is good."""

    def __init__(self) -> None:
        self.lost_requests = 0.0
        self.lost_answers = 0.0
        self.stale_seconds = 0.0
        self.late_feed_seconds = 0.0
        self.broken_feeds = 0.0

    def clear(self) -> None:
        """Let all be well from now on."""
        self.__init__()


class StoreClient:
    """One node's connection, through whichever copy answers, its own favourite first."""

    def __init__(
        self,
        loop: VirtualLoop,
        cluster: Cluster,
        weather: StoreWeather,
        link: Link,
        random: Random,
        history: History,
        favourite: int,
    ) -> None:
        self._loop = loop
        self._cluster = cluster
        self._weather = weather
        self._link = link
        self._random = random
        self._history = history
        self._favourite = favourite

    async def prepare(self) -> None:
        """Databases come into being when they are written to; this only finds out whether anybody answers."""
        await self.wall_clock()

    async def write(self, database: str, documents: Sequence[Document]) -> list[WriteResult]:
        """See `DocumentStore.write`."""
        index_fields(database)
        wanted = tuple(documents)

        async def carry_out(copy: Copy) -> list[WriteResult]:
            results = await self._cluster.write(copy, database, wanted)
            for each, result in zip(wanted, results, strict=True):
                self._note(database, each.id, result)
            return results

        return await self._call(carry_out)

    async def read(self, database: str, ids: Sequence[str]) -> list[tuple[Document, ...]]:
        """See `DocumentStore.read`."""
        index_fields(database)
        wanted = tuple(ids)
        return await self._call(lambda copy: self._cluster.read(copy, database, wanted))

    async def confirm(self, database: str, documents: Sequence[Document]) -> list[bool]:
        """See `DocumentStore.confirm`."""
        wanted = tuple(documents)

        async def carry_out(copy: Copy) -> list[bool]:
            confirmed = await self._cluster.confirm(copy, database, wanted)
            for each, done in zip(wanted, confirmed, strict=True):
                kind = WriteKind.DONE if done else WriteKind.UNSURE
                self._note(database, each.id, WriteResult(kind, each.revision))
            return confirmed

        return await self._call(carry_out)

    def _note(self, database: str, document_id: str, result: WriteResult) -> None:
        now = self._loop.time()
        self._history.add(
            Written(now, self._link.name, database, document_id, result.kind.value, result.revision)
        )

    async def range(
        self, database: str, start: str, end: str, *, limit: int, descending: bool = False
    ) -> list[Document]:
        """See `DocumentStore.range`: from one copy, as it was some seconds ago."""

        def look(copy: Copy) -> list[Document]:
            found = [each for each in copy.listed(database, self._listing_time()) if start <= each.id < end]
            return sorted(found, key=lambda each: each.id, reverse=descending)[:limit]

        return await self._call(lambda copy: self._glance(copy, look))

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
        """See `DocumentStore.find`: from one copy, as it was some seconds ago."""
        require_index(database, index)

        def look(copy: Copy) -> list[IndexRow]:
            keys = [(each.id, each.body.get(index)) for each in copy.listed(database, self._listing_time())]
            rows = [IndexRow(key, value) for key, value in keys if value is not None and start <= value < end]
            return sorted(rows, key=lambda row: (row.key, row.id), reverse=descending)[:limit]

        return await self._call(lambda copy: self._glance(copy, look))

    async def databases(self) -> list[str]:
        """See `DocumentStore.databases`."""
        return await self._call(
            lambda copy: self._glance(copy, lambda there: sorted(self._cluster.databases(there)))
        )

    async def make_ready(self, database: str) -> None:
        """See `DocumentStore.make_ready`; there is nothing to be made, but it may fail."""
        await self._call(lambda copy: self._glance(copy, lambda _: None))

    async def drop(self, database: str) -> None:
        """See `DocumentStore.drop`."""
        require_executions_database(database)

        def remove(_: Copy) -> None:
            for copy in self._cluster.copies:
                copy.databases.pop(database, None)

        await self._call(lambda copy: self._glance(copy, remove))

    async def wall_clock(self) -> datetime:
        """See `DocumentStore.wall_clock`; the store's clock is right."""

        def look(_: Copy) -> datetime:
            return instant(self._loop.time()).replace(microsecond=0)

        return await self._call(lambda copy: self._glance(copy, look))

    async def close(self) -> None:
        """Nothing is held open."""

    def _listing_time(self) -> float:
        return self._loop.time() - self._random.uniform(0, max(LISTING_SECONDS, self._weather.stale_seconds))

    async def _glance(self, copy: Copy, look: Callable[[Copy], _Answer]) -> _Answer:
        """Ask some copy that the coordinator can reach, and that one alone."""
        chosen = self._random.choice(self._cluster.reachable_from(copy))
        while chosen.hung:
            await asyncio.sleep(0.1)
        return look(chosen)

    # The changes feed: `since` is a position on one copy.

    async def changes(
        self,
        database: str,
        since: str | None,
        *,
        wait_seconds: float,
        limit: int = 1000,
        known: Known | None = None,
    ) -> ChangeBatch:
        """See `DocumentStore.changes`. When its copy is away, another one begins from its beginning."""
        if since is None:
            return await self._call(
                lambda copy: self._glance(
                    copy, lambda there: ChangeBatch((), self._position(there, database))
                )
            )
        position = since
        deadline = self._loop.time() + wait_seconds
        return await self._call(
            lambda copy: self._poll(copy, database, position, deadline, limit),
            seconds=wait_seconds + LONGPOLL_GRACE_SECONDS,
        )

    @staticmethod
    def _position(copy: Copy, database: str) -> str:
        return f"{copy.name}:{len(copy.logs.get(database, []))}"

    async def _poll(
        self, coordinator: Copy, database: str, since: str, deadline: float, limit: int
    ) -> ChangeBatch:
        name, _, place = since.partition(":")
        reachable = self._cluster.reachable_from(coordinator)
        copy = next((each for each in reachable if each.name == name), None)
        start = int(place)
        if copy is None:
            copy, start = self._random.choice(reachable), 0
        if self._weather.late_feed_seconds:
            await asyncio.sleep(self._random.uniform(0, self._weather.late_feed_seconds))
            start = max(0, start - self._random.randint(0, REWIND))
        while len(copy.logs.get(database, [])) <= start and self._loop.time() < deadline:
            changed = asyncio.shield(self._cluster.change_of(copy, database))
            await asyncio.wait([changed], timeout=deadline - self._loop.time())
        if self._random.random() < self._weather.broken_feeds or not copy.up:
            raise StoreUnreachable("the feed broke")
        while copy.hung:
            await asyncio.sleep(0.1)
        log = copy.logs.get(database, [])[start : start + limit]
        ids = list(dict.fromkeys(document_id for _, document_id in log))
        if self._random.random() < SHUFFLED:
            self._random.shuffle(ids)
        trees = [(each, copy.tree(database, each)) for each in ids]
        documents = tuple(document(each, tree.winner) for each, tree in trees if tree is not None)
        branched = frozenset(each for each, tree in trees if tree is not None and tree.is_branched)
        return ChangeBatch(documents, f"{copy.name}:{start + len(log)}", branched)

    # One call: there, done, back; each of the three may fail.

    async def _call(
        self, request: Callable[[Copy], Awaitable[_Answer]], seconds: float = CALL_SECONDS
    ) -> _Answer:
        coordinator = self._coordinator()
        answer: asyncio.Future[_Answer] = self._loop.create_future()
        arrives = self._link.sends and self._random.random() >= self._weather.lost_requests
        if arrives:
            self._link.spawn(self._serve(coordinator, request, answer))
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError as error:
            raise StoreUnreachable(f"{coordinator.name} gave no answer in time") from error

    def _coordinator(self) -> Copy:
        copies = self._cluster.copies
        for step in range(len(copies)):
            copy = copies[(self._favourite + step) % len(copies)]
            if copy.up:
                return copy
        raise StoreUnreachable("no host of the store accepts connections")

    async def _serve(
        self,
        coordinator: Copy,
        request: Callable[[Copy], Awaitable[_Answer]],
        answer: asyncio.Future[_Answer],
    ) -> None:
        await asyncio.sleep(self._random.uniform(*NETWORK_SECONDS))
        error: StoreUnreachable | None = None
        result: _Answer | None = None
        try:
            result = await request(coordinator)
        except StoreUnreachable as unreachable:
            error = unreachable
        await asyncio.sleep(self._random.uniform(*NETWORK_SECONDS))
        lost = not self._link.receives or self._random.random() < self._weather.lost_answers
        if lost or answer.done():
            return
        if error is not None:
            answer.set_exception(error)
            answer.exception()  # nobody may be there any more to look at it
        else:
            answer.set_result(result)
