"""What the keeper leaves on disk: in each attempt's folder, and the list of what runs.

The list, `<spool>/keeper.running/`, has a symbolic link for each script, named by its token and leading
to its folder. It is flushed to the disk before the script is started and the link goes after `exit.json`
is safe, so a keeper that comes after a killed one, or after a power cut, knows of every script that may
have run and whose end nobody saw.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path

__all__ = [
    "EXIT_NAME",
    "LOG_NAME",
    "STARTED_NAME",
    "WORK_NAME",
    "RunningList",
    "flush_folder",
    "is_token",
    "read_record",
    "write_end",
    "write_record",
]

LOG_NAME = "log"
STARTED_NAME = "started.json"
EXIT_NAME = "exit.json"
WORK_NAME = "work"
CLAIM_NAME = "attempt.json"
"""The daemon's own note, which says whose folder it is."""
LIST_NAME = "keeper.running"
RECORD_BYTES_MAX = 1 << 20

_TOKEN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")


def is_token(text: str) -> bool:
    """Whether `text` can be a token: it must serve as a file name."""
    return _TOKEN.fullmatch(text) is not None


def write_record(path: Path, record: dict[str, object], *, durable: bool) -> None:
    """Write a JSON file whole or not at all; `durable` makes sure that it survives a power cut.

    Raises OSError."""
    temporary = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(json.dumps(record).encode())
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        flush_folder(path.parent)


def write_end(folder: Path, record: dict[str, object]) -> None:
    """Write `exit.json` so that it survives a power cut, with the note without which it would be nobody's.

    Raises OSError."""
    with suppress(FileNotFoundError):
        _flush(folder / CLAIM_NAME, os.O_RDONLY)
    write_record(folder / EXIT_NAME, record, durable=True)


def read_record(path: Path) -> dict[str, object] | None:
    """The object in a JSON file, empty if damaged; None where there is no file. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        body = stream.read(RECORD_BYTES_MAX)
    try:
        record = json.loads(body)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    _flush(folder, os.O_RDONLY | os.O_DIRECTORY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RunningList:
    """The scripts that run or whose end is not on disk yet; all methods raise OSError."""

    def __init__(self, spool: Path) -> None:
        self._folder = spool / LIST_NAME
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def add(self, token: str, folder: Path) -> None:
        """Put a script on the list; it is safe there after `flush`."""
        link = self._folder / token
        link.unlink(missing_ok=True)
        link.symlink_to(folder)

    def flush(self) -> None:
        """Make what was added survive a power cut."""
        flush_folder(self._folder)

    def remove(self, token: str) -> None:
        """Take a script off the list; no error if it is not there."""
        (self._folder / token).unlink(missing_ok=True)

    def entries(self) -> list[tuple[str, Path]]:
        """Token and folder of each script."""
        return [(link.name, link.readlink()) for link in self._folder.iterdir() if link.is_symlink()]
