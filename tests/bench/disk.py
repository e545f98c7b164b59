"""The disk that the bench works on: one with a journal, as servers have it.

Each execution makes half a dozen files. An ext4 without a journal, as virtual machines for tests have it,
passes over what was deleted in the last minutes whenever a file is made, which can take longer than all else.
Where there is such a disk, the bench goes on in an image with a journal on it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

__all__ = ["enter_journal", "file_milliseconds", "file_system", "has_journal"]

PLACE = Path("bench/disk")
"""Where the image is mounted, for the bench and its children alone: it goes when they end."""
IMAGE_BYTES = 8 << 30
"""Allocated at once: what is written first is not to pay for that."""
FILES = 1_000
ROUNDS = 3
"""The last one counts: by then there is what was deleted."""

_ENTERED = "DCRON_BENCH_IN_IMAGE"
# Without an image it goes on all the same; the bench then says that there is no journal.
_ENTER = """
fallocate -l "$1" "$2.image" && mkfs.ext4 -q -E lazy_itable_init=0 "$2.image" &&
    mount -o loop "$2.image" "$2" && export TMPDIR="$2"
rm -f "$2.image"
shift 2
exec "$@"
"""


def enter_journal(arguments: Sequence[str]) -> None:
    """Go on as `python -m tests.bench <arguments>` in an image, if temporary files are on a disk without a
    journal and this user may mount."""
    if os.environ.get(_ENTERED) or has_journal(Path(gettempdir())):
        return
    if subprocess.run(["unshare", "--mount", "true"], check=False, stderr=subprocess.DEVNULL).returncode != 0:
        return
    PLACE.mkdir(parents=True, exist_ok=True)
    bench = [sys.executable, "-m", "tests.bench", *arguments]
    enter = ["unshare", "--mount", "sh", "-c", _ENTER, "sh", str(IMAGE_BYTES), str(PLACE.resolve()), *bench]
    sys.stdout.flush()
    os.execvpe(enter[0], enter, {**os.environ, _ENTERED: "1"})  # noqa: S606 - its words are all from here


def has_journal(folder: Path) -> bool:
    """Whether the file system of a folder has one; yes for all kinds that do not tell."""
    device = folder.stat().st_dev
    block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
    try:
        return Path(f"/sys/fs/ext4/{block}/journal_task").read_text().strip() != "<none>"
    except FileNotFoundError:
        return True


def file_system(folder: Path) -> str:
    """The kind of the file system that a folder is on."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    kinds = {Path(fields[1]): fields[2] for fields in mounts}
    kind = next(kinds[parent] for parent in (folder.resolve(), *folder.resolve().parents) if parent in kinds)
    return kind if has_journal(folder) else f"{kind} without a journal"


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
