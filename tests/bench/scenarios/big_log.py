"""A script that prints a gigabyte: how much longer than into a file, and what memory it costs."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dcron.domain.model import Specification
from tests.bench import seeding
from tests.bench.figures import Bound, Figure, Measured
from tests.bench.measuring import Bench, cluster_on, due_after, seeded, serving, spools_are_empty, uploaded
from tests.bench.outcomes import OutcomeWatch
from tests.bench.processes import node_pids, peak_memory_bytes, reset_peak
from tests.bench.stores import OpenStores, pairs
from tests.system.cluster import Cluster, wait_for

__all__ = ["run"]

NAME = "big log"
BLOCK_BYTES = 1 << 16
SETTLE_SECONDS = 3.0
MOST_SECONDS = 300.0
MOST_OVERHEAD_PERCENT = 10.0
MOST_MEMORY_MIB = 20.0
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class _Printing:
    """A script that prints much and writes down, elsewhere, when it began and ended."""

    script: Path
    times: Path

    def seconds(self) -> float:
        began, ended = map(float, self.times.read_text().split())
        return ended - began

    def has_ended(self) -> bool:
        return self.times.exists() and self.times.read_bytes().count(b"\n") == 2


def run(bench: Bench) -> None:
    """Measure every pair of stores, the plain file before each run."""
    for open_stores in pairs(bench.scale.kinds):
        _measure(bench, open_stores)


def _measure(bench: Bench, open_stores: OpenStores) -> None:
    plain: list[float] = []
    printed: list[float] = []
    memory: list[float] = []
    size_bytes = bench.scale.log_bytes
    with bench.opened(open_stores) as (stores, folder):
        printing = _make_script(folder, size_bytes)
        wanted = uploaded(stores, printing.script)
        settings = {"DCRON_MAX_LOG_BYTES": str(2 * size_bytes)}
        with serving(cluster_on(folder, stores, nodes=1, settings=settings)) as cluster:
            # What a node loads for its first log of any size is no cost of a big one.
            _run_job(cluster, "small", uploaded(stores, _small_script(folder)))
            for number in range(bench.scale.runs):
                plain.append(_into_file(printing, folder / "plain"))
                memory.append(_under_dcron(cluster, printing, wanted, number))
                printed.append(printing.seconds())
    into_file = Measured("into a file", "s", tuple(plain))
    name = f"printing {size_bytes // _MIB:,} MiB"
    limit = into_file.median * (1 + MOST_OVERHEAD_PERCENT / 100)
    figures = bench.results.figures
    figures.append(
        Figure(
            NAME, stores.name, Measured(name, "s", tuple(printed)), (into_file,), (Bound("10 % more", limit),)
        )
    )
    grown = Measured(f"memory of the node while {name} and storing it: more by", "MiB", tuple(memory))
    figures.append(Figure(NAME, stores.name, grown, (), (Bound("", MOST_MEMORY_MIB),)))


def _make_script(folder: Path, size_bytes: int) -> _Printing:
    printing = _Printing(folder / "printing.sh", folder / "times")
    times = shlex.quote(str(printing.times))
    now = f"date +%s.%N >> {times}"
    dd = f"dd if=/dev/zero bs={BLOCK_BYTES} count={size_bytes // BLOCK_BYTES} status=none"
    printing.script.write_text(f"{now}\n{dd}\n{now}\n")
    return printing


def _into_file(printing: _Printing, path: Path) -> float:
    """The script's own seconds with its output in a file on the spool's disk."""
    _settle_disk(printing)
    with path.open("wb") as output:
        subprocess.run(["sh", str(printing.script)], stdout=output, check=True)
    path.unlink()
    return printing.seconds()


def _under_dcron(cluster: Cluster, printing: _Printing, wanted: Specification, number: int) -> float:
    """Run it as a job; how much more memory, in MiB, daemon and keeper had at most until all was stored."""
    _settle_disk(printing)
    pids = node_pids(cluster.nodes[0])
    reset_peak(pids)
    before = peak_memory_bytes(pids)
    _run_job(cluster, f"log{number}", wanted)
    assert printing.has_ended()
    return (peak_memory_bytes(pids) - before) / _MIB


def _run_job(cluster: Cluster, name: str, wanted: Specification) -> None:
    """Have a job run once; returns when both stores have what came of it."""
    due_at = due_after(SETTLE_SECONDS)
    with OutcomeWatch(cluster.store_url, due_at) as outcomes:
        outcomes.follow()
        seeded(cluster, name, 1, wanted, seeding.at_instant(due_at))
        wait_for(f"the outcome of {name}", lambda: outcomes.has(1), MOST_SECONDS)
    wait_for("the log to be stored", lambda: spools_are_empty(cluster.nodes), MOST_SECONDS)


def _small_script(folder: Path) -> Path:
    script = folder / "small.sh"
    script.write_text("echo small\n")
    return script


def _settle_disk(printing: _Printing) -> None:
    """Neither run is to pay for what others have left to be written."""
    printing.times.unlink(missing_ok=True)
    os.sync()
