"""A million jobs stored and ten due: the leader's poll, its lateness and its memory, beside 1,000 stored."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from dcron.domain.model import Specification
from dcron.ports import DocumentStore
from dcron.services.leader.due_queue import DueQueue
from dcron.services.leader.job_book import JobBook
from tests.bench import seeding
from tests.bench.figures import Bound, Figure, Measured, percentile
from tests.bench.measuring import (
    FAR,
    Bench,
    Marks,
    cluster_on,
    due_after,
    seeded,
    serving,
    sleep_until,
    uploaded,
    with_store,
)
from tests.bench.processes import memory_bytes, node_pids
from tests.bench.stores import KINDS, Kind, OpenStores, Stores, pairs
from tests.system.cluster import Cluster, wait_for

__all__ = ["run"]

NAME = "many stored"
DUE = 10
SETTLE_SECONDS = 4.0
POLLS = 20
INSTANTS = 5
"""Times that ten jobs come due, in each run: ten starts alone are few."""
MOST_SECONDS = 60.0
POLLED_AHEAD = timedelta(hours=1)
"""When the jobs come due that are polled for; long after the end."""
LIKE = 1.2
"""What counts as the same."""
IDLE_MIB = 90.0
LEADING_MIB = 200.0
_MIB = 2**20
_CLIENTS = """
import aiohttp, boto3, grpc.aio
boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")][0])
"""
"""The libraries that a node on CouchDB and S3 cannot be without; prints resident KiB."""


@dataclass(slots=True)
class _Found:
    """What was found with one number of jobs stored, for each run."""

    count: int
    polls: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    leading_mib: float = 0.0
    idle_mib: float = 0.0


def run(bench: Bench) -> None:
    """Measure every pair of stores, with few and with many jobs."""
    for open_stores in pairs(bench.scale.kinds):
        few, stores = _measure(bench, open_stores, dict.fromkeys(KINDS, bench.scale.stored_few))
        many, _ = _measure(bench, open_stores, bench.scale.stored_many)
        _report(bench, stores, few, many)
        _report_memory(bench, stores, few, many)


def _measure(bench: Bench, open_stores: OpenStores, counts: Mapping[Kind, int]) -> tuple[_Found, Stores]:
    with bench.opened(open_stores) as (stores, folder):
        cluster = cluster_on(folder, stores)
        marks = Marks(folder)
        wanted = uploaded(stores, marks.script)
        found = _Found(counts[stores.kind])
        seeded(cluster, "stored", found.count, wanted, FAR)
        polled_at = due_after(POLLED_AHEAD.total_seconds())
        seeded(cluster, "polled", DUE, wanted, seeding.at_instant(polled_at))
        with serving(cluster):
            for number in range(bench.scale.runs):
                found.lateness.append(_lateness(cluster, marks, wanted, number))
                found.polls.append(with_store(cluster.store_url, _poll_milliseconds))
            leader_id = cluster.leader_id()
            memory = {node.id: memory_bytes(node_pids(node)) / _MIB for node in cluster.nodes}
            found.leading_mib = memory.pop(leader_id)
            found.idle_mib = max(memory.values())
    return found, stores


def _lateness(cluster: Cluster, marks: Marks, wanted: Specification, number: int) -> float:
    """Median over all starts, ten at each instant."""
    marks.clear()
    first = due_after(SETTLE_SECONDS)
    instants = [first + timedelta(seconds=second) for second in range(INSTANTS)]
    for due_at in instants:
        seeded(cluster, f"due{number}-{due_at.second}", DUE, wanted, seeding.at_instant(due_at))
    sleep_until(instants[-1])
    wait_for("all starts", lambda: marks.count() >= DUE * INSTANTS, MOST_SECONDS)
    wait_for("all settled", lambda: not cluster.status()["activeCount"], MOST_SECONDS)
    return percentile([each for due_at in instants for each in marks.lateness_at(due_at, DUE)], 0.5)


async def _poll_milliseconds(store: DocumentStore) -> float:
    """What the leader's question for due jobs takes, reading what it names; no node has anything to do."""
    seconds = []
    for _ in range(POLLS):
        began = time.monotonic()
        due = DueQueue()
        book = JobBook(store, due, {})
        horizon = datetime.now(UTC) + 2 * POLLED_AHEAD
        await book.poll(horizon)
        seconds.append(time.monotonic() - began)
        assert len(due.take_due(horizon, 2 * DUE)) == DUE
    return percentile(seconds, 0.5) * 1000


def _report(bench: Bench, stores: Stores, few: _Found, many: _Found) -> None:
    """What came of many, beside what came of few."""
    for name, unit, before, after in (
        ("the leader's poll", "ms", few.polls, many.polls),
        (f"lateness p50 of {DUE} due", "s", few.lateness, many.lateness),
    ):
        yardstick = Measured(f"with {few.count:,} stored", unit, tuple(before))
        measured = Measured(f"{name}, {many.count:,} stored", unit, tuple(after))
        targets = (Bound("within 20 %", LIKE * yardstick.median),)
        bench.results.figures.append(Figure(NAME, stores.name, measured, (yardstick,), targets))


def _report_memory(bench: Bench, stores: Stores, few: _Found, many: _Found) -> None:
    program = [sys.executable, "-c", _CLIENTS]
    kib = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    libraries = Measured("grpc, aiohttp and a boto3 client", "MiB", (int(kib) / 1024,))
    for name, value, limit in (
        ("a node, idle", few.idle_mib, IDLE_MIB),
        (f"a node, leading with {many.count:,} jobs stored", many.leading_mib, LEADING_MIB),
    ):
        measured = Measured(name, "MiB", (value,))
        bench.results.figures.append(
            Figure("memory", stores.name, measured, (libraries,), (Bound("", limit),))
        )
