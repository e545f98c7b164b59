"""The daemon's side of its keeper: starting one, connecting to it, and asking it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog

import dcron
from dcron.domain.errors import DcronError, SetupError, SpoolFull
from dcron.keeper.protocol import (
    JOURNAL_NAME,
    NO_ROOM_STATUS,
    SOCKET_NAME,
    VERSION,
    Frames,
    ProtocolError,
    encode,
)
from dcron.ports import Clock

__all__ = ["KeeperLink", "KeeperUnreachable", "LinkLost", "Replaced", "connect"]

CONNECT_SECONDS = 15.0
"""For starting a keeper, if need be, and its first words; a busy machine takes its time."""
CONNECT_AGAIN_SECONDS = 0.05
REQUEST_SECONDS = 30.0
"""For an answer: a batch of starts waits for the disk."""
READ_BYTES = 1 << 16
REASON_BYTES_MAX = 2000

_KEPT_VARIABLES = ("PATH", "LANG", "HOME", "TZ")
_log = structlog.get_logger()
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class KeeperUnreachable(DcronError):
    """The keeper of this node's scripts gave no answer in time. What was asked may or may not have been
    done; `running` and `read_exit` tell once it answers again."""


class LinkLost(Exception):
    """The connection broke before the answer came; the question may be asked again on a new one."""


class Replaced(LinkLost):
    """Another daemon has connected to this spool's keeper, which talks to one only."""


class KeeperLink:
    """One connection. `run` must run for answers to arrive; it ends with LinkLost or Replaced."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        frames: Frames,
        hello: dict[str, object],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = frames
        self._answers: dict[int, asyncio.Future[dict[str, object]]] = {}
        self._last_id = 0
        self._lost: LinkLost | None = None
        self.running = token_list(hello.get("running"))
        """Tokens of the scripts that ran when the connection was made."""
        pid = hello.get("pid")
        self.pid = pid if isinstance(pid, int) else None
        self.has_control_groups = hello.get("control_groups") is True

    async def ask(self, request: dict[str, object]) -> dict[str, object]:
        """The keeper's answer; raises LinkLost, or KeeperUnreachable where none comes."""
        if self._lost is not None:
            raise self._lost
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._writer.write(encode({"id": number, **request}))
            async with asyncio.timeout(REQUEST_SECONDS):
                return await answer
        except TimeoutError as error:
            # What a hung keeper makes of the question shows in its greeting to the next connection.
            await self.close()
            raise KeeperUnreachable(f"the keeper gave no answer within {REQUEST_SECONDS:g} s") from error
        finally:
            self._answers.pop(number, None)

    async def run(self, on_exited: Callable[[str], Awaitable[None]]) -> None:
        """Deliver answers and ends of scripts until the connection breaks; raises LinkLost or Replaced."""
        lost: LinkLost = LinkLost("closed")
        try:
            while data := await self._reader.read(READ_BYTES):
                for message in self._frames.feed(data):
                    await self._deliver(message, on_exited)
        except LinkLost as error:
            lost = error
        except (OSError, ProtocolError) as error:
            lost = LinkLost(str(error))
        finally:
            self._lost = lost
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(lost)
            await _hang_up(self._writer)
        raise lost

    async def close(self) -> None:
        """Hang up; safe to call again."""
        await _hang_up(self._writer)

    async def _deliver(self, message: dict[str, object], on_exited: Callable[[str], Awaitable[None]]) -> None:
        match message:
            case {"event": "exited", "token": str(token)}:
                await on_exited(token)
            case {"event": "replaced"}:
                raise Replaced("another daemon uses this spool's keeper")
            case {"id": int(number)}:
                answer = self._answers.get(number)
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case _:
                _log.debug("keeper says what this dcron does not know", action="keeper_message")


def token_list(value: object) -> frozenset[str]:
    """The tokens in a message of the keeper; raises ProtocolError."""
    if not isinstance(value, list) or not all(isinstance(token, str) for token in value):
        raise ProtocolError("running: not a list of tokens")
    return frozenset(value)


async def connect(spool: Path, clock: Clock) -> KeeperLink:
    """Connect to the keeper of a spool, starting one where there is none.

    Raises SetupError with the keeper's own words, SpoolFull where the disk has no room for it."""
    deadline = clock.monotonic() + CONNECT_SECONDS
    while True:
        try:
            async with asyncio.timeout(max(0.0, deadline - clock.monotonic())):
                return await _greet(*await _open_socket(spool))
        except (FileNotFoundError, ConnectionError, BlockingIOError) as error:
            if clock.monotonic() >= deadline:
                raise SetupError(
                    f"no keeper answers in {spool}: {error}; {JOURNAL_NAME} there may say why"
                ) from error
            if not isinstance(error, BlockingIOError):
                await _launch(spool)
            # The one just started may have met one that was about to end.
            await asyncio.sleep(CONNECT_AGAIN_SECONDS)
        except TimeoutError as error:
            raise SetupError(
                f"the keeper in {spool} says nothing; {JOURNAL_NAME} there may say why"
            ) from error
        except ProtocolError as error:
            raise SetupError(f"what answers in {spool} is no keeper: {error}") from error
        except OSError as error:
            raise SetupError(f"cannot reach the keeper in {spool}: {error.strerror}") from error


async def _open_socket(spool: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    # An address holds 107 bytes only: by way of a descriptor any path of the spool fits.
    folder = os.open(spool, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        peer.connect(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
        return await asyncio.open_unix_connection(sock=peer)
    except BaseException:
        peer.close()
        raise
    finally:
        os.close(folder)


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> KeeperLink:
    frames = Frames()
    try:
        return KeeperLink(reader, writer, frames, await _read_hello(reader, frames))
    except BaseException:
        await _hang_up(writer)
        raise


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    # What the other side did to the connection does not matter any more.
    with suppress(OSError):
        await writer.wait_closed()


async def _read_hello(reader: asyncio.StreamReader, frames: Frames) -> dict[str, object]:
    messages: list[dict[str, object]] = []
    while not messages:
        data = await reader.read(READ_BYTES)
        if not data:
            raise ConnectionResetError("hung up before its first words")
        messages = frames.feed(data)
    hello = messages[0].get("hello")
    if not isinstance(hello, dict):
        raise ProtocolError("its first words are no greeting")
    if hello.get("version") != VERSION:
        raise SetupError(
            f"the keeper that runs this node's scripts (process {hello.get('pid')}) speaks version "
            f"{hello.get('version')}, this dcron version {VERSION}: drain the node with the dcron of "
            "before, and start this one once the scripts have ended"
        )
    return hello


async def _launch(spool: Path) -> None:
    """Start a keeper; returns once one listens. Raises SetupError, SpoolFull."""
    try:
        journal = os.open(spool / JOURNAL_NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        kind = SpoolFull if error.errno in _NO_ROOM else SetupError
        raise kind(f"{spool}: {error.strerror}") from error
    try:
        start = os.fstat(journal).st_size
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-S", "-m", "dcron.keeper", str(spool)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=journal,
            stderr=journal,
            start_new_session=True,
            cwd="/",
            env=_keeper_environment(),
        )
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                status = await process.wait()
        except TimeoutError as error:
            raise SetupError(f"the keeper in {spool} did not start within {CONNECT_SECONDS:g} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if status != 0:
            reason = os.pread(journal, REASON_BYTES_MAX, start).decode(errors="replace").strip()
            kind = SpoolFull if status == NO_ROOM_STATUS else SetupError
            raise kind(f"the keeper in {spool} did not start: {reason}")
    finally:
        os.close(journal)


def _keeper_environment() -> dict[str, str]:
    """Environment of the keeper. It has none of the daemon's secrets, for the keeper lives long and runs
    other people's scripts. The module path stands in for the site packages, which it is started without."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {**kept, "PYTHONPATH": str(Path(dcron.__file__).parents[1])}
