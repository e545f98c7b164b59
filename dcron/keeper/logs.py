"""Keeping a script's log within its limit, although the script writes to the file itself."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from dcron.keeper.journal import say

__all__ = ["ScriptLog"]

_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2
_FREE = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE


class ScriptLog:
    """One log file. What is beyond the limit is given back to the disk; the file's length stays true."""

    __slots__ = ("_freed_to", "_length", "_limit", "_path", "_refused")

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        self._limit = limit_bytes
        self._freed_to = limit_bytes
        self._length = 0
        self._refused = False

    def trim(self) -> int:
        """Free what is beyond the limit by now; the length of what was printed, kept or not."""
        try:
            self._length = self._path.stat(follow_symlinks=False).st_size
            # A script may truncate its log; what it prints then is in no hole.
            self._freed_to = min(self._freed_to, max(self._limit, self._length))
            if self._length > self._freed_to and not self._refused:
                _punch(self._path, self._freed_to, self._length)
                self._freed_to = self._length
        except OSError as error:
            # Said once: a filesystem that cannot do it, or a script that removed its log, stays like that.
            if not self._refused:
                say("log_trim_refused", path=str(self._path), reason=str(error))
            self._refused = True
        return self._length


def _punch(path: Path, start: int, end: int) -> None:
    """Give the blocks of a file between two offsets back to the disk. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    # musl has only the one name, with offsets of 64 bits everywhere.
    fallocate = getattr(libc, "fallocate64", None) or libc.fallocate
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        offset, length = ctypes.c_int64(start), ctypes.c_int64(end - start)
        if fallocate(descriptor, _FREE, offset, length) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
