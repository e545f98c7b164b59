"""Facts about a node's machine: its disk, its limits, its programs, its addresses. All functions block."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dcron.domain.checkup import Limits, SpoolFacts

__all__ = ["can_listen", "find_programs", "is_spool_in_use", "limits", "probe_spool"]

LOCK_NAME = "lock"
PROBE_BYTES = 4096
_OCTAL = re.compile(r"\\([0-7]{3})")


def probe_spool(folder: Path) -> SpoolFacts:
    """Look at a spool's folder, or where it is to be made: write, flush and remove a small file there."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return SpoolFacts(str(folder), trouble=f"{place} is no folder")
    try:
        sync_seconds = _flush_something(place)
        status = place.stat()
        free_bytes = shutil.disk_usage(place).free
    except OSError as error:
        return SpoolFacts(str(folder), trouble=error.strerror or str(error))
    file_system, options = _mount_of(place)
    return SpoolFacts(
        folder=str(folder),
        exists=place == folder,
        owner_uid=status.st_uid,
        own_uid=os.geteuid(),
        mode=stat.S_IMODE(status.st_mode),
        file_system=file_system,
        may_execute="noexec" not in options,
        free_bytes=free_bytes,
        sync_seconds=sync_seconds,
    )


def _flush_something(folder: Path) -> float:
    """Seconds that a small file takes to reach the disk."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        file.write(bytes(PROBE_BYTES))
        file.flush()
        began_at = time.monotonic()
        os.fsync(file.fileno())
        return time.monotonic() - began_at


def _mount_of(folder: Path) -> tuple[str, frozenset[str]]:
    """Type and options of the file system that a folder is on; empty where /proc does not tell."""
    wanted = folder.resolve()
    best, found = -1, ("", frozenset[str]())
    with suppress(OSError), Path("/proc/self/mountinfo").open(encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            before, _, after = line.partition(" - ")
            fields = before.split()
            point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]))
            # Of two mounts on one point, the later one is seen.
            if wanted.is_relative_to(point) and len(point.parts) >= best:
                best = len(point.parts)
                found = (after.split()[0], frozenset(fields[5].split(",")))
    return found


def is_spool_in_use(folder: Path) -> bool:
    """Whether a running node holds the spool. Only looks: taking the lock, even for a moment, could keep a
    node from starting."""
    try:
        inode = str((folder / LOCK_NAME).stat().st_ino)
        held = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    # 1: FLOCK  ADVISORY  WRITE 4711 fd:01:131077 0 EOF
    return any(
        fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode for fields in map(str.split, held)
    )


def limits() -> Limits:
    """The soft limits of this process."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    # The limit of processes does not bind root.
    unbound = processes == resource.RLIM_INFINITY or os.geteuid() == 0
    return Limits(
        open_files=None if files == resource.RLIM_INFINITY else files,
        processes=None if unbound else processes,
    )


def find_programs(names: Iterable[str], search: str) -> dict[str, str]:
    """The file that each name, or absolute path, stands for in a PATH; empty where there is none."""
    return {name: shutil.which(name, path=search) or "" for name in names}


def can_listen(address: str) -> str:
    """Reason why nobody can listen at host:port, in words; empty when it is possible."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, int(port), type=socket.SOCK_STREAM)
        for family, kind, protocol, _, where in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
    except OSError as error:
        return error.strerror or str(error)
    return ""
