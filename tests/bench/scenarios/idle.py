"""A cluster that has nothing to do: what it takes of the processor and asks of the document store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.counting_proxy import CountingProxy, Traffic
from tests.bench.figures import Bound, Figure, Measured
from tests.bench.measuring import FAR, Bench, Marks, cluster_on, seeded, serving, uploaded
from tests.bench.processes import cpu_seconds, node_pids
from tests.bench.stores import OpenStores, Stores, long_pairs
from tests.system.cluster import Cluster

__all__ = ["run"]

NAME = "idle cluster"
SETTLE_SECONDS = 3.0
MOST = {"%": 1.0, "/s": 2.0}
"""By unit."""


def run(bench: Bench) -> None:
    """Watch every pair of stores."""
    for open_stores in long_pairs(bench.scale.kinds):
        _measure(bench, open_stores)


def _measure(bench: Bench, open_stores: OpenStores) -> None:
    seconds = bench.scale.idle_seconds
    with bench.opened(open_stores) as (stores, folder):
        cluster = cluster_on(folder, stores)
        seeded(cluster, "idle", bench.scale.idle_jobs, uploaded(stores, Marks(folder).script), FAR)
        with _proxied(cluster) as traffic, serving(cluster):
            time.sleep(SETTLE_SECONDS)
            pids = [node_pids(node) for node in cluster.nodes]
            requests_before = [each.requests.copy() for each in traffic]
            cpu_before = [cpu_seconds(each) for each in pids]
            time.sleep(seconds)
            cpu = [cpu_seconds(each) - before for each, before in zip(pids, cpu_before, strict=True)]
            requests = [each.requests - before for each, before in zip(traffic, requests_before, strict=True)]
    _report(bench, stores, "CPU of a node, of one core", "%", [100 * each / seconds for each in cpu])
    if requests:
        _report(bench, stores, "requests of a node", "/s", [each.total() / seconds for each in requests])
        busiest = max(requests, key=Counter.total)
        bench.results.notes.append(f"{NAME}, {stores.name}: the leader asks {_most_common(busiest, seconds)}")


def _report(bench: Bench, stores: Stores, name: str, unit: str, values: list[float]) -> None:
    """A value for each node instead of each run: the leader does more than the others."""
    target = Bound("each node", MOST[unit], every=True)
    bench.results.figures.append(
        Figure(NAME, stores.name, Measured(name, unit, tuple(values)), (), (target,))
    )


def _most_common(requests: Counter[tuple[str, str]], seconds: float) -> str:
    """Requests by database, without its prefix, and kind; the most frequent first."""
    named = ((f"{database.partition('-')[2]}/{kind}", n) for (database, kind), n in requests.most_common())
    return ", ".join(f"{name} {n / seconds:.2g}/s" for name, n in named)


@contextmanager
def _proxied(cluster: Cluster) -> Iterator[list[Traffic]]:
    """Each node's requests to CouchDB go through a port of its own; nothing to count for SQLite."""
    if cluster.store_url.startswith("sqlite:"):
        yield []
        return
    with CountingProxy(cluster.store_url, len(cluster.nodes)) as proxy:
        for number, node in enumerate(cluster.nodes):
            node.environment["DCRON_STORE"] = proxy.url(number)
        yield proxy.traffic
