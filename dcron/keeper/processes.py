"""Processes as /proc shows them, and signals that cannot hit a later process with the same number."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = [
    "TOKEN_VARIABLE",
    "Process",
    "Snapshot",
    "become_subreaper",
    "boot_id",
    "is_alive",
    "send_signal",
    "start_ticks",
]

TOKEN_VARIABLE = "DCRON_TOKEN"  # noqa: S105 - the name of a variable
"""Set in each script's environment, and so in that of whatever it starts, however far it detaches."""
ENVIRONMENT_BYTES_MAX = 6 << 20
"""The kernel allows no more to arguments and environment of one process."""

_PR_SET_CHILD_SUBREAPER = 36
_TOKEN_PREFIX = b"\0" + TOKEN_VARIABLE.encode() + b"="
_GONE = frozenset({errno.ENOENT, errno.ESRCH})


class Process:
    """One process at the moment of a snapshot; (pid, start_ticks) is unique while the machine is up."""

    __slots__ = ("group", "parent", "pid", "session", "start_ticks", "token", "zombie")

    def __init__(self, pid: int, stat: bytes) -> None:
        # The name in parentheses may hold anything, blanks and parentheses too: the last one closes it.
        fields = stat[stat.rindex(b")") + 2 :].split()
        self.pid = pid
        # A process whose first thread has ended shows the state of a zombie while its other threads run.
        self.zombie = fields[0] in {b"Z", b"X"} and int(fields[17]) <= 1
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.start_ticks = int(fields[19])
        self.token = ""


class Snapshot:
    """All processes of this machine, with the token of the script that each was started by."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.children: dict[int, list[Process]] = {}
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            process = _look(int(entry.name))
            if process is None:
                continue
            process.token = _token(process.pid)
            self.processes.append(process)
            self.children.setdefault(process.parent, []).append(process)


def start_ticks(pid: int) -> int | None:
    """Start time of process `pid`, in clock ticks since boot; None where there is no such process."""
    process = _look(pid)
    return None if process is None else process.start_ticks


def is_alive(pid: int, ticks: int) -> bool:
    """Whether the process that has this pid and was started at `ticks` still runs."""
    process = _look(pid)
    return process is not None and process.start_ticks == ticks and not process.zombie


def send_signal(pid: int, ticks: int, number: signal.Signals) -> None:
    """Send a signal to the process that has this pid and was started at `ticks`, or to none.

    Raises PermissionError for a process of another user."""
    with suppress(ProcessLookupError):
        descriptor = _open_process(pid)
        try:
            # Checked once the descriptor is open: that stays with the process whatever becomes of the number.
            if start_ticks(pid) != ticks:
                return
            if descriptor is None:
                os.kill(pid, number)
            else:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _open_process(pid: int) -> int | None:
    """A descriptor of the process; None on a kernel before 5.3. Raises ProcessLookupError."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return None
        raise


def become_subreaper() -> None:
    """Adopt orphans among this process's descendants as its children. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def boot_id() -> str:
    """A mark that changes with each boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _look(pid: int) -> Process | None:
    stat = _read(f"/proc/{pid}/stat", 4096)
    return Process(pid, stat) if stat else None


def _token(pid: int) -> str:
    environment = b"\0" + _read(f"/proc/{pid}/environ", ENVIRONMENT_BYTES_MAX)
    start = environment.find(_TOKEN_PREFIX)
    if start < 0:
        return ""
    start += len(_TOKEN_PREFIX)
    end = environment.find(b"\0", start)
    return environment[start : end if end >= 0 else None].decode(errors="replace")


def _read(path: str, limit: int) -> bytes:
    """Content of a file of /proc; empty where the process is gone or belongs to another user."""
    chunks: list[bytes] = []
    length = 0
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return b""
    except OSError as error:
        if error.errno in _GONE:
            return b""
        raise
    try:
        while length < limit and (chunk := os.read(descriptor, min(limit - length, 1 << 16))):
            chunks.append(chunk)
            length += len(chunk)
    except (PermissionError, ProcessLookupError):
        return b""
    finally:
        os.close(descriptor)
    return b"".join(chunks)
