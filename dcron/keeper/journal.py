"""The keeper's own log: JSON lines on stderr, which the daemon has pointed at `keeper.log`."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from datetime import UTC, datetime

__all__ = ["now_text", "say"]

JOURNAL_BYTES_MAX = 1 << 20
STDERR = 2


def now_text() -> str:
    """The wall clock, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def say(action: str, **facts: str | float) -> None:
    """Log one line; once the file is full it begins anew."""
    line = json.dumps({"at": now_text(), "action": action, **facts}) + "\n"
    # A disk that is full must not end the keeper for want of a line about it.
    with suppress(OSError):
        status = os.fstat(STDERR)
        if stat.S_ISREG(status.st_mode) and status.st_size > JOURNAL_BYTES_MAX:
            os.ftruncate(STDERR, 0)
        os.write(STDERR, line.encode())
