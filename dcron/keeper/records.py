"""Files that the keeper leaves in each attempt's folder."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

__all__ = [
    "CLAIM_NAME",
    "EXIT_NAME",
    "LOG_NAME",
    "WORK_NAME",
    "is_token",
    "read_record",
    "write_record",
]

LOG_NAME = "log"
EXIT_NAME = "exit.json"
WORK_NAME = "work"
CLAIM_NAME = "attempt.json"
"""The daemon's own note, which says whose folder it is."""
RECORD_BYTES_MAX = 1 << 20

_TOKEN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")


def is_token(text: str) -> bool:
    """Whether `text` can be a token: it must serve as a file name."""
    return _TOKEN.fullmatch(text) is not None


def write_record(path: Path, record: dict[str, object]) -> None:
    """Write a JSON file whole or not at all, as far as any process can see. Raises OSError."""
    temporary = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(json.dumps(record).encode())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


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
