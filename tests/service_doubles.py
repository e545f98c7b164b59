"""The world of a worker, made to go wrong on purpose: stores that lose answers, a keeper, nodes in reach."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.domain.documents import claim_of, outcome_of
from dcron.domain.errors import NodeUnreachable, ObjectsUnreachable, StoreUnreachable
from dcron.domain.model import Claim, Occurrence, Outcome, Script, Specification
from dcron.domain.offers import ClaimReference, KnownClaims, OfferAnswer, OfferedAttempt
from dcron.ports import Document, ProcessExit, ProcessStart, StartResult, WriteKind, WriteResult
from dcron.services.shared.node_state import LocalState
from dcron.services.shared.starts_first import StartsFirst
from dcron.services.worker.claim_confirmer import ClaimConfirmer
from dcron.services.worker.executor import Executor
from dcron.services.worker.outbox import Outbox
from dcron.services.worker.script_cache import ScriptCache
from dcron.services.worker.spool import Spool
from dcron.services.worker.worker import Worker
from tests.doubles import START, DoubtfulStore, ManualClock

SCRIPT_TEXT = b"#!/bin/sh\necho hello\n"
REAL_SCRIPT = Script(hashlib.sha256(SCRIPT_TEXT).hexdigest(), len(SCRIPT_TEXT), "hello.sh")
MONTH = f"executions-{START:%Y-%m}"

Hook = Callable[[], Awaitable[None]]


class FaultyStore(DoubtfulStore):
    """A store that can hold branches, and whose writes can be made to go wrong.

    Each write of an id that contains a key of `faults` meets the next fault listed there:
    UNSURE is stored, LOST is not; "gone" is unreachable and not stored, "committed" unreachable though
    stored; an exception is raised; a hook is awaited first."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[str, list[WriteKind | str | Exception | Hook]] = {}
        self.requests: list[tuple[str, tuple[str, ...]]] = []
        self.before_read: Hook | None = None

    def _next_fault(self, documents: Sequence[Document]) -> WriteKind | str | Exception | Hook | None:
        for key, faults in self.faults.items():
            if faults and any(key in document.id for document in documents):
                return faults.pop(0)
        return None

    async def write(self, database: str, documents: Sequence[Document]) -> list[WriteResult]:
        self.requests.append((database, tuple(document.id for document in documents)))
        fault = self._next_fault(documents)
        if callable(fault):
            await fault()
            fault = None
        if self.unreachable or fault == "gone":
            raise StoreUnreachable("unplugged")
        if isinstance(fault, Exception):
            raise fault
        if fault in (WriteKind.LOST, WriteKind.REJECTED):
            return [WriteResult(fault, reason="not today")] * len(documents)
        results = await super().write(database, documents)
        if fault == "committed":
            raise StoreUnreachable("no answer")
        if fault is WriteKind.UNSURE:
            return [replace(each, kind=fault) if each.done else each for each in results]
        return results

    async def read(self, database: str, ids: Sequence[str]) -> list[tuple[Document, ...]]:
        if self.before_read is not None:
            hook, self.before_read = self.before_read, None
            await hook()
        if self.unreachable:
            raise StoreUnreachable("unplugged")
        return await super().read(database, ids)

    async def claims(self) -> list[Claim]:
        """All claims that are stored."""
        found = await self.range(MONTH, "", "\uffff", limit=100_000)
        return [claim_of(each.id, each.body) for each in found if each.body["kind"] == "claim"]

    async def outcomes(self) -> dict[str, Outcome]:
        """All outcomes that are stored, by token."""
        found = await self.range(MONTH, "", "\uffff", limit=100_000)
        outcomes = [outcome_of(each.body) for each in found if each.body["kind"] == "outcome"]
        return {outcome.token: outcome for outcome in outcomes}


class FaultyObjects(MemoryObjectStore):
    """A memory object store; `faults` by part of a key are raised every time, `unreachable` by all."""

    def __init__(self) -> None:
        super().__init__()
        self._objects[REAL_SCRIPT.key] = SCRIPT_TEXT
        self.unreachable = False
        self.faults: dict[str, Exception] = {}
        self.before_read: Hook | None = None
        self.puts: list[str] = []

    def _fail(self, key: str) -> None:
        if self.unreachable:
            raise ObjectsUnreachable("unplugged")
        for part, error in self.faults.items():
            if part in key:
                raise error

    async def put_file(self, key: str, path: Path, *, size_bytes: int, trailer: bytes = b"") -> None:
        self.puts.append(key)
        self._fail(key)
        await super().put_file(key, path, size_bytes=size_bytes, trailer=trailer)

    async def read(self, key: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        if self.before_read is not None:
            await self.before_read()
        self._fail(key)
        async for chunk in super().read(key, offset=offset):
            yield chunk

    def text(self, key: str) -> bytes | None:
        """What is stored under a key."""
        return self._objects.get(key)


class Machine:
    """What outlives a daemon: the keeper's scripts and what it wrote about them."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running: dict[str, ProcessStart] = {}
        self.exits: dict[str, ProcessExit] = {}


class FakeRunner:
    """A `ProcessRunner` whose scripts end when the test says so. `faults` are met by the next starts."""

    def __init__(self, machine: Machine, clock: ManualClock) -> None:
        self.machine = machine
        self._clock = clock
        self._ended: asyncio.Queue[str] = asyncio.Queue()
        self.faults: list[Exception | Hook | StartResult] = []
        self.refused: dict[str, Exception] = {}
        self.running_faults: list[Exception] = []
        self.after_list: Hook | None = None
        self.cancelled: list[str] = []
        self.times_listed = 0

    async def open(self) -> None:
        return

    async def start(self, starts: Sequence[ProcessStart]) -> list[StartResult]:
        fault = self.faults.pop(0) if self.faults else None
        if callable(fault):
            await fault()
        elif isinstance(fault, Exception):
            raise fault
        results = []
        for start in starts:
            if start.execution_id in self.refused:
                raise self.refused[start.execution_id]
            results.append(fault if isinstance(fault, StartResult) else self._start(start))
        return results

    def _start(self, start: ProcessStart) -> StartResult:
        if start.token in self.machine.started:
            return StartResult.STARTED
        if self._clock.boottime() > start.not_after_boottime:
            return StartResult.TOO_LATE
        self.machine.started.append(start.token)
        self.machine.running[start.token] = start
        return StartResult.STARTED

    def end(self, token: str, exit_code: int = 0, printed: bytes = b"") -> None:
        """Have a script end, and tell it to whoever listens."""
        start = self.machine.running.pop(token)
        if printed:
            (start.folder / "log").write_bytes(printed)
        self.machine.exits[token] = ProcessExit(token, exit_code=exit_code, log_bytes=len(printed))
        self._ended.put_nowait(token)

    async def cancel(self, token: str) -> bool:
        self.cancelled.append(token)
        return token in self.machine.running

    async def running(self) -> frozenset[str]:
        if self.running_faults:
            raise self.running_faults.pop(0)
        self.times_listed += 1
        listed = frozenset(self.machine.running)
        if self.after_list is not None:
            hook, self.after_list = self.after_list, None
            await hook()
        return listed

    async def next_exit(self) -> str:
        return await self._ended.get()

    def read_exit(self, folder: Path, token: str) -> ProcessExit | None:
        return self.machine.exits.get(token)

    async def close(self) -> None:
        return


@dataclass
class World:
    """What the nodes of a test share."""

    store: FaultyStore
    objects: FaultyObjects
    clock: ManualClock


def new_world() -> World:
    return World(FaultyStore(), FaultyObjects(), ManualClock())


class WorkerNode:
    """One node in its script-running role, on a real folder. `crash` drops it, as SIGKILL would."""

    def __init__(
        self, world: World, folder: Path, machine: Machine, *, node_id: str = "a", slots: int = 4
    ) -> None:
        self.spool = Spool(folder)
        self.spool.open()
        self.runner = FakeRunner(machine, world.clock)
        self.burst = StartsFirst()
        self.outbox = Outbox(world.store, world.objects, self.spool, self.burst)
        self.executor = Executor(
            node_id,
            self.spool,
            self.runner,
            self.outbox,
            ClaimConfirmer(world.store),
            world.clock,
            self.burst,
            environment={"PATH": "/bin"},
            max_log_bytes=1000,
        )
        self.local = LocalState()
        self.worker = Worker(
            node_id,
            slots,
            world.store,
            self.spool,
            ScriptCache(self.spool.scripts, world.objects),
            self.executor,
            self.local,
            world.clock,
            self.burst,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Run the loops, as a node does."""
        self._tasks = [asyncio.create_task(self.outbox.run()), asyncio.create_task(self.executor.run())]

    async def recover(self) -> None:
        """Come up after a restart."""
        await self.executor.recover()
        self.worker.ready = True

    async def crash(self) -> None:
        """Stop acting at once; what is on disk stays."""
        for task in (*self._tasks, *self.worker._begun):
            task.cancel()
        for task in (*self._tasks, *self.worker._begun):
            with suppress(asyncio.CancelledError):
                await task
        self.spool.close()

    def failed(self) -> list[BaseException]:
        """Why loops have ended that must not end."""
        done = [task for task in self._tasks if task.done() and not task.cancelled()]
        return [error for task in done if (error := task.exception()) is not None]

    def folders(self) -> list[str]:
        """Attempts in the spool."""
        return sorted(folder.name for folder in (self.spool.folder / "attempts").iterdir())


class DirectNodes:
    """A `NodeClient` that calls workers by address; `unreachable` addresses answer nothing."""

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}
        self.unreachable: set[str] = set()
        self.deaf: set[str] = set()
        self.resigned: list[tuple[str, int]] = []
        self.offers: list[tuple[str, int, tuple[str, ...]]] = []

    async def offer(
        self,
        address: str,
        node_id: str,
        term: int,
        number: int,
        leader_id: str,
        attempts: Sequence[OfferedAttempt],
    ) -> list[OfferAnswer]:
        self._reach(address)
        self.offers.append((address, term, tuple(each.execution_id for each in attempts)))
        answers = await self.workers[address].offer(node_id, term, number, leader_id, attempts)
        if address in self.deaf:
            raise NodeUnreachable("the answer was lost")
        return answers

    async def cancel(self, address: str, identifier: str) -> bool:
        self._reach(address)
        return await self.workers[address].cancel(identifier)

    async def known_claims(self, address: str, node_id: str, claims: Sequence[ClaimReference]) -> KnownClaims:
        self._reach(address)
        return await self.workers[address].known_claims(node_id, claims)

    async def follow_log(
        self, address: str, identifier: str, offset: int, *, follow: bool
    ) -> AsyncIterator[bytes]:
        self._reach(address)
        async for chunk in self.workers[address].follow_log(identifier, offset, follow=follow):
            yield chunk

    async def announce_resignation(self, address: str, term: int) -> None:
        self._reach(address)
        self.resigned.append((address, term))

    async def close(self) -> None:
        return

    def _reach(self, address: str) -> None:
        if address in self.unreachable:
            raise NodeUnreachable(f"node at {address}: no answer")


def an_attempt(number: int = 0, *, attempt: int = 1, script: Script = REAL_SCRIPT) -> OfferedAttempt:
    """An offered attempt of its own job."""
    occurrence = Occurrence.of_schedule(f"01KB{number:022d}", START)
    specification = Specification("* * * * *", script, interpreter="sh", timeout_seconds=60.0)
    identifier = occurrence.attempt(attempt).text
    return OfferedAttempt(identifier, f"job-{number}", 1, specification, START, manual=False)


ATTEMPT = an_attempt()
