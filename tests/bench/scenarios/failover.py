"""Changes of leaders, as `make failover` measures them, in few rounds."""

from __future__ import annotations

from tests.bench.failover import TARGET_SECONDS, measure
from tests.bench.failover_report import misses
from tests.bench.figures import Bound, Figure, Measured
from tests.bench.measuring import Bench
from tests.bench.stores import best_couch

__all__ = ["run"]

NAME = "failover"


def run(bench: Bench) -> None:
    """Kill and stop leaders on CouchDB's protocol."""
    with bench.opened(best_couch()) as (stores, folder):
        measured = measure(folder, stores.documents, bench.scale.failover_rounds, on_change=lambda *_: None)
    for kind, limit in TARGET_SECONDS.items():
        seconds = tuple(change.offer_seconds for change in measured.changes if change.kind == kind)
        figure = Measured(f"{kind} until the next leader's first offer", "s", seconds)
        target = Bound("each change", limit, every=True)
        bench.results.figures.append(Figure(NAME, stores.name, figure, (), (target,)))
    bench.results.notes.extend(f"{NAME}: {miss}" for miss in misses(measured, TARGET_SECONDS))
