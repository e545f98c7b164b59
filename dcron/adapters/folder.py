"""Scripts and logs in a folder of one machine, shared by the node processes on it."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

import structlog

from dcron.adapters.objects import CHUNK_BYTES, BoundedThreads, FileSource, check_key, limited
from dcron.domain.errors import InvalidInput, NotFound, ObjectsUnreachable, SetupError
from dcron.ports import UploadTarget

__all__ = ["FolderObjectStore", "parse_file_url"]

THREADS = 4
CALL_DEADLINE_SECONDS = 5.0
"""For one step: a chunk read or written, a look-up."""
COMMIT_DEADLINE_SECONDS = 60.0
"""For flushing a whole object to the disk."""
LEFTOVER_SECONDS = 24 * 3600.0
"""Age at which a file that a crashed process left half-written is removed; no upload takes that long."""

_log = structlog.get_logger()
_Result = TypeVar("_Result")
_NO_ROOM_OR_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


def parse_file_url(url: str) -> Path:
    """The folder that `file:///absolute/path` names; raises SetupError for any other form."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.scheme != "file" or parts.netloc or not path.startswith("/") or "\0" in path:
        raise SetupError(f"object store URL {url!r}: write file:///absolute/path, with three slashes")
    if parts.query or parts.fragment:
        raise SetupError(
            f"object store URL {url!r}: takes no parameters; in a path write %3F for ?, %23 for #"
        )
    return Path(path)


class FolderObjectStore:
    """`ObjectStore` of plain files: `objects/<key>`, written in `incoming/` first and moved when whole.

    A name may not be both an object and a folder of others: that is InvalidInput("key", ...).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._objects = folder / "objects"
        self._incoming = folder / "incoming"
        self._threads = BoundedThreads(f"folder {folder}", THREADS)

    async def prepare(self) -> None:
        """Make the folders, show that they can be written to, and remove what crashes left behind."""
        try:
            await self._threads.call(COMMIT_DEADLINE_SECONDS, self._prepare)
        except OSError as error:
            message = f"object folder {self._folder}: {error.strerror}"
            if error.errno in _NO_ROOM_OR_RIGHT:
                raise SetupError(f"{message}; it must be a folder that this user may write to") from error
            raise ObjectsUnreachable(message) from error

    async def is_prepared(self) -> bool:
        """Whether the folders are there."""
        return await self._call(lambda: self._objects.is_dir() and self._incoming.is_dir())

    async def presign_put(self, key: str, *, size_bytes: int, expires_seconds: int) -> UploadTarget | None:
        """Always None: clients upload through a node."""
        del key, size_bytes, expires_seconds
        return None

    async def put_file(self, key: str, path: Path, *, size_bytes: int, trailer: bytes = b"") -> None:
        """Store the file's first `size_bytes` and the trailer; ValueError if the file is shorter."""
        # The source's own errors are the caller's: they say nothing about this store.
        open_source = partial(FileSource, path, size_bytes, trailer)
        source = await self._threads.call(CALL_DEADLINE_SECONDS, open_source)
        try:
            await self._store(key, self._pieces(source))
        finally:
            self._threads.release(source.close)

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], *, max_bytes: int) -> int:
        """Store a stream; see `ObjectStore.put_stream`."""
        return await self._store(key, limited(chunks, max_bytes))

    async def size(self, key: str) -> int | None:
        """Length in bytes, None where there is no such object."""
        return await self._call(partial(_size, self._path(key)))

    async def read(self, key: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """The object from `offset`, as it was when reading began; NotFound at the first chunk."""
        file = await self._call(partial(_open_at, self._path(key), offset))
        if file is None:
            raise NotFound(f"no object {key} is stored")
        try:
            while chunk := await self._call(partial(file.read, CHUNK_BYTES)):
                yield chunk
        finally:
            self._threads.release(file.close)

    async def delete(self, key: str) -> None:
        """Remove the object; no error if it is gone."""
        await self._call(partial(_delete, self._path(key)))

    async def close(self) -> None:
        """Let the threads end."""
        self._threads.close()

    def _path(self, key: str) -> Path:
        return self._objects / check_key(key)

    def _prepare(self) -> None:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self._folder, self._objects, self._incoming):
            _make_folder(folder)
        with tempfile.TemporaryFile(dir=self._incoming):
            pass
        oldest_kept = time.time() - LEFTOVER_SECONDS
        for leftover in self._incoming.iterdir():
            try:
                if leftover.stat().st_mtime < oldest_kept:
                    leftover.unlink()
                    _log.info("removed a half-written object", action="leftover_removed", path=str(leftover))
            except FileNotFoundError:
                # Another node cleans up at the same moment, or has just finished writing it.
                continue

    async def _pieces(self, source: FileSource) -> AsyncIterator[bytes]:
        while piece := await self._threads.call(CALL_DEADLINE_SECONDS, partial(source.read, CHUNK_BYTES)):
            yield piece

    async def _store(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        check_key(key)
        stored_bytes = 0
        temporary = await self._call(partial(_create_temporary, self._incoming))
        try:
            async for piece in pieces:
                await self._call(partial(temporary.write, piece))
                stored_bytes += len(piece)
            commit = partial(_commit, temporary, key, self._objects)
            await self._call(commit, deadline_seconds=COMMIT_DEADLINE_SECONDS)
        except BaseException:
            self._threads.release(partial(_discard, temporary))
            raise
        return stored_bytes

    async def _call(
        self, function: Callable[[], _Result], *, deadline_seconds: float = CALL_DEADLINE_SECONDS
    ) -> _Result:
        try:
            return await self._threads.call(deadline_seconds, function)
        except OSError as error:
            raise ObjectsUnreachable(f"object folder {self._folder}: {error.strerror}") from error


def _make_folder(folder: Path) -> None:
    """Make a folder so that it survives a power failure: its parent's entry is flushed too."""
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create_temporary(folder: Path) -> IO[bytes]:
    return tempfile.NamedTemporaryFile(dir=folder, delete=False)


def _commit(temporary: IO[bytes], key: str, objects: Path) -> None:
    """Flush a whole file to the disk, then put it in the place of `key`."""
    temporary.flush()
    os.fsync(temporary.fileno())
    temporary.close()
    target = objects / key
    try:
        for parent in reversed(list(Path(key).parents)):
            _make_folder(objects / parent)
        Path(temporary.name).replace(target)
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise InvalidInput("key", f"{key!r} is in the way of another object's key") from error
    _flush_folder(target.parent)


def _discard(temporary: IO[bytes]) -> None:
    try:
        temporary.close()
    finally:
        Path(temporary.name).unlink(missing_ok=True)


def _size(path: Path) -> int | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _open_at(path: Path, offset: int) -> BinaryIO | None:
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    try:
        file.seek(offset)
    except BaseException:
        file.close()
        raise
    return file


def _delete(path: Path) -> None:
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return
    _flush_folder(path.parent)
