"""A spool with its keeper for tests, and questions about real processes."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from dcron.adapters.keeper.runner import KeeperRunner
from dcron.keeper.cgroups import Cgroup, group_folders
from dcron.keeper.ledger import LEDGER_NAME, Ledger
from dcron.ports import ProcessExit, ProcessStart, StartResult

WAIT_SECONDS = 30.0
"""For anything that is sure to happen; never an assertion about speed."""
ROOT = Path(__file__).parents[2]
MARK = "DCRON_TEST_SPOOL"


class MachineClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def runner_of(spool: Path) -> KeeperRunner:
    return KeeperRunner(spool, MachineClock())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def pids() -> Iterator[int]:
    return (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())


def keeper_pid(spool: Path) -> int | None:
    """The keeper that serves this spool; None where there is none."""
    wanted = [b"-m", b"dcron.keeper", os.fsencode(spool)]
    for pid in pids():
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")[-3:] == wanted and alive(
                pid
            ):
                return pid
    return None


def marked_pids(spool: Path) -> list[int]:
    """What the scripts of this spool's tests have left running."""
    mark = f"{MARK}={spool}".encode()
    return [pid for pid in pids() if mark in environment_of(pid).split(b"\0") and alive(pid)]


def script_groups(spool: Path) -> list[Path]:
    """The control groups of this spool's scripts."""
    return [
        each
        for folder in group_folders(spool)
        if folder.exists()
        for each in folder.iterdir()
        if each.is_dir()
    ]


def open_keeper_without_cgroups(spool: Path) -> None:
    """Have the spool served by a keeper for which no cgroup v2 hierarchy is mounted; needs root."""
    subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", 'umount -l -a -t cgroup2 && exec "$@"', "sh"),
            *(sys.executable, "-P", "-S", "-m", "dcron.keeper", str(spool)),
        ],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=WAIT_SECONDS,
    )


def clear(spool: Path) -> None:
    """Leave no process and no control group of this spool behind."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (left := [*marked_pids(spool), *filter(None, [keeper_pid(spool)])]) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    assert not left
    groups = [Cgroup(folder) for folder in group_folders(spool) if folder.exists()]
    for group in groups:
        group.kill()
    while (kept := [group for group in groups if not group.remove()]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not kept


class SpoolOfTests:
    """Makes starts with sensible values and finds what came of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)
        # A keeper finds what a script left by its token, on the whole machine: other tests run there too.
        self._mark = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]

    def prepare(
        self, *argv: str, environment: dict[str, str] | None = None, **values: object
    ) -> ProcessStart:
        number = next(self._numbers)
        fields: dict[str, object] = {
            "execution_id": f"job:{number}:1",
            "token": f"{self._mark}-{number}",
            "folder": self.folder / f"attempt-{number}",
            "claim": {"token": f"{self._mark}-{number}"},
            "timeout_seconds": 0.0,
            "grace_seconds": 1.0,
            "max_log_bytes": 1 << 20,
            "not_after_boottime": MachineClock().boottime() + 3600,
            **values,
        }
        complete = {"PATH": os.environ["PATH"], MARK: str(self.folder), **(environment or {})}
        return ProcessStart(argv=argv, environment=complete, **fields)  # type: ignore[arg-type]

    def sh(self, text: str, **values: object) -> ProcessStart:
        return self.prepare("sh", "-c", text, **values)


def ledger_of(spool: Path) -> Ledger:
    """What a keeper that came next would read, from a copy."""
    copy = Path(tempfile.mkdtemp(dir=spool.parent))
    shutil.copy(spool / LEDGER_NAME, copy / LEDGER_NAME)
    ledger = Ledger(copy)
    ledger.load()
    return ledger


def ledger_entry(start: ProcessStart) -> dict[str, object]:
    """What the ledger holds of a script."""
    ledger = ledger_of(start.folder.parent)
    entries = (*ledger.open_entries(), *ledger.ended_entries())
    return next(entry for entry in entries if entry["token"] == start.token)


def amend_ledger(start: ProcessStart, **facts: object) -> None:
    """Have the ledger say something else of a script, while no keeper is there."""
    with (start.folder.parent / LEDGER_NAME).open("a") as file:
        file.write("\n" + json.dumps({"fact": "began", "token": start.token, **facts}))


def started_pid(start: ProcessStart) -> int:
    return ledger_entry(start)["pid"]


async def kill_keeper(spool: Path) -> None:
    pid = keeper_pid(spool)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not alive(pid))


def log_of(start: ProcessStart) -> str:
    return (start.folder / "log").read_text()


async def end_of(runner: KeeperRunner, start: ProcessStart) -> ProcessExit:
    """Wait until the runner tells of this script's end."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await runner.next_exit() != start.token:
            pass
    end = runner.read_exit(start.folder, start.token)
    assert end is not None
    return end


async def run(runner: KeeperRunner, start: ProcessStart) -> ProcessExit:
    assert await runner.start([start]) == [StartResult.STARTED]
    return await end_of(runner, start)


def waits_for(path: Path) -> str:
    """Shell text that goes on once the file is there."""
    return f"while ! [ -e '{path}' ]; do sleep 0.05; done"
