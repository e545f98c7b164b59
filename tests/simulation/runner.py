"""Scripts without processes: a keeper per machine, which outlives the node's daemon as the real one does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random

from dcron.ports import ProcessExit, ProcessStart, StartResult
from tests.simulation.clocks import MachineClock
from tests.simulation.history import Ended, History, Started
from tests.simulation.loop import Handle, VirtualLoop

__all__ = ["FAILS", "LONGEST_SECONDS", "Keeper", "Runner", "log_text"]

LONGEST_SECONDS = "SIM_LONGEST_SECONDS"
"""Environment of a job: its scripts take up to this long."""
FAILS = "SIM_FAILS"
"""Environment of a job: the share of its scripts that fail."""
ANSWER_SECONDS = (0.0005, 0.005)
SIGTERM = 15
SIGKILL = 9


@dataclass(slots=True)
class _Script:
    start: ProcessStart
    began_at: float
    ends: Handle | None = None
    stopping: bool = False


class Keeper:
    """The scripts of one machine, and what its disk says of those that ended."""

    def __init__(
        self, loop: VirtualLoop, random: Random, history: History, clock: MachineClock, node_id: str
    ) -> None:
        self._loop = loop
        self._random = random
        self._history = history
        self._clock = clock
        self._node_id = node_id
        self.scripts: dict[str, _Script] = {}
        self.exits: dict[str, ProcessExit] = {}
        self.listener: asyncio.Queue[str] | None = None
        self.disk_full = False
        self.slow_seconds = 0.0

    async def start(self, starts: Sequence[ProcessStart]) -> list[StartResult]:
        """Start scripts, each once. Runs outside the node, which may die meanwhile."""
        await asyncio.sleep(self._random.uniform(*ANSWER_SECONDS))
        if self.slow_seconds:
            await asyncio.sleep(self._random.uniform(0, self.slow_seconds))
        return [self._start(each) for each in starts]

    def _start(self, start: ProcessStart) -> StartResult:
        if start.token in self.scripts or start.token in self.exits:
            return StartResult.STARTED
        if self.disk_full:
            return StartResult.SPOOL_FULL
        if self._clock.boottime() > start.not_after_boottime:
            return StartResult.TOO_LATE
        script = _Script(start, self._loop.time())
        self.scripts[start.token] = script
        self._history.add(
            Started(
                self._loop.time(),
                self._node_id,
                start.execution_id,
                start.token,
                start.timeout_seconds,
                start.grace_seconds,
            )
        )
        seconds, exit_code = self._fate(start)
        script.ends = self._call_later(seconds, script, ProcessExit(start.token, exit_code=exit_code))
        if start.timeout_seconds and seconds > start.timeout_seconds:
            self._loop.call_later(start.timeout_seconds, self._time_out, script, context=Context())
        return StartResult.STARTED

    def _fate(self, start: ProcessStart) -> tuple[float, int]:
        """How long a script takes and how it ends by itself: its own matter, whatever else happens."""
        random = Random(f"{self._random.random()} {start.execution_id}")
        longest = float(start.environment.get(LONGEST_SECONDS, "1"))
        failed = random.random() < float(start.environment.get(FAILS, "0"))
        return 0.01 + longest * random.random() ** 3, int(failed)

    def _call_later(self, seconds: float, script: _Script, end: ProcessExit) -> Handle:
        return self._loop.call_later(seconds, self._end, script, end, context=Context())

    def _time_out(self, script: _Script) -> None:
        self._stop(script, timed_out=True)

    def _stop(self, script: _Script, *, timed_out: bool = False) -> None:
        """TERM; some scripts take their grace and are killed."""
        token = script.start.token
        if self.scripts.get(token) is not script or script.stopping:
            return
        script.stopping = True
        stubborn = self._random.random() < 0.3
        seconds = script.start.grace_seconds if stubborn else self._random.uniform(0, 0.5)
        number = SIGKILL if stubborn else SIGTERM
        if script.ends is not None:
            script.ends.cancel()
        end = ProcessExit(token, signal=number, timed_out=timed_out, cancelled=not timed_out)
        self._call_later(seconds, script, end)

    def cancel(self, token: str) -> bool:
        """Begin to stop a script."""
        script = self.scripts.get(token)
        if script is None:
            return False
        self._stop(script)
        return True

    def _end(self, script: _Script, end: ProcessExit) -> None:
        token = script.start.token
        if self.scripts.pop(token, None) is None:
            return
        text = log_text(script.start.execution_id, token)
        if script.start.folder.is_dir():
            (script.start.folder / "log").write_bytes(text)
        now = self._clock.now()
        began_at = now - timedelta(seconds=self._loop.time() - script.began_at)
        self.exits[token] = ProcessExit(
            token,
            exit_code=end.exit_code,
            signal=end.signal,
            timed_out=end.timed_out,
            cancelled=end.cancelled,
            started_at=began_at,
            finished_at=now,
            log_bytes=len(text),
        )
        self._note_end(script, _state(end), seen=True)
        if self.listener is not None:
            self.listener.put_nowait(token)

    def _note_end(self, script: _Script, state: str, *, seen: bool) -> None:
        self._history.add(
            Ended(
                self._loop.time(),
                self._node_id,
                script.start.execution_id,
                script.start.token,
                state,
                seen,
            )
        )

    def lose_power(self) -> None:
        """The machine goes down: scripts are gone, and nobody saw how; the disk knows that they ran."""
        for token, script in list(self.scripts.items()):
            del self.scripts[token]
            if script.ends is not None:
                script.ends.cancel()
            self.exits[token] = ProcessExit(token, lost=True)
            self._note_end(script, "lost", seen=False)


class Runner:
    """The `ProcessRunner` of one incarnation of a node."""

    def __init__(self, loop: VirtualLoop, keeper: Keeper) -> None:
        self._loop = loop
        self._keeper = keeper
        self._ends: asyncio.Queue[str] = asyncio.Queue()

    async def open(self) -> None:
        """See `ProcessRunner.open`: the keeper tells the newest daemon only."""
        self._keeper.listener = self._ends

    async def start(self, starts: Sequence[ProcessStart]) -> list[StartResult]:
        """See `ProcessRunner.start`."""
        asked = self._loop.create_task(self._keeper.start(tuple(starts)), context=Context())
        return await asyncio.shield(asked)

    async def cancel(self, token: str) -> bool:
        """See `ProcessRunner.cancel`."""
        return self._keeper.cancel(token)

    async def running(self) -> frozenset[str]:
        """See `ProcessRunner.running`."""
        return frozenset(self._keeper.scripts)

    async def next_exit(self) -> str:
        """See `ProcessRunner.next_exit`."""
        return await self._ends.get()

    def read_exit(self, folder: Path, token: str) -> ProcessExit | None:
        """See `ProcessRunner.read_exit`."""
        return self._keeper.exits.get(token)

    async def close(self) -> None:
        """See `ProcessRunner.close`."""
        if self._keeper.listener is self._ends:
            self._keeper.listener = None


def log_text(execution_id: str, token: str) -> bytes:
    """What a script prints."""
    return f"output of {execution_id} as {token}\n".encode()


def _state(end: ProcessExit) -> str:
    if end.timed_out:
        return "timed_out"
    if end.cancelled:
        return "cancelled"
    return "succeeded" if end.exit_code == 0 else "failed"
