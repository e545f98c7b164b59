"""An object store in this process's memory, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from dcron.adapters.objects import CHUNK_BYTES, FileSource, check_key, limited
from dcron.domain.errors import NotFound
from dcron.ports import UploadTarget

__all__ = ["MemoryObjectStore"]


class MemoryObjectStore:
    """`ObjectStore` whose objects end with the process; clients upload through a node."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    async def prepare(self) -> None:
        """Nothing has to be made."""

    async def is_prepared(self) -> bool:
        """Always: see `prepare`."""
        return True

    async def presign_put(self, key: str, *, size_bytes: int, expires_seconds: int) -> UploadTarget | None:
        """Always None: nobody can reach this store from outside."""
        del key, size_bytes, expires_seconds
        return None

    async def put_file(self, key: str, path: Path, *, size_bytes: int, trailer: bytes = b"") -> None:
        """Store a copy of the file's first `size_bytes` and the trailer; ValueError if it is shorter."""
        with await asyncio.to_thread(FileSource, path, size_bytes, trailer) as source:
            body = await asyncio.to_thread(source.read, source.total_bytes)
        self._objects[check_key(key)] = body

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], *, max_bytes: int) -> int:
        """Store a stream; see `ObjectStore.put_stream`."""
        check_key(key)
        body = b"".join([chunk async for chunk in limited(chunks, max_bytes)])
        self._objects[key] = body
        return len(body)

    async def size(self, key: str) -> int | None:
        """Length in bytes, None where there is no such object."""
        body = self._objects.get(check_key(key))
        return None if body is None else len(body)

    async def read(self, key: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """The object from `offset`; NotFound at the first chunk."""
        body = self._objects.get(check_key(key))
        if body is None:
            raise NotFound(f"no object {key} is stored")
        for start in range(offset, len(body), CHUNK_BYTES):
            yield body[start : start + CHUNK_BYTES]

    async def delete(self, key: str) -> None:
        """Remove the object; no error if it is gone."""
        self._objects.pop(check_key(key), None)

    async def close(self) -> None:
        """Nothing is held open."""
