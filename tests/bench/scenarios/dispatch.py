"""Dispatch alone: occurrences that one leader brings through claim and outcome, where scripts take no time.

Memory is looked at between the waves: no execution may leave something behind in a node."""

from __future__ import annotations

import time
from collections.abc import Sequence

from dcron.domain.model import Specification
from dcron.services.leader.scheduler import POLL_SECONDS
from tests.bench import seeding
from tests.bench.bare_node import BARE_NODE
from tests.bench.ceiling import bulk_rate
from tests.bench.figures import Bound, Curve, Figure, Measured
from tests.bench.measuring import Bench, Marks, cluster_on, due_after, seeded, serving, sleep_until, uploaded
from tests.bench.outcomes import OutcomeWatch
from tests.bench.processes import memory_bytes
from tests.bench.stores import OpenStores, Stores, long_pairs
from tests.system.cluster import Cluster, wait_for

__all__ = ["run"]

NAME = "dispatch alone"
SLOTS = 10_000
SETTLE_SECONDS = 4.0
SEEDED_PER_SECOND = 1_000
"""Slower than any store writes jobs: what is reserved for it."""
MOST_SECONDS = 180.0
LET_GO_SECONDS = POLL_SECONDS + 5.0
"""After which a leader holds nothing of a wave's jobs any more, for it lets go of them when it polls: waited
for where its memory is compared."""
SHARE_OF_CEILING = 0.5
LEAST_PER_SECOND = {"sqlite": 3_000.0, "couchdb": 1_000.0}
NOISE_MIB = 4.0
"""By which the memory of a process goes up and down by itself."""
_MIB = 2**20


def run(bench: Bench) -> None:
    """Measure every pair of stores; memory with the last of them, which a node needs the most parts for."""
    measured = long_pairs(bench.scale.kinds)
    for open_stores in measured:
        _measure(bench, open_stores, with_memory=open_stores is measured[-1])


def _measure(bench: Bench, open_stores: OpenStores, *, with_memory: bool) -> None:
    waves = bench.scale.dispatch_waves
    rates: list[float] = []
    memory: list[list[int]] = []
    with bench.opened(open_stores) as (stores, folder):
        count = bench.scale.dispatch_jobs[stores.kind]
        cluster = cluster_on(folder, stores, program=BARE_NODE, settings={"DCRON_SLOTS": str(SLOTS)})
        wanted = uploaded(stores, Marks(folder).script)
        ceilings = [bulk_rate(stores, folder, wanted, count) for _ in range(bench.scale.runs)]
        with serving(cluster):
            for number in range(waves):
                rates.append(_one_wave(cluster, wanted, number, count))
                if with_memory and waves > 1 and number in (waves // 2, waves - 1):
                    time.sleep(LET_GO_SECONDS)
                memory.append([memory_bytes([node.process.pid]) for node in cluster.nodes])
    _report(bench, stores, rates, ceilings)
    if with_memory:
        _report_memory(bench, stores, memory, count)


def _one_wave(cluster: Cluster, wanted: Specification, number: int, count: int) -> float:
    """Occurrences a second, from the instant until the last outcome is stored and settled."""
    due_at = due_after(SETTLE_SECONDS + count / SEEDED_PER_SECOND)
    with OutcomeWatch(cluster.store_url, due_at) as outcomes:
        outcomes.follow()
        seeded(cluster, f"wave{number}", count, wanted, seeding.at_instant(due_at))
        assert time.time() < due_at.timestamp() - 1, "writing the jobs took too long for the instant"
        sleep_until(due_at)
        wait_for("all outcomes", lambda: outcomes.has(count), MOST_SECONDS)
        seconds = outcomes.finished_after(due_at, count)
    wait_for("all settled", lambda: not cluster.status()["activeCount"], MOST_SECONDS)
    return count / seconds


def _report(bench: Bench, stores: Stores, rates: Sequence[float], ceilings: Sequence[float]) -> None:
    ceiling = Measured("bulk writes of the same documents", "/s", tuple(ceilings))
    share = SHARE_OF_CEILING * ceiling.median
    targets = [Bound(f"{SHARE_OF_CEILING:.0%} of the ceiling", share, at_most=False)]
    least = LEAST_PER_SECOND.get(stores.kind)
    if least is not None:
        targets.insert(0, Bound("", least, at_most=False))
    measured = Measured("occurrences through one leader", "/s", tuple(rates))
    bench.results.figures.append(Figure(NAME, stores.name, measured, (ceiling,), tuple(targets)))


def _report_memory(bench: Bench, stores: Stores, memory: Sequence[Sequence[int]], count: int) -> None:
    """Growth from the middle to the end: what a node fills at first, it may keep."""
    nodes = list(zip(*memory, strict=True))
    largest = max(nodes, key=lambda values: values[-1])
    points = tuple((float(wave * count), value / _MIB) for wave, value in enumerate(largest, 1))
    label = f"{stores.name}, the largest node"
    bench.results.curves.append(Curve("memory", label, "executions", "MiB resident", points))
    middle = len(memory) // 2
    executions = (len(memory) - 1 - middle) * count
    if not executions:
        return
    growth = [(values[-1] - values[middle]) / _MIB for values in nodes]
    measured = Measured(f"growth of each node over {executions:,} executions", "MiB", tuple(growth))
    target = Bound("nothing but noise", NOISE_MIB, every=True)
    bench.results.figures.append(Figure("memory", stores.name, measured, (), (target,)))
