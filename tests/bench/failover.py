"""How long a change of leaders takes, and whether it loses or doubles anything.

usage: python -m tests.bench.failover [ROUNDS]

Three nodes with default settings on CouchDB's protocol, and jobs that are due every second. In each round
the leader is ended by SIGKILL, the next one by SIGTERM, and started again. A change ends with the line that
the next leader logs with its first offer; beside it stands when a script really started, by its own mark.
Exits 1 when a target is missed. `DCRON_TEST_COUCHDB_URL` names a CouchDB; without it pouchdb-server stands
in."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dcron.domain.leadership import Lease
from dcron.rpc import dcron_pb2 as pb
from dcron.rpc.dcron_pb2_grpc import PublicStub
from tests.bench.failover_load import Load, Mark, Records, settled_account
from tests.bench.failover_report import (
    Change,
    Measured,
    describe_machine,
    misses,
    print_report,
    write_results,
)
from tests.bench.stores import own_databases
from tests.conftest import COUCHDB_VARIABLE
from tests.couchdb_server import CouchServer
from tests.system.cluster import STOP_SECONDS, Cluster, NodeProcess, wait_for

DEFAULT_ROUNDS = 100
JOBS = 10
LEASE = Lease()
SIGNALS = {"SIGKILL": signal.SIGKILL, "clean stop": signal.SIGTERM}
TARGET_SECONDS = {"SIGKILL": 10.0, "clean stop": 1.0}
RESULTS = Path("bench/results")
ASK_SECONDS = 2.0
WHOLE_SECONDS = 60.0
"""How long the cluster may take to be whole, or to have settled what was due."""
OFFER_SECONDS = 60.0
"""When no leader has offered anything after this long, the run is over."""
WHOLE_TRIES = 10
ASKS = 4
ASK_AGAIN_SECONDS = 0.2
"""Runs that are asked for right after a stop: else the next leader may have to wait up to a second for
something to offer. The first may still be taken up by a leader that is about to stop."""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_ROUNDS
    folder = Path(tempfile.mkdtemp(prefix="dcron-failover-"))
    # Said first: it stays when a target is missed or the run breaks off.
    print(f"logs of the nodes: {folder}")
    with ExitStack() as stack:
        if shared_url := os.environ.get(COUCHDB_VARIABLE):
            store_url = stack.enter_context(own_databases(shared_url))
        else:
            store_url = stack.enter_context(CouchServer(folder / "couchdb")).url
        measured = measure(folder, store_url, rounds, on_change=print_change)
    print_report(measured, TARGET_SECONDS)
    print(f"all figures: {write_results(measured, RESULTS)}")
    missed = misses(measured, TARGET_SECONDS)
    for each in missed:
        print(f"MISSED: {each}")
    if missed:
        sys.exit(1)
    shutil.rmtree(folder)


def print_change(number: int, change: Change) -> None:
    print(f"{number:4} {change.kind:10} term {change.term:4}: {change.offer_seconds:6.2f} s", flush=True)


def measure(
    folder: Path, store_url: str, rounds: int, *, on_change: Callable[[int, Change], None]
) -> Measured:
    """So many rounds of each kind, on a cluster of its own."""
    objects_url = (folder / "objects").as_uri()
    machine = describe_machine(store_url, objects_url)
    cluster = Cluster(
        folder, store_url, objects_url, {"DCRON_LOG_FORMAT": "json"}, lease_seconds=LEASE.length_seconds
    )
    offers = FirstOffers([node.log for node in cluster.nodes])
    load = Load(cluster, JOBS)
    changes = []
    try:
        cluster.start()
        load.register()
        for number in range(1, rounds + 1):
            for kind in SIGNALS:
                changes.append(change_leader(cluster, offers, load, kind))
                on_change(number, changes[-1])
        wait_for("a whole cluster", lambda: whole(cluster, offers), WHOLE_SECONDS)
        ended_at = datetime.now(UTC)
        wait_for("all jobs go on", lambda: load.has_caught_up(ended_at), WHOLE_SECONDS)
        watched = load.pause()
        wait_for("everything settled", load.is_idle, WHOLE_SECONDS)
    finally:
        cluster.stop()
    marks = load.marks()
    account, records = settled_account(cluster.store_url, watched, load.asked, marks)
    return Measured(
        jobs=JOBS,
        lease_seconds=LEASE.length_seconds,
        changes=with_starts(changes, marks, records),
        unforced=offers.count() - 1 - len(changes),
        account=account,
        machine=machine,
    )


def change_leader(cluster: Cluster, offers: FirstOffers, load: Load, kind: str) -> Change:
    """One round: stop the leader, wait for the next one's first offer, start the node again."""
    leader, term = whole_at_a_random_time(cluster, offers)
    follower = next(node for node in cluster.nodes if node is not leader)
    stopped_at = time.time()
    leader.signal(SIGNALS[kind])
    for number in range(ASKS):
        wait_until(stopped_at + number * ASK_AGAIN_SECONDS)
        load.ask(follower)
    next_term, offered_at = wait_for("an offer of another leader", lambda: offers.after(term), OFFER_SECONDS)
    exit_code = leader.process.wait(STOP_SECONDS)
    assert exit_code == (-signal.SIGKILL if kind == "SIGKILL" else 0), f"{leader.id} exited with {exit_code}"
    leader.start()
    return Change(kind, next_term, stopped_at, offered_at)


def wait_until(at: float) -> None:
    time.sleep(max(at - time.time(), 0.0))


def whole_at_a_random_time(cluster: Cluster, offers: FirstOffers) -> tuple[NodeProcess, int]:
    """The leader and its term. Between its renewals, not always at the same distance from one."""
    for _ in range(WHOLE_TRIES):
        leads = wait_for("a whole cluster", lambda: whole(cluster, offers), WHOLE_SECONDS)
        time.sleep(random.uniform(0.0, LEASE.renewal_seconds))
        if whole(cluster, offers) == leads:
            return leads
    raise AssertionError("leaders change all the time, though nobody stops them")


def whole(cluster: Cluster, offers: FirstOffers) -> tuple[NodeProcess, int] | None:
    """The leader and its term, once all nodes serve, agree on it, are alive to it, and it has offered."""
    views = [status_of(node) for node in cluster.nodes]
    agreed = {(view.leader_id, view.term) if view else ("", 0) for view in views}
    if len(agreed) != 1:
        return None
    [(leader_id, term)] = agreed
    if not leader_id or not offers.in_term(term):
        return None
    leader = cluster.node(leader_id)
    view = views[cluster.nodes.index(leader)]
    return (leader, term) if view and all(node.alive for node in view.nodes) else None


def status_of(node: NodeProcess) -> pb.ClusterStatus | None:
    """What a node says of the cluster; None while it does not serve."""
    with grpc.insecure_channel(node.address) as channel:
        try:
            health = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=ASK_SECONDS
            )
            if health.status != health_pb2.HealthCheckResponse.SERVING:
                return None
            return PublicStub(channel).GetClusterStatus(pb.GetClusterStatusRequest(), timeout=ASK_SECONDS)
        except grpc.RpcError:
            return None


def with_starts(changes: Sequence[Change], marks: Sequence[Mark], records: Records) -> list[Change]:
    """The changes, each with the first start of a script that was claimed in its term."""
    first: dict[int, float] = {}
    for mark in sorted(marks, key=lambda mark: mark.at):
        claim = records.claims.get(mark.execution_id)
        if claim is not None:
            first.setdefault(claim.term, mark.at)
    return [replace(change, started_at=first.get(change.term)) for change in changes]


class FirstOffers:
    """When the first offer of each term was made, as the leader logged it."""

    def __init__(self, logs: Sequence[Path]) -> None:
        self._offsets = dict.fromkeys(logs, 0)
        self._made_at: dict[int, float] = {}

    def count(self) -> int:
        """In how many terms something was offered."""
        self._look()
        return len(self._made_at)

    def in_term(self, term: int) -> float | None:
        """When it was made, by Unix time; None when it was not yet."""
        self._look()
        return self._made_at.get(term)

    def after(self, term: int) -> tuple[int, float] | None:
        """The next term with an offer, and when that was made."""
        self._look()
        later = [each for each in self._made_at if each > term]
        return (min(later), self._made_at[min(later)]) if later else None

    def _look(self) -> None:
        for path, offset in self._offsets.items():
            if not path.exists():
                continue
            with path.open("rb") as log:
                log.seek(offset)
                data = log.read()
            lines = data[: data.rfind(b"\n") + 1]
            self._offsets[path] = offset + len(lines)
            for line in lines.splitlines():
                if b'"action": "first_offer"' in line:
                    entry = json.loads(line)
                    at = datetime.fromisoformat(entry["timestamp"]).timestamp()
                    self._made_at.setdefault(entry["term"], at)


if __name__ == "__main__":
    main()
