"""Reading a log file while a script writes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from dcron.domain.errors import NotFound

__all__ = ["CHUNK_BYTES", "follow_file"]

CHUNK_BYTES = 64 * 1024
POLL_SECONDS = 0.2


async def follow_file(
    path: Path, offset: int, limit_bytes: int, is_growing: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """The bytes of a file from `offset` up to `limit_bytes`, beyond which nothing is kept; waits for more
    as long as `is_growing` says so.

    A script that has printed nothing yet may have no file yet. NotFound when the file's folder was
    removed before it was seen: then the log is in the object store.
    """
    file: BinaryIO | None = None
    try:
        while True:
            growing = is_growing()
            # Kept open: the folder goes as soon as the log is stored, with bytes that we have not read.
            file = file or _open(path, offset)
            while file is not None and offset < limit_bytes:
                chunk = await asyncio.to_thread(file.read, min(CHUNK_BYTES, limit_bytes - offset))
                if not chunk:
                    break
                offset += len(chunk)
                yield chunk
            if not growing:
                return
            await asyncio.sleep(POLL_SECONDS)
    finally:
        if file is not None:
            file.close()


def _open(path: Path, offset: int) -> BinaryIO | None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        if not path.parent.exists():
            raise NotFound(f"log {path.parent.name} is not in the spool any more") from None
        return None
    file.seek(offset)
    return file
