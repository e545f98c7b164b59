"""The document store in one SQLite file, which several processes on one machine may share.

All access is in one thread, so that the event loop never waits for the disk. Writes that are asked for
while a commit is under way share the next one: a commit costs an fsync, what is in it next to nothing.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from dcron.adapters.documents import index_fields, require_executions_database, require_index
from dcron.adapters.sqlite.tables import (
    COLUMNS,
    changed_since,
    document_of,
    drop_some,
    last_sequence,
    migrate,
    write,
)
from dcron.domain.errors import SetupError, StoreUnreachable
from dcron.ports import ChangeBatch, Document, IndexRow, Known, WriteResult

__all__ = ["SqliteDocumentStore", "parse_sqlite_url"]

CALL_SECONDS: Final = 3.0
"""Half a lease: an fsync on a laptop's busy disk takes longer than a database server's."""
BUSY_SECONDS: Final = 1.5
"""Longest wait for another process's transaction; shorter than a call's, so that the call says why."""
CHANGES_POLL_SECONDS: Final = 0.1
"""Another process cannot wake us, and each look at whether anything was committed wakes this one."""
CHANGES_READ_SECONDS: Final = 1.0
"""Time after which changes are read though no commit shows: its process may have been killed before it
did."""
MAX_CALLS_PER_COMMIT: Final = 200
MAX_CALLS_WAITING: Final = 10_000
_SETUP_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)

_Answer = TypeVar("_Answer")


def parse_sqlite_url(url: str) -> Path:
    """Read `sqlite:///relative/path` or `sqlite:////absolute/path`; SetupError for anything else."""
    prefix = "sqlite:///"
    path = url.removeprefix(prefix)
    if not url.startswith(prefix) or not path.strip("/") or path.endswith("/") or "\0" in path:
        raise SetupError("store URL: expected sqlite:///relative/file or sqlite:////absolute/file")
    if "?" in path or "#" in path:
        raise SetupError("store URL: sqlite takes no ? or #")
    return Path(path)


@dataclass(frozen=True, slots=True)
class _Call:
    """Work for the thread. Writing calls may share a transaction; `future` gets the outcome."""

    work: Callable[[sqlite3.Connection], Any]
    writes: bool
    future: Future[Any]


class SqliteDocumentStore:
    """`DocumentStore` in the file at `path`, whose folder exists; durable once a call has returned."""

    def __init__(self, path: Path, *, call_seconds: float = CALL_SECONDS) -> None:
        self._path = path
        self._call_seconds = call_seconds
        self._calls: queue.Queue[_Call] = queue.Queue(MAX_CALLS_WAITING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None

    async def prepare(self) -> None:
        """Open the file, making it where it is missing. SetupError when it cannot be what we need."""
        try:
            await self._call(lambda _connection: None, writes=False)
        except StoreUnreachable as error:
            cause = error.__cause__
            if isinstance(cause, sqlite3.Error) and _code(cause) in _SETUP_CODES:
                raise SetupError(f"cannot use {self._path} as the document store: {cause}") from cause
            if isinstance(cause, FileNotFoundError | NotADirectoryError | PermissionError):
                raise SetupError(
                    f"cannot use {self._path} as the document store: {cause.strerror}"
                ) from cause
            raise

    async def write(self, database: str, documents: Sequence[Document]) -> list[WriteResult]:
        """See `DocumentStore.write`; all documents of a call are in one transaction."""
        index_fields(database)
        return await self._call(lambda connection: write(connection, database, documents), writes=True)

    async def read(self, database: str, ids: Sequence[str]) -> list[tuple[Document, ...]]:
        """See `DocumentStore.read`; there is never more than one leaf."""
        index_fields(database)
        query = f"SELECT {COLUMNS} FROM documents WHERE database = ? AND id = ? AND NOT deleted"  # noqa: S608

        def work(connection: sqlite3.Connection) -> list[tuple[Document, ...]]:
            return [
                tuple(document_of(row) for row in connection.execute(query, (database, document_id)))
                for document_id in ids
            ]

        return await self._call(work, writes=False)

    async def confirm(self, database: str, documents: Sequence[Document]) -> list[bool]:
        """See `DocumentStore.confirm`: there is one copy."""
        found = await self.read(database, [document.id for document in documents])
        return [document in leaves for document, leaves in zip(documents, found, strict=True)]

    async def range(
        self, database: str, start: str, end: str, *, limit: int, descending: bool = False
    ) -> list[Document]:
        """See `DocumentStore.range`."""
        index_fields(database)
        query = (
            f"SELECT {COLUMNS} FROM documents WHERE database = ? AND id >= ? AND id < ? AND NOT deleted"  # noqa: S608
            f" ORDER BY id {_order(descending)} LIMIT ?"
        )

        def work(connection: sqlite3.Connection) -> list[Document]:
            return [document_of(row) for row in connection.execute(query, (database, start, end, limit))]

        return await self._call(work, writes=False)

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
        """See `DocumentStore.find`."""
        require_index(database, index)
        order = _order(descending)
        query = (
            f"SELECT id, {index} FROM documents WHERE database = ? AND {index} >= ? AND {index} < ?"  # noqa: S608 - index is one of INDEXES
            f" ORDER BY {index} {order}, id {order} LIMIT ?"
        )

        def work(connection: sqlite3.Connection) -> list[IndexRow]:
            return [IndexRow(*row) for row in connection.execute(query, (database, start, end, limit))]

        return await self._call(work, writes=False)

    async def changes(
        self,
        database: str,
        since: str | None,
        *,
        wait_seconds: float,
        limit: int = 1000,
        known: Known | None = None,  # noqa: ARG002 - bodies cost next to nothing here
    ) -> ChangeBatch:
        """See `DocumentStore.changes`."""
        index_fields(database)
        if since is None:
            return await self._call(
                lambda connection: ChangeBatch((), str(last_sequence(connection))), writes=False
            )
        position = int(since)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_seconds
        while True:
            seen = self._last_commit()
            batch = await self._call(
                lambda connection: changed_since(connection, database, position, limit), writes=False
            )
            if batch.documents or loop.time() >= until:
                return batch
            await self._wait_for_commit(seen, until)

    async def _wait_for_commit(self, seen: int, until: float) -> None:
        """Wait until anybody commits after what was `seen`, or it is time to read all the same."""
        loop = asyncio.get_running_loop()
        until = min(until, loop.time() + CHANGES_READ_SECONDS)
        while (remaining := until - loop.time()) > 0:
            await asyncio.sleep(min(CHANGES_POLL_SECONDS, remaining))
            if self._last_commit() != seen:
                return

    def _last_commit(self) -> int:
        """Time at which the last commit of any process became readable; see `_show_commit`."""
        try:
            return self._path.stat().st_mtime_ns
        except OSError as error:
            raise StoreUnreachable(f"{self._path}: {error.strerror}") from error

    def _show_commit(self) -> None:
        """Tell all who wait for changes. The time of the write-ahead log would come too early: a commit is
        written there first, and can be read only once it is on the disk."""
        now_ns = time.time_ns()
        with suppress(OSError):  # they read once in a while even so
            os.utime(self._path, ns=(now_ns, now_ns))

    async def databases(self) -> list[str]:
        """See `DocumentStore.databases`."""

        def work(connection: sqlite3.Connection) -> list[str]:
            return [name for (name,) in connection.execute("SELECT name FROM databases ORDER BY name")]

        return await self._call(work, writes=False)

    async def make_ready(self, database: str) -> None:
        """See `DocumentStore.make_ready`; there is nothing to be made."""

    async def drop(self, database: str) -> None:
        """See `DocumentStore.drop`; ValueError for any other database. Goes in steps, lest others wait."""
        require_executions_database(database)
        while await self._call(lambda connection: drop_some(connection, database), writes=True):
            pass

    async def wall_clock(self) -> datetime:
        """See `DocumentStore.wall_clock`: this machine's own."""
        return datetime.now(UTC).replace(microsecond=0)

    async def probe_write(self) -> None:
        """Take the lock that a write takes, and commit nothing. SetupError, StoreUnreachable."""
        await self._call(lambda _: None, writes=True)

    async def close(self) -> None:
        """See `DocumentStore.close`."""
        await asyncio.wrap_future(self._thread.submit(self._disconnect))
        self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[[sqlite3.Connection], _Answer], *, writes: bool) -> _Answer:
        call = _Call(work, writes, Future())
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            raise StoreUnreachable(
                f"{self._path}: {MAX_CALLS_WAITING} calls wait for the disk already"
            ) from None
        self._thread.submit(self._drain)
        try:
            async with asyncio.timeout(self._call_seconds):
                answer: _Answer = await asyncio.wrap_future(call.future)
                return answer
        except TimeoutError:
            raise StoreUnreachable(
                f"{self._path}: the disk took longer than {self._call_seconds:g} s"
            ) from None
        except (sqlite3.Error, OSError) as error:
            raise StoreUnreachable(f"{self._path}: {error}") from error

    def _drain(self) -> None:
        """In the thread: carry out all that waits, writing calls in one transaction."""
        calls: list[_Call] = []
        with suppress(queue.Empty):  # the usual end, and how a call finds that an earlier one took its work
            while len(calls) < MAX_CALLS_PER_COMMIT:
                calls.append(self._calls.get_nowait())
        # A caller whose deadline has passed waits no more, and is spared the work.
        calls = [call for call in calls if call.future.set_running_or_notify_cancel()]
        writing = [call for call in calls if call.writes]
        if writing:
            self._run(writing, self._transact)
            self._show_commit()
        for call in calls:
            if not call.writes:
                self._run([call], lambda connection, one: [one[0].work(connection)])

    def _run(
        self, calls: Sequence[_Call], action: Callable[[sqlite3.Connection, Sequence[_Call]], list[Any]]
    ) -> None:
        try:
            answers = action(self._connect(), calls)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait have to hear of it
            for call in calls:
                call.future.set_exception(error)
            return
        for call, answer in zip(calls, answers, strict=True):
            call.future.set_result(answer)

    @staticmethod
    def _transact(connection: sqlite3.Connection, calls: Sequence[_Call]) -> list[Any]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            answers = [call.work(connection) for call in calls]
            connection.execute("COMMIT")
        except BaseException:
            # A full disk may have rolled back already; then there is nothing to do.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return answers

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            # Jobs may hold what others should not read; SQLite gives its side files the same mode. Only a
            # new file is opened here: closing one that SQLite has open elsewhere in this process would
            # drop SQLite's locks on it.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                migrate(connection, self._path)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _order(descending: bool) -> str:  # noqa: FBT001 - a word for it
    return "DESC" if descending else "ASC"


def _code(error: sqlite3.Error) -> int | None:
    """SQLite's primary result code, without what extended codes add to it."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
