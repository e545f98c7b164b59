"""Memory of attempts that a spool has delivered, long after their folders are gone: `<spool>/deliveries`.

A leader may ask for the claim of a delivered attempt because its copy of the store was cut off. The node is
then not to say that its spool has lost it. The file is a ring of fixed records: the newest CAPACITY
deliveries are known. Room for the next ones is taken ahead, so that a full disk can still be cleared.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import islice
from pathlib import Path

__all__ = ["DeliveryLedger"]

CAPACITY = 1 << 19
"""Deliveries that are known: 16 MiB of disk. At one delivery each second they reach back six days, far longer
than a copy of the store is cut off and a leader has reason to ask."""
CHUNK = 2048
"""Records by which the file grows. While the disk is full, at least half as many can be noted."""
RECENT = 10_000
"""Newest deliveries that are kept in memory. Nearly all questions are about them."""
DIGEST_BYTES = 16

_RECORD = struct.Struct(f">{DIGEST_BYTES}sQ4xL")
"""Digest of the token, number of the delivery, CRC-32 of both. It divides a disk's sector."""


class DeliveryLedger:
    """The ring of one spool. All methods block on the disk; different threads may call them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._next = 0
        """Number of the next delivery."""
        self._allocated = 0
        """Records that the file has room for."""
        self._recent: dict[bytes, None] = {}
        self._lock = threading.Lock()

    def open(self) -> None:
        """Take up what was noted before. Raises OSError."""
        is_new = not self._path.exists()
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if is_new:
            _flush_folder(self._path.parent)
        data = self._read_all()
        self._allocated = len(data) // _RECORD.size
        self._next = _number_after(data)
        slots = [number % CAPACITY for number in range(max(self._next - RECENT, 0), self._next)]
        self._recent = dict.fromkeys(_digest_at(data, slot) for slot in slots)
        self._take_room_ahead()

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def note(self, tokens: Sequence[str]) -> None:
        """Remember deliveries. Once this has returned, a power cut does not undo it.

        Raises OSError: then they may be remembered or not."""
        with self._lock:
            for first in range(0, len(tokens), CHUNK // 2):
                self._note([_digest(token) for token in tokens[first : first + CHUNK // 2]])

    def _note(self, digests: list[bytes]) -> None:
        self._allocate(self._next + len(digests))
        slot = self._next % CAPACITY
        records = [_record(number, digest) for number, digest in enumerate(digests, self._next)]
        self._write(slot, records[: CAPACITY - slot])
        self._write(0, records[CAPACITY - slot :])
        os.fdatasync(self._descriptor)
        self._next += len(digests)
        self._recent |= dict.fromkeys(digests)
        for oldest in list(islice(self._recent, max(len(self._recent) - RECENT, 0))):
            del self._recent[oldest]
        self._take_room_ahead()

    def among(self, tokens: Iterable[str]) -> frozenset[str]:
        """Those of some tokens whose delivery is known. Raises OSError."""
        wanted = {_digest(token): token for token in tokens}
        with self._lock:
            found = wanted.keys() & self._recent.keys()
            if len(found) < len(wanted) and self._next > len(self._recent):
                data = self._read_all()
                kept = {_digest_at(data, slot) for slot in range(len(data) // _RECORD.size)}
                found |= wanted.keys() & kept
        return frozenset(wanted[digest] for digest in found)

    def _read_all(self) -> bytes:
        size_bytes = os.fstat(self._descriptor).st_size
        return os.pread(self._descriptor, size_bytes, 0)

    def _write(self, slot: int, records: list[bytes]) -> None:
        data = b"".join(records)
        if data and os.pwrite(self._descriptor, data, slot * _RECORD.size) != len(data):
            raise OSError(errno.ENOSPC, "the disk took only part of it")

    def _allocate(self, records: int) -> None:
        """Have room for so many records, as far as the ring has so many. Raises OSError."""
        missing = min(records, CAPACITY) - self._allocated
        if missing <= 0:
            return
        grown = min(self._allocated + -(-missing // CHUNK) * CHUNK, CAPACITY)
        start = self._allocated * _RECORD.size
        os.posix_fallocate(self._descriptor, start, grown * _RECORD.size - start)
        self._allocated = grown

    def _take_room_ahead(self) -> None:
        """Grow before there is need, if the disk has room now."""
        with suppress(OSError):
            self._allocate(self._next + CHUNK // 2)


def _number_after(data: bytes) -> int:
    """The number that follows the newest whole record. Room that was never used holds none."""
    newest = -1
    for digest, number, checksum in _RECORD.iter_unpack(data[: len(data) - len(data) % _RECORD.size]):
        if number > newest and checksum == _checksum(number, digest):
            newest = number
    return newest + 1


def _digest_at(data: bytes, slot: int) -> bytes:
    return data[slot * _RECORD.size : slot * _RECORD.size + DIGEST_BYTES]


def _record(number: int, digest: bytes) -> bytes:
    return _RECORD.pack(digest, number, _checksum(number, digest))


def _checksum(number: int, digest: bytes) -> int:
    return zlib.crc32(_RECORD.pack(digest, number, 0))


def _digest(token: str) -> bytes:
    return blake2b(token.encode(), digest_size=DIGEST_BYTES).digest()


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
