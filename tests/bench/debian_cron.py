"""Debian's cron as a yardstick, with a crontab of its own in a mount namespace of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.system.cluster import wait_for

__all__ = ["cron_trouble", "debian_cron"]

CRONTABS = Path("/var/spool/cron/crontabs")
READ_SECONDS = 5.0
"""For cron to start and read its crontab before the minute."""
MINUTE_SECONDS = 60
MOST_SECONDS = 180.0
STOP_SECONDS = 10.0
# What the machine's own cron would run is covered by empty places, and so is the file with its pid.
_ENTER = """
set -e
mount --bind "$1/crontabs" /var/spool/cron/crontabs
mount --bind "$1/empty" /etc/cron.d
mount --bind "$1/nothing" /etc/crontab
mount -t tmpfs none /run
exec cron -f
"""


def cron_trouble() -> str:
    """Why cron cannot be measured here; empty when it can."""
    missing = [program for program in ("cron", "unshare") if shutil.which(program) is None]
    if missing:
        return f"{missing[0]} is not installed"
    if os.geteuid() != 0:
        return "a mount namespace for its crontab takes root"
    return "" if CRONTABS.is_dir() else f"there is no {CRONTABS}"


def debian_cron(folder: Path, count: int) -> list[float]:
    """Seconds after the minute of each first line of `count` commands due in the same minute."""
    marks = folder / "marks"
    due_at = _next_minute(datetime.now(UTC) + timedelta(seconds=READ_SECONDS))
    _write_crontab(folder, marks, due_at, count)
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh", str(folder)]
    with (folder / "cron.log").open("wb") as log:
        cron = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:

        def all_started() -> bool:
            assert cron.poll() is None, f"cron ended: {(folder / 'cron.log').read_text()}"
            return marks.exists() and marks.read_bytes().count(b"\n") >= count

        wait_for("all commands of cron", all_started, MINUTE_SECONDS + MOST_SECONDS)
    finally:
        _stop(cron)
    return [float(line) - due_at.timestamp() for line in marks.read_text().split()]


def _stop(unshare: subprocess.Popen[bytes]) -> None:
    """Kill cron, the first process of its namespace, and with it all that is in there."""
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
    for pid in map(int, children):
        os.kill(pid, signal.SIGKILL)
    unshare.wait(STOP_SECONDS)


def _write_crontab(folder: Path, marks: Path, due_at: datetime, count: int) -> None:
    (folder / "crontabs").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "nothing").touch()
    # Cron reads times in the machine's zone.
    local = due_at.astimezone()
    command = f"date '+\\%s.\\%N' >> {shlex.quote(str(marks))}; echo has started >/dev/null"
    line = f"{local.minute} {local.hour} * * * {command}\n"
    crontab = folder / "crontabs" / "root"
    crontab.write_text('MAILTO=""\n' + line * count)
    crontab.chmod(0o600)


def _next_minute(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0) + timedelta(minutes=1)
