"""Has the pid of a script that ended unseen given to another process, and a new keeper judge.

`python -m tests.integration.keeper_reuse SPOOL`, as root and as the first process of a pid namespace."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from dcron.keeper.processes import start_ticks
from tests.integration.keeper_helpers import SpoolOfTests, keeper_pid, runner_of, started_pid, until

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
TRIES = 100


async def main(folder: Path) -> None:
    spool = SpoolOfTests(folder)
    runner = runner_of(folder)
    await runner.open()
    # One process only: a number is not given again while it names the group of another one.
    start = spool.prepare("sleep", "600", timeout_seconds=2.0, grace_seconds=0.0)
    await runner.start([start])
    await runner.close()
    pid = started_pid(start)
    ticks = start_ticks(pid)
    # The first process of the namespace inherits what they leave.
    for ended in (keeper_pid(folder), pid):
        os.kill(ended, signal.SIGKILL)
        os.waitpid(ended, 0)
    bystander = reuse(pid, ticks)
    successor = runner_of(folder)
    await successor.open()
    await until((start.folder / "exit.json").exists)
    end = successor.read_exit(start.folder, start.token)
    # A keeper that took it for the script would stop it at the script's timeout.
    await asyncio.sleep(start.timeout_seconds)
    ended, _ = os.waitpid(bystander, os.WNOHANG)
    print(json.dumps({"same_pid": bystander == pid, "lost": end.lost, "bystander_runs": ended == 0}))
    await successor.close()


def reuse(pid: int, ticks: int) -> int:
    """A process with this pid that was not started in the same clock tick."""
    for _ in range(TRIES):
        LAST_PID.write_text(str(pid - 1))
        made = os.posix_spawn("/bin/sleep", ["sleep", "600"], {})
        if made == pid and start_ticks(made) != ticks:
            return made
        os.kill(made, signal.SIGKILL)
        os.waitpid(made, 0)
    raise AssertionError(f"pid {pid} was not given again in {TRIES} tries")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
