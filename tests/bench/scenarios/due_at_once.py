"""1,000 jobs due in one minute: how late each script's first line is, and when all is stored."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from dcron.domain.model import Specification
from tests.bench import seeding
from tests.bench.debian_cron import cron_trouble, debian_cron
from tests.bench.figures import Bound, Curve, Figure, Measured, percentile
from tests.bench.measuring import (
    Bench,
    Marks,
    cluster_on,
    due_after,
    seeded,
    serving,
    sleep_until,
    spools_are_empty,
    uploaded,
)
from tests.bench.outcomes import OutcomeWatch
from tests.bench.stores import OpenStores, Stores, pairs
from tests.bench.yardsticks import put_rate, spawn_loop
from tests.system.cluster import Cluster, wait_for

__all__ = ["run"]

NAME = "due at once"
SETTLE_SECONDS = 4.0
"""Between the last registration and the instant."""
SEEDED_PER_SECOND = 500
"""Slower than any store writes jobs: what is reserved for it."""
MOST_SECONDS = 180.0
SECONDS_BEYOND_PUTS = 3.0
_SHARES = (("p50", 0.50), ("p99", 0.99))


def run(bench: Bench) -> None:
    """Measure the yardsticks, then dcron on each pair of stores."""
    count = bench.scale.due_jobs
    marks = Marks(bench.folder)
    loops = [spawn_loop(marks, count) for _ in range(bench.scale.runs)]
    crons = _cron_runs(bench, count)
    _add_curve(bench, "spawn loop", loops[-1])
    if crons:
        _add_curve(bench, "Debian cron", crons[-1])
    for open_stores in pairs(bench.scale.kinds):
        _measure(bench, open_stores, loops, crons)


def _cron_runs(bench: Bench, count: int) -> list[list[float]]:
    trouble = cron_trouble() if bench.scale.with_cron else "BENCH=quick does not wait for its minutes"
    if trouble:
        bench.results.notes.append(f"{NAME}: no figures of Debian's cron: {trouble}")
        return []
    return [debian_cron(bench.folder / f"cron{number}", count) for number in range(bench.scale.runs)]


@dataclass(slots=True)
class _Runs:
    """What was found on one pair of stores, for each run."""

    lateness: list[list[float]] = field(default_factory=list)
    stored: list[float] = field(default_factory=list)
    not_started: list[float] = field(default_factory=list)


def _measure(
    bench: Bench, open_stores: OpenStores, loops: list[list[float]], crons: list[list[float]]
) -> None:
    runs = _Runs()
    with bench.opened(open_stores) as (stores, folder):
        puts = put_rate(stores, folder)
        marks = Marks(folder)
        with serving(cluster_on(folder, stores)) as cluster:
            wanted = uploaded(stores, marks.script)
            for number in range(bench.scale.runs):
                _one_run(cluster, marks, wanted, number, bench.scale.due_jobs, runs)
    _add_curve(bench, f"dcron on {stores.name}", runs.lateness[-1])
    _report(bench, stores, runs.lateness, loops, crons)
    stored = Measured("all outcomes and logs stored after", "s", tuple(runs.stored))
    rate = Measured("PUTs of the object store", "/s", (puts,))
    target = Bound(
        f"3 s + {bench.scale.due_jobs} ÷ PUT rate", SECONDS_BEYOND_PUTS + bench.scale.due_jobs / puts
    )
    late = Measured("attempts given up and made again", "", tuple(runs.not_started))
    bench.results.figures.append(Figure(NAME, stores.name, stored, (rate,), (target,)))
    bench.results.figures.append(Figure(NAME, stores.name, late, (), (Bound("none", 0.0),)))


def _one_run(
    cluster: Cluster, marks: Marks, wanted: Specification, number: int, count: int, runs: _Runs
) -> None:
    """Note the lateness of all starts, and the seconds until all is stored."""
    marks.clear()
    due_at = due_after(SETTLE_SECONDS + count / SEEDED_PER_SECOND)
    with OutcomeWatch(cluster.store_url, due_at) as outcomes:
        seeded(cluster, f"run{number}", count, wanted, seeding.at_instant(due_at))
        assert time.time() < due_at.timestamp() - 1, "writing the jobs took too long for the instant"
        sleep_until(due_at)
        wait_for("all starts", lambda: marks.count() >= count, MOST_SECONDS)
        emptied_at = wait_for(
            "empty spools", lambda: spools_are_empty(cluster.nodes) and time.time(), MOST_SECONDS
        )
        outcomes.follow()
        wait_for("all outcomes", lambda: outcomes.has(count), MOST_SECONDS)
        outcomes.finished_after(due_at, count)
    runs.lateness.append(marks.lateness_at(due_at, count))
    runs.stored.append(emptied_at - due_at.timestamp())
    runs.not_started.append(outcomes.not_started)


def _report(
    bench: Bench,
    stores: Stores,
    lateness: list[list[float]],
    loops: list[list[float]],
    crons: list[list[float]],
) -> None:
    for word, share in _SHARES:
        loop = _measured(f"spawn loop {word}", loops, share)
        yardsticks, targets = [loop], [Bound(f"twice the spawn loop's {word}", 2 * loop.median)]
        if crons:
            cron = _measured(f"Debian cron {word}", crons, share)
            yardsticks.insert(0, cron)
            if word == "p99":
                targets.insert(0, Bound("half of Debian cron's p99", 0.5 * cron.median))
        measured = _measured(f"lateness {word}", lateness, share)
        bench.results.figures.append(Figure(NAME, stores.name, measured, tuple(yardsticks), tuple(targets)))


def _measured(name: str, runs: list[list[float]], share: float) -> Measured:
    return Measured(name, "s", tuple(percentile(values, share) for values in runs))


def _add_curve(bench: Bench, label: str, lateness: list[float]) -> None:
    ordered = sorted(lateness)
    points = tuple((at, float(number)) for number, at in enumerate(ordered, 1))
    bench.results.curves.append(
        Curve("due-at-once", label, "seconds after the instant", "scripts started", points)
    )
