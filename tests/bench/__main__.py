"""usage: python -m tests.bench [SCENARIO ...]
environment: BENCH=quick, default or full; BENCH_STORES=sqlite,pouchdb,couchdb or some of them

Measures dcron beside its yardsticks, prints a table, and writes bench/results/<time>.json."""

from __future__ import annotations

import importlib
import logging
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import structlog

from dcron.cli.local_cluster import stop_signals_interrupt
from tests.bench.disk import enter_journal, has_journal
from tests.bench.figures import Results
from tests.bench.measuring import Bench
from tests.bench.records import Machine, save
from tests.bench.scale import Scale, chosen_scale
from tests.bench.table import show

SCENARIOS = (
    # First: a virtual machine may give free memory back to its host, and take seconds to have a gigabyte
    # again. Now both the log and its yardstick find what the one before has just let go of.
    "big_log",
    "due_at_once",
    "dispatch",
    "steady",
    "stored",
    "idle",
    "catalogue",
    "failover",
    "commands",
)


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(SCENARIOS))
    if unknown:
        print(f"no scenario {unknown[0]!r}; there are {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    # What the adapters say in this process is not what anybody wants to read here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    scale = chosen_scale()
    machine = Machine.this()
    results = Results()
    if not has_journal(Path(gettempdir())):
        results.notes.append(
            f"temporary files are on a disk without a journal: {machine.file_milliseconds} ms for each"
        )
    try:
        failed = [name for name in names or SCENARIOS if not measure(name, scale, results)]
    finally:
        # Even when somebody stops it: minutes have gone into what there is.
        show(results)
        print(f"written to {save(results, scale.mode, machine)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def measure(name: str, scale: Scale, results: Results) -> bool:
    """Run one scenario; whether it could be measured and its counts were right."""
    began = time.monotonic()
    print(f"{name} ...", flush=True)
    scenario = importlib.import_module(f"tests.bench.scenarios.{name}")
    with TemporaryDirectory(prefix="dcron-bench-") as folder:
        try:
            scenario.run(Bench(scale, Path(folder), results))
        except Exception:  # noqa: BLE001 - the others are measured all the same
            traceback.print_exc()
            return False
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    enter_journal(sys.argv[1:])
    stop_signals_interrupt()
    sys.exit(main(sys.argv[1:]))
