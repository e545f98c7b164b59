"""Taking over the scripts of a keeper that was killed."""

from __future__ import annotations

from pathlib import Path

from dcron.keeper.cgroups import Cgroup
from dcron.keeper.journal import say
from dcron.keeper.ledger import Facts, Ledger
from dcron.keeper.processes import Snapshot, boot_id, is_alive
from dcron.keeper.protocol import ProtocolError
from dcron.keeper.records import CLAIM_NAME, EXIT_NAME, read_record, write_record
from dcron.keeper.script import Limits, Script

__all__ = ["adopt"]

_NO_LIMITS: dict[str, object] = {"timeout_seconds": 0, "grace_seconds": 0, "max_log_bytes": 1 << 40}
"""For an entry of another dcron that says less."""


def adopt(ledger: Ledger) -> list[Script]:
    """The scripts whose end is not in the ledger: those that still run, and as `ended` those that do not, of
    which nobody will know more. Raises OSError."""
    for entry in ledger.ended_entries():
        _restore(entry, CLAIM_NAME, "claim")
        _restore(entry, EXIT_NAME, "exit")
    entries = ledger.open_entries()
    if not entries:
        return []
    snapshot = Snapshot()
    scripts: list[Script] = []
    for entry in entries:
        if not Path(str(entry["folder"])).is_dir():
            ledger.dropped(str(entry["token"]))
            continue
        _restore(entry, CLAIM_NAME, "claim")
        script = _take_over(entry, snapshot)
        say("adopted", token=script.token, pid=script.pid, ended=int(script.ended))
        scripts.append(script)
    return scripts


def _restore(entry: Facts, name: str, fact: str) -> None:
    """Write a record of the attempt's folder again where a crash or a power cut has kept it from the disk."""
    path, record = Path(str(entry["folder"])) / name, entry.get(fact)
    if path.parent.is_dir() and isinstance(record, dict) and not read_record(path):
        write_record(path, record)


def _take_over(entry: Facts, snapshot: Snapshot) -> Script:
    try:
        limits = Limits(entry)
    except ProtocolError:
        limits = Limits(_NO_LIMITS)
    folder = Path(str(entry["folder"]))
    script = Script(str(entry.get("execution_id", "")), str(entry["token"]), folder, limits)
    script.adopted = True
    same_boot = entry.get("boot_id") == boot_id()
    cgroup = entry.get("cgroup")
    if same_boot and isinstance(cgroup, str):
        script.cgroup = Cgroup(Path(cgroup))
    pid, ticks = entry.get("pid"), entry.get("start_ticks")
    if isinstance(pid, int) and isinstance(ticks, int) and pid > 0:
        script.resume(pid, ticks, entry)
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
