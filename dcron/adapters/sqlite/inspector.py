"""Looks at a SQLite document store, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

from dcron.adapters.sqlite.store import SqliteDocumentStore
from dcron.domain.checkup import HostFacts, StoreFacts
from dcron.domain.errors import SetupError, StoreUnreachable

__all__ = ["SqliteInspector"]


class SqliteInspector:
    """`StoreInspector` of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def inspect(self) -> StoreFacts:
        """See `StoreInspector.inspect`: a file that is not there is not made."""
        host = HostFacts(str(self._path), version="SQLite")
        if not self._path.exists():
            folder = self._path.absolute().parent
            writable = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
            return StoreFacts((host,), missing=(str(self._path),), prepared=False, may_create=writable)
        store = SqliteDocumentStore(self._path)
        try:
            await store.probe_write()
        except (StoreUnreachable, SetupError) as error:
            return StoreFacts((host,), write_trouble=str(error))
        finally:
            await store.close()
        return StoreFacts((host,))

    async def close(self) -> None:
        """See `StoreInspector.close`."""
