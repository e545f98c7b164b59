"""`ProcessRunner` that leaves the running to a keeper, a process which outlives this daemon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import structlog

from dcron.adapters.keeper.link import KeeperLink, KeeperUnreachable, LinkLost, Replaced, connect, token_list
from dcron.domain.errors import DcronError, InvalidInput
from dcron.keeper.protocol import MESSAGE_BYTES_MAX
from dcron.keeper.records import EXIT_NAME, read_record
from dcron.ports import Clock, ProcessExit, ProcessStart, StartResult

__all__ = ["KeeperRunner"]

ASK_TRIES = 3
ASK_WAIT_SECONDS = 20.0
"""For a connection to come back before a question is given up."""
STARTS_PER_REQUEST = 100
REQUEST_BYTES = 1 << 20
"""A request takes no further start once it is this long; well below the protocol's bound."""
EXITS_UNREAD_MAX = 10_000
"""Ends of scripts that wait for `next_exit`; beyond it the keeper is not listened to."""
CONNECT_AGAIN_SECONDS_MIN = 0.1
CONNECT_AGAIN_SECONDS_MAX = 5.0

_log = structlog.get_logger()


class KeeperRunner:
    """Runs the scripts of one spool. Besides what the port says:

    `start` may be repeated with the same token: it is started once. After KeeperUnreachable (or SetupError)
    from `start` it is not known what was started; `next_exit` names each such token later, and
    `read_exit` then gives None for one that was not. A second runner on the same spool takes it over:
    then every call of the first, `next_exit` included, raises KeeperUnreachable.
    """

    def __init__(self, spool: Path, clock: Clock) -> None:
        self._spool = spool.absolute()
        self._clock = clock
        self._link: KeeperLink | None = None
        self._linked = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None
        self._failure: DcronError | None = None
        self._watched: set[str] = set()
        self._starting: set[str] = set()
        self._exits: asyncio.Queue[str | None] = asyncio.Queue(EXITS_UNREAD_MAX)

    async def open(self) -> None:
        """Connect to the spool's keeper, or start one; raises SetupError, SpoolFull."""
        link = await connect(self._spool, self._clock)
        self._adopt_link(link)
        self._watched |= link.running
        self._listener = asyncio.create_task(self._listen(link), name="keeper-listener")

    async def start(self, starts: Sequence[ProcessStart]) -> list[StartResult]:
        """Start each script once; SPOOL_FULL where the node has no room for it.

        Raises InvalidInput for arguments and environment that are too long to be sent."""
        results: list[StartResult] = []
        for batch in _batches(starts):
            results += await self._start_batch(batch)
        return results

    async def cancel(self, token: str) -> bool:
        """Begin to stop a script; its end is told by `next_exit`. False when it does not run."""
        answer = await self._ask({"do": "cancel", "token": token})
        return answer.get("stopping") is True

    async def running(self) -> frozenset[str]:
        """Tokens of the scripts that run, or whose end a full disk keeps from being written."""
        return token_list((await self._ask({"do": "list"})).get("running"))

    async def next_exit(self) -> str:
        """Wait for a script to end; its token, each once."""
        while True:
            token = None if self._failure is not None and self._exits.empty() else await self._exits.get()
            if token is not None:
                return token
            if self._failure is not None:
                raise self._failure

    def read_exit(self, folder: Path, token: str) -> ProcessExit | None:
        """Keeper's record of the end of this script; a damaged record counts as `lost`."""
        record = read_record(folder / EXIT_NAME)
        if record is None or (record and record.get("token") != token):
            return None
        try:
            return _parse_exit(token, record)
        except (TypeError, ValueError) as error:
            _log.error("exit record is damaged", action="read_exit", folder=str(folder), reason=str(error))
            return ProcessExit(token=token, lost=True)

    @property
    def keeper_pid(self) -> int | None:
        """Process id of the keeper that was connected to last, as it tells it."""
        return self._link.pid if self._link else None

    @property
    def has_control_groups(self) -> bool:
        """Whether that keeper holds each script in a control group, from which nothing of it can hide."""
        return self._link is not None and self._link.has_control_groups

    async def close(self) -> None:
        """Hang up; scripts run on, and their ends wait in the spool."""
        if self._listener is not None:
            self._listener.cancel()
            with suppress(asyncio.CancelledError):
                await self._listener
            self._listener = None
        if self._link is not None:
            # A listener that was cancelled before it first ran has closed nothing.
            await self._link.close()
            self._link = None
        self._linked.clear()

    async def _start_batch(self, batch: Sequence[ProcessStart]) -> list[StartResult]:
        tokens = {start.token for start in batch}
        self._watched |= tokens
        self._starting |= tokens
        try:
            answer = await self._ask({"do": "start", "starts": [_fields(start) for start in batch]})
        finally:
            self._starting -= tokens
        raw = answer.get("results")
        if not isinstance(raw, list) or len(raw) != len(batch):
            raise KeeperUnreachable("the keeper's answer does not fit the question")
        results: list[StartResult] = []
        for start, each in zip(batch, raw, strict=True):
            result = StartResult(each["result"])
            results.append(result)
            if result is StartResult.SPOOL_FULL:
                _log.error(
                    "no room for a script", action="start", token=start.token, reason=each.get("reason")
                )
            if result is not StartResult.STARTED:
                self._watched.discard(start.token)
            elif each.get("over"):
                await self._note_exit(start.token)
        return results

    async def _ask(self, request: dict[str, object]) -> dict[str, object]:
        """Ask, and ask again where the connection broke: every request may be repeated."""
        for _ in range(ASK_TRIES):
            try:
                async with asyncio.timeout(ASK_WAIT_SECONDS):
                    await self._linked.wait()
            except TimeoutError as error:
                raise KeeperUnreachable(f"no keeper answers in {self._spool}") from error
            if self._failure is not None:
                raise self._failure
            link = self._link
            assert link is not None
            try:
                return await link.ask(request)
            except LinkLost as error:
                _log.warning("keeper hung up", action="keeper_ask", reason=str(error))
                if self._link is link and self._failure is None:
                    self._linked.clear()
        raise KeeperUnreachable(f"the keeper in {self._spool} hung up {ASK_TRIES} times")

    async def _listen(self, link: KeeperLink) -> None:
        """Take in what the keeper tells, and connect again when it is gone."""
        while True:
            try:
                await link.run(self._note_exit)
            except Replaced as error:
                self._failure = KeeperUnreachable(str(error))
                self._linked.set()
                await self._exits.put(None)
                _log.error("another daemon uses this spool", action="keeper_replaced", spool=str(self._spool))
                return
            except LinkLost as error:
                self._linked.clear()
                _log.warning("keeper is gone", action="keeper_lost", reason=str(error))
            link = await self._connect_again()
            self._adopt_link(link)
            # Ends that were told to nobody. What is being started is asked for again by `_ask`.
            for token in self._watched - link.running - self._starting:
                await self._note_exit(token)
            self._watched |= link.running

    async def _connect_again(self) -> KeeperLink:
        pause = CONNECT_AGAIN_SECONDS_MIN
        said = ""
        while True:
            try:
                return await connect(self._spool, self._clock)
            except DcronError as error:
                if str(error) != said:
                    said = str(error)
                    _log.error("no keeper; one is sought on and on", action="keeper_connect", reason=said)
            await asyncio.sleep(pause)
            pause = min(pause * 2, CONNECT_AGAIN_SECONDS_MAX)

    def _adopt_link(self, link: KeeperLink) -> None:
        self._link = link
        self._linked.set()

    async def _note_exit(self, token: str) -> None:
        if token in self._watched:
            self._watched.discard(token)
            await self._exits.put(token)


def _batches(starts: Sequence[ProcessStart]) -> Iterator[list[ProcessStart]]:
    """Split so that each request stays small; raises InvalidInput."""
    batch: list[ProcessStart] = []
    length = 0
    for start in starts:
        size = len(json.dumps(_fields(start)))
        if size > MESSAGE_BYTES_MAX - REQUEST_BYTES:
            raise InvalidInput(
                "environment", f"{size} bytes of arguments and environment are more than can be passed"
            )
        if batch and (len(batch) >= STARTS_PER_REQUEST or length + size > REQUEST_BYTES):
            yield batch
            batch, length = [], 0
        batch.append(start)
        length += size
    if batch:
        yield batch


def _fields(start: ProcessStart) -> dict[str, object]:
    return {
        "execution_id": start.execution_id,
        "token": start.token,
        "folder": str(start.folder.absolute()),
        "claim": dict(start.claim),
        "argv": list(start.argv),
        "environment": dict(start.environment),
        "timeout_seconds": start.timeout_seconds,
        "grace_seconds": start.grace_seconds,
        "max_log_bytes": start.max_log_bytes,
        "not_after_boottime": start.not_after_boottime,
    }


def _parse_exit(token: str, record: Mapping[str, object]) -> ProcessExit:
    """Raises TypeError or ValueError where the record is not what a keeper writes."""
    exit_code, signal = record.get("exit_code"), record.get("signal")
    error, lost = record.get("error", ""), record.get("lost", False)
    if sum((exit_code is not None, signal is not None, bool(error), lost is True)) != 1:
        raise ValueError("it does not say one way in which the script ended")
    return ProcessExit(
        token=token,
        exit_code=None if exit_code is None else _integer(exit_code),
        signal=None if signal is None else _integer(signal),
        error=str(error),
        lost=lost is True,
        timed_out=record.get("timed_out") is True,
        cancelled=record.get("cancelled") is True,
        started_at=_instant(record.get("started_at")),
        finished_at=_instant(record.get("finished_at")),
        cpu_seconds=_number(record.get("cpu_seconds", 0.0)),
        peak_memory_bytes=_integer(record.get("peak_memory_bytes", 0)),
        log_bytes=_integer(record.get("log_bytes", 0)),
    )


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _instant(value: object) -> datetime | None:
    return None if value is None else datetime.fromisoformat(str(value))
