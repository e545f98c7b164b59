"""Ground of the object store adapters: valid keys, reading a file to be stored, threads with a deadline."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import structlog

from dcron.domain.errors import InvalidInput, ObjectsUnreachable

__all__ = ["CHUNK_BYTES", "BoundedThreads", "FileSource", "check_key", "limited"]

CHUNK_BYTES = 1024 * 1024
"""Largest chunk that `ObjectStore.read` yields."""
MAX_KEY_BYTES = 512
MAX_KEY_PART_BYTES = 200
"""Below the 255 bytes that file systems allow in one name."""

_log = structlog.get_logger()
_Result = TypeVar("_Result")


def check_key(key: str) -> str:
    """Return `key` if every object store can hold it; raises InvalidInput("key", ...) otherwise."""
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise InvalidInput("key", f"{key!a} is not Unicode text") from None
    if len(encoded) > MAX_KEY_BYTES:
        raise InvalidInput("key", f"must not be longer than {MAX_KEY_BYTES} bytes, this is {len(encoded)}")
    if not key.isprintable():
        raise InvalidInput("key", f"{key!a} holds a character that does not print")
    for part in key.split("/"):
        if part in {"", ".", ".."}:
            raise InvalidInput("key", f"{key!r} must be names joined by single slashes, none of them . or ..")
        if len(part.encode()) > MAX_KEY_PART_BYTES:
            raise InvalidInput("key", f"no name in it may be longer than {MAX_KEY_PART_BYTES} bytes")
    return key


async def limited(chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """Pass chunks on; raises InvalidInput("script", ...) before the one that would exceed `max_bytes`."""
    passed_bytes = 0
    async for chunk in chunks:
        passed_bytes += len(chunk)
        if passed_bytes > max_bytes:
            raise InvalidInput("script", f"must not be longer than {max_bytes} bytes")
        yield chunk


class FileSource:
    """The first `size_bytes` of a file, then `trailer`, read piece by piece; all methods block.

    The file may grow meanwhile. A file that is shorter than `size_bytes` raises ValueError, when opened
    or at the read that finds out: whoever announced the size is wrong, and must not get a short object.
    """

    def __init__(self, path: Path, size_bytes: int, trailer: bytes) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._trailer = trailer
        self._position = 0
        self.total_bytes = size_bytes + len(trailer)
        self._file = path.open("rb")
        found_bytes = os.fstat(self._file.fileno()).st_size
        if found_bytes < size_bytes:
            self._file.close()
            raise self._too_short(found_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, wanted_bytes: int) -> bytes:
        """Exactly `wanted_bytes`, fewer only at the end, b"" from then on."""
        buffer = bytearray(wanted_bytes)
        filled_bytes = self.readinto(buffer)
        return bytes(memoryview(buffer)[:filled_bytes])

    def readinto(self, buffer: bytearray) -> int:
        """Fill the buffer; how many bytes there were, fewer than it has only at the end."""
        from_file = min(len(buffer), max(0, self._size_bytes - self._position))
        if from_file:
            read_bytes = self._file.readinto(memoryview(buffer)[:from_file])
            if read_bytes < from_file:
                raise self._too_short(self._position + read_bytes)
        trailer_start = max(0, self._position + from_file - self._size_bytes)
        trailer = self._trailer[trailer_start : trailer_start + len(buffer) - from_file]
        buffer[from_file : from_file + len(trailer)] = trailer
        filled_bytes = from_file + len(trailer)
        self._position += filled_bytes
        return filled_bytes

    def close(self) -> None:
        """Close the file; waits for a `read` that another thread is in."""
        self._file.close()

    def _too_short(self, found_bytes: int) -> ValueError:
        return ValueError(f"{self._path} holds {found_bytes} bytes, {self._size_bytes} were announced")


class BoundedThreads:
    """A fixed number of threads for blocking calls, each with a deadline that includes its wait for a thread.

    A call that misses its deadline is no longer waited for, but nothing can stop its thread: what runs
    there must end by itself, for instance by the timeouts of its sockets.
    """

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._closed = False
        self._pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix=name)

    async def call(self, deadline_seconds: float, function: Callable[[], _Result]) -> _Result:
        """Run `function` in a thread; raises what it raises, or ObjectsUnreachable at the deadline."""
        deadline = asyncio.timeout(deadline_seconds)
        try:
            async with deadline:
                return await asyncio.get_running_loop().run_in_executor(self._pool, function)
        except TimeoutError as error:
            # A function may raise TimeoutError itself (ETIMEDOUT of a network file system).
            reason = f"no answer within {deadline_seconds:g} s" if deadline.expired() else str(error)
            raise ObjectsUnreachable(f"{self._name}: {reason}") from error

    def release(self, function: Callable[[], object]) -> None:
        """Run `function` soon, without waiting: for clean-up that could block the event loop.

        Once closed it is left to the garbage collector, or to the store's own clean-up."""
        if self._closed:
            _log.info("clean-up left out", action="objects_clean_up_left_out", store=self._name)
            return
        self._pool.submit(function).add_done_callback(self._log_failure)

    def close(self) -> None:
        """Take no more calls; threads end with what they are doing and the clean-up that waits."""
        self._closed = True
        self._pool.shutdown(wait=False)

    def _log_failure(self, done: Future[object]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            _log.warning(
                "clean-up failed", action="objects_clean_up_failed", store=self._name, error=str(error)
            )
