"""The object store as one node reaches it: the memory adapter behind a connection that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import TypeVar

from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.domain.errors import ObjectsUnreachable
from dcron.ports import UploadTarget
from tests.simulation.links import Link

__all__ = ["ObjectsClient"]

CALL_SECONDS = (0.001, 0.02)
_Answer = TypeVar("_Answer")


class ObjectsClient:
    """`ObjectStore` over one store that all nodes share."""

    def __init__(self, store: MemoryObjectStore, link: Link, random: Random) -> None:
        self._store = store
        self._link = link
        self._random = random

    async def prepare(self) -> None:
        """See `ObjectStore.prepare`."""
        await self._reach(self._store.prepare)

    async def presign_put(self, key: str, *, size_bytes: int, expires_seconds: int) -> UploadTarget | None:
        """See `ObjectStore.presign_put`."""
        return await self._store.presign_put(key, size_bytes=size_bytes, expires_seconds=expires_seconds)

    async def put_file(self, key: str, path: Path, *, size_bytes: int, trailer: bytes = b"") -> None:
        """See `ObjectStore.put_file`."""
        await self._reach(lambda: self._store.put_file(key, path, size_bytes=size_bytes, trailer=trailer))

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], *, max_bytes: int) -> int:
        """See `ObjectStore.put_stream`."""
        return await self._reach(lambda: self._store.put_stream(key, chunks, max_bytes=max_bytes))

    async def size(self, key: str) -> int | None:
        """See `ObjectStore.size`."""
        return await self._reach(lambda: self._store.size(key))

    async def read(self, key: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """See `ObjectStore.read`."""
        await self._reach(self._store.prepare)
        async for chunk in self._store.read(key, offset=offset):
            yield chunk

    async def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        await self._reach(lambda: self._store.delete(key))

    async def close(self) -> None:
        """Nothing is held open."""

    async def _reach(self, act: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Act, unless the store is away. With the answers cut off, it acts and nobody hears of it."""
        await asyncio.sleep(self._random.uniform(*CALL_SECONDS))
        if not self._link.sends:
            raise ObjectsUnreachable("the object store gave no answer in time")
        result = await act()
        if not self._link.receives:
            raise ObjectsUnreachable("the object store gave no answer in time")
        return result
