"""What the kernel says of a node's processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tests.system.cluster import NodeProcess

__all__ = ["cpu_seconds", "memory_bytes", "node_pids", "peak_memory_bytes", "reset_peak"]

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_RESET_PEAK = "5"
"""What the kernel takes in clear_refs to forget the peak."""


def node_pids(node: NodeProcess) -> list[int]:
    """The daemon and its keeper, if there is one."""
    keepers = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _keeps(entry, node.spool)
    ]
    return [node.process.pid, *keepers]


def memory_bytes(pids: Sequence[int]) -> int:
    """Resident memory of a node. Files that are mapped, Python and its libraries, count once: the keeper maps
    none that the daemon does not."""
    mapped = max(_status(pid, "RssFile") for pid in pids)
    return mapped + sum(_status(pid, "RssAnon") for pid in pids)


def peak_memory_bytes(pids: Sequence[int]) -> int:
    """Most resident memory of each since `reset_peak`, added up."""
    return sum(_status(pid, "VmHWM") for pid in pids)


def reset_peak(pids: Sequence[int]) -> None:
    """Let peaks begin anew."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time so far."""
    ticks = 0
    for pid in pids:
        # The name, in parentheses, may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_SECOND


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no {name}")


def _keeps(entry: Path, spool: Path) -> bool:
    try:
        words = (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False  # gone meanwhile
    return b"dcron.keeper" in words and str(spool).encode() in words
