"""Reading a log file while a script writes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

__all__ = ["CHUNK_BYTES", "follow_file"]

CHUNK_BYTES = 64 * 1024
POLL_SECONDS = 0.2


async def follow_file(path: Path, offset: int, is_growing: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The bytes of a file from `offset`; waits for more as long as `is_growing` says so.

    A script that has printed nothing yet may have no file yet.
    """
    while True:
        growing = is_growing()
        async for chunk in _read_from(path, offset):
            offset += len(chunk)
            yield chunk
        if not growing:
            return
        await asyncio.sleep(POLL_SECONDS)


async def _read_from(path: Path, offset: int) -> AsyncIterator[bytes]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
