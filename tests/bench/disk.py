"""What the disk that the bench works on is, and what it costs the system to make a file there.

Each execution makes half a dozen of them. An ext4 without a journal, as virtual machines for tests have it,
passes over what was deleted in the last minutes whenever a file is made, which can take longer than all else.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["file_milliseconds", "file_system"]

FILES = 1_000
ROUNDS = 3
"""The last one counts: by then there is what was deleted."""


def file_system(folder: Path) -> str:
    """The kind of the file system that a folder is on."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    kinds = {Path(fields[1]): fields[2] for fields in mounts}
    return next(kinds[parent] for parent in (folder.resolve(), *folder.resolve().parents) if parent in kinds)


def file_milliseconds(folder: Path) -> float:
    """Processor time of the system for making and removing one file."""
    seconds = 0.0
    with TemporaryDirectory(dir=folder) as name:
        paths = [Path(name, str(number)) for number in range(FILES)]
        for _ in range(ROUNDS):
            before = os.times().system
            for path in paths:
                path.touch()
            for path in paths:
                path.unlink()
            seconds = os.times().system - before
    return seconds / FILES * 1000
