"""Taking over the scripts of a keeper that was killed."""

from __future__ import annotations

from pathlib import Path

from dcron.keeper.cgroups import Cgroup
from dcron.keeper.journal import say
from dcron.keeper.processes import Snapshot, boot_id, is_alive
from dcron.keeper.protocol import ProtocolError
from dcron.keeper.records import EXIT_NAME, STARTED_NAME, RunningList, read_record
from dcron.keeper.script import Limits, Script

__all__ = ["adopt"]

_NO_LIMITS: dict[str, object] = {"timeout_seconds": 0, "grace_seconds": 0, "max_log_bytes": 1 << 40}
"""For a record that a power cut damaged; what it was about does not run any more."""


def adopt(running: RunningList) -> list[Script]:
    """The scripts on the list whose end is not on disk: those that still run, and as `ended` those that do
    not, of which nobody will know more. Raises OSError."""
    entries = running.entries()
    if not entries:
        return []
    snapshot = Snapshot()
    boot = boot_id()
    scripts: list[Script] = []
    for token, folder in entries:
        if not folder.is_dir() or (read_record(folder / EXIT_NAME) or {}).get("token") == token:
            running.remove(token)
            continue
        script = _take_over(token, folder, snapshot, boot)
        say("adopted", token=token, pid=script.pid, ended=int(script.ended))
        scripts.append(script)
    return scripts


def _take_over(token: str, folder: Path, snapshot: Snapshot, boot: str) -> Script:
    record = read_record(folder / STARTED_NAME) or {}
    if record.get("token") != token:
        record = {}
    try:
        limits = Limits(record)
    except ProtocolError:
        limits = Limits(_NO_LIMITS)
    script = Script(str(record.get("execution_id", "")), token, folder, limits)
    script.adopted = True
    same_boot = record.get("boot_id") == boot
    cgroup = record.get("cgroup")
    if same_boot and isinstance(cgroup, str):
        script.cgroup = Cgroup(Path(cgroup))
    pid, ticks = record.get("pid"), record.get("start_ticks")
    if isinstance(pid, int) and isinstance(ticks, int) and pid > 0:
        script.resume(pid, ticks, record)
        alive = same_boot and is_alive(pid, ticks)
    else:
        alive = _find_unrecorded(script, snapshot)
    if not alive:
        script.end_unseen()
    return script


def _find_unrecorded(script: Script, snapshot: Snapshot) -> bool:
    """Whether a script runs whose keeper was killed between starting it and writing down its pid."""
    held = script.cgroup.pids() if script.cgroup is not None else ()
    leaders = [
        each
        for each in snapshot.processes
        if each.pid == each.session and not each.zombie and (each.pid in held or each.token == script.token)
    ]
    if not leaders:
        return False
    # It may have started others that lead sessions too, but not before itself.
    first = min(leaders, key=lambda each: (each.start_ticks, each.pid))
    # Its timeout counts from now: nobody knows better.
    script.begin(first.pid, first.start_ticks)
    return True
