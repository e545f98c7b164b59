"""A steady load of real scripts: how many a second start in time, all the time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from dcron.domain.model import Specification
from tests.bench.figures import Bound, Curve, Figure, Measured, percentile
from tests.bench.measuring import Bench, Marks, cluster_on, due_after, seeded, serving, sleep_until, uploaded
from tests.bench.stores import OpenStores, Stores, steady_pairs
from tests.system.cluster import Cluster

__all__ = ["run"]

NAME = "steady load"
PERIOD_SECONDS = 10
"""Each job comes due this often, a tenth of them each second: none waits for its last execution."""
SETTLE_SECONDS = 3
"""From registering until starts count."""
LATEST_SECONDS = 1.0
"""Lateness that a load counts as carried with."""
LEAST_SHARE = 0.99
"""Of what was due, which has to have started."""
ARRIVAL_SECONDS = 15.0
"""After the last instant: what has not started then is too late by any measure."""
TRIES_TO_CONFIRM = 3
WINDOW_SECONDS = 10
LEAST_PER_SECOND = 200.0


@dataclass(frozen=True, slots=True)
class _Load:
    """What a load came to: starts and lateness by the instant that they were for."""

    rate: int
    seconds: int
    lateness: dict[datetime, list[float]]

    def is_carried(self) -> bool:
        return len(self.all()) >= LEAST_SHARE * self.rate * self.seconds and self.is_in_time()

    def is_in_time(self) -> bool:
        return percentile(self.all(), 0.99) < LATEST_SECONDS

    def all(self) -> list[float]:
        return [each for group in self.lateness.values() for each in group]

    def windows(self) -> list[list[float]]:
        """Lateness in stretches of WINDOW_SECONDS, or all of it where it is no longer than that."""
        instants = sorted(self.lateness)
        stretches = [instants[n : n + WINDOW_SECONDS] for n in range(0, len(instants), WINDOW_SECONDS)]
        whole = [stretch for stretch in stretches if len(stretch) == WINDOW_SECONDS] or [instants]
        return [[each for at in stretch for each in self.lateness[at]] for stretch in whole]


def run(bench: Bench) -> None:
    """Look for the greatest rate on each pair of stores, then hold it."""
    for open_stores in steady_pairs(bench.scale.kinds):
        searches = bench.scale.steady_try_seconds > 0
        found = _search(bench, open_stores) if searches else list(bench.scale.steady_rates)
        for rate in found[: -TRIES_TO_CONFIRM - 1 : -1]:
            load, stores = _hold(bench, open_stores, rate)
            if load.is_carried():
                _report(bench, stores, load)
                break
        else:
            bench.results.notes.append(f"{NAME}: no rate of {found} was held on {open_stores.__name__}")


def _search(bench: Bench, open_stores: OpenStores) -> list[int]:
    """Rates that were carried for a short time, ascending, on one cluster that is given ever more jobs."""
    carried: list[int] = []
    points: list[tuple[float, float]] = []
    with bench.opened(open_stores) as (stores, folder):
        marks = Marks(folder)
        with serving(cluster_on(folder, stores)) as cluster:
            wanted = uploaded(stores, marks.script)
            before = 0
            for rate in bench.scale.steady_rates:
                load = _one_load(cluster, marks, wanted, before, rate, bench.scale.steady_try_seconds)
                if load.lateness:
                    points.append((float(rate), percentile(load.all(), 0.99)))
                if not load.is_carried():
                    break
                carried.append(rate)
                before = rate
    label = f"dcron on {stores.name}"
    bench.results.curves.append(
        Curve("steady-load", label, "starts due each second", "p99 lateness, seconds", tuple(points))
    )
    return carried


def _hold(bench: Bench, open_stores: OpenStores, rate: int) -> tuple[_Load, Stores]:
    with bench.opened(open_stores) as (stores, folder):
        marks = Marks(folder)
        with serving(cluster_on(folder, stores)) as cluster:
            wanted = uploaded(stores, marks.script)
            return _one_load(cluster, marks, wanted, 0, rate, bench.scale.steady_seconds), stores


def _one_load(
    cluster: Cluster, marks: Marks, wanted: Specification, before: int, rate: int, seconds: int
) -> _Load:
    """Add jobs until `rate` are due each second, where `before` are already; what starts of `seconds`."""
    added = rate - before
    for offset in range(PERIOD_SECONDS):
        schedule = f"{offset}/{PERIOD_SECONDS} * * * * *"
        seeded(cluster, f"load{rate}-{offset}", added, wanted, schedule)
    begin = due_after(SETTLE_SECONDS)
    for past in range(WINDOW_SECONDS, seconds, WINDOW_SECONDS):
        sleep_until(begin + timedelta(seconds=past))
        so_far = _Load(rate, past, _lateness(marks, begin, begin + timedelta(seconds=past)))
        if so_far.lateness and not so_far.is_in_time():
            # It will not recover, and there are other rates to be tried.
            return so_far
    end = begin + timedelta(seconds=seconds)
    sleep_until(end)
    due = rate * seconds

    def load() -> _Load:
        return _Load(rate, seconds, _lateness(marks, begin, end))

    deadline = time.monotonic() + ARRIVAL_SECONDS
    while len(load().all()) < due and time.monotonic() < deadline:
        time.sleep(0.5)
    return load()


def _lateness(marks: Marks, begin: datetime, end: datetime) -> dict[datetime, list[float]]:
    """By instant from begin to before end."""
    return {due_at: late for due_at, late in marks.lateness().items() if begin <= due_at < end}


def _report(bench: Bench, stores: Stores, load: _Load) -> None:
    windows = load.windows()
    length = load.seconds / len(windows)
    rates = Measured("starts a second", "/s", tuple(len(window) / length for window in windows))
    late = Measured("lateness p99", "s", tuple(percentile(window, 0.99) for window in windows))
    bench.results.figures.extend(
        (
            Figure(NAME, stores.name, rates, (), (Bound("", LEAST_PER_SECOND, at_most=False),)),
            Figure(NAME, stores.name, late, (rates,), (Bound("", LATEST_SECONDS),)),
        )
    )
