"""How long an attempt stands still whose worker died between claim and start, while leaders keep changing.

usage: python -m tests.bench.failover_storm [SECONDS]

Nodes with default settings on CouchDB's protocol, each behind a gate, and jobs that are due every second. As
soon as a leader has led for some seconds it is ended, by SIGKILL and by SIGTERM in turn. Meanwhile one worker
after the other, never the leader, is killed when the store has taken its claims and the answer is on its way.
Whoever was ended is started again after two seconds, as by its unit. Exits 1 when a target is missed."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.failover import LEASE, FirstOffers, status_of, whole
from tests.bench.failover_load import Account, Load, Mark, Records, settled_account
from tests.bench.failover_report import describe_machine, figures, percentile, write_json
from tests.bench.stores import own_databases
from tests.conftest import COUCHDB_VARIABLE
from tests.couchdb_server import CouchServer
from tests.system.cluster import STOP_SECONDS, Cluster, NodeProcess, wait_for
from tests.system.gates import Gate, Step, a_claim, stand_before_store

DEFAULT_SECONDS = 120.0
NODES = 4
JOBS = 6
TARGET_SECONDS = 20.0
LED_SECONDS = (2.0, 4.0)
RESTART_SECONDS = 2.0
"""As in the unit that the role installs."""
PAUSE_SECONDS = (2.0, 5.0)
"""Between two workers that die."""
LOOK_SECONDS = 0.2
WHOLE_SECONDS = 90.0
RESULTS = Path("bench/results")
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@dataclass(frozen=True)
class Death:
    """A claim whose worker was killed before it could start it. `died_at` is Unix time."""

    node_id: str
    execution_id: str
    token: str
    died_at: float
    followed_at: float | None = None
    """When the next attempt was claimed; None when none was, or the claim had not won."""

    @property
    def stood_still_seconds(self) -> float:
        """From the death to the next claim."""
        return (self.followed_at or float("inf")) - self.died_at


@dataclass
class Stormed:
    """All of one run."""

    seconds: float
    leaders_ended: int
    deaths: Sequence[Death]
    account: Account
    machine: object
    misses: list[str] = field(default_factory=list)


class Storm:
    """Ends nodes and starts them again; nobody else may do so meanwhile."""

    def __init__(self, cluster: Cluster, gates: dict[str, Gate]) -> None:
        self._cluster = cluster
        self._gates = gates
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._restarts: list[threading.Thread] = []
        self.deaths: list[Death] = []
        self.leaders_ended = 0

    def rage(self, seconds: float) -> None:
        """Go on for so long, then have all nodes up."""
        killer = threading.Thread(target=self._kill_claimants)
        killer.start()
        deadline, term = time.monotonic() + seconds, 0
        for number in itertools.cycle(SIGNALS):
            leader, term = self._next_leader(term, deadline)
            if leader is None:
                break
            time.sleep(random.uniform(*LED_SECONDS))
            self.leaders_ended += self._end(leader, number)
        self._over.set()
        killer.join()
        for restart in self._restarts:
            restart.join()

    def _next_leader(self, term: int, deadline: float) -> tuple[NodeProcess | None, int]:
        """Who leads a newer term, and that; None once the time is over."""
        while time.monotonic() < deadline:
            for node in self._cluster.answering():
                view = status_of(node)
                if view is not None and view.leader_id and view.term > term:
                    return self._cluster.node(view.leader_id), view.term
            time.sleep(LOOK_SECONDS)
        return None, term

    def _end(self, node: NodeProcess, number: signal.Signals) -> bool:
        """End a node that runs, and have it started again; False when another one ended it just now."""
        with self._lock:
            if node.away:
                return False
            node.away = True
        node.signal(number)
        node.process.wait(STOP_SECONDS)
        restart = threading.Thread(target=self._start_later, args=(node,))
        self._restarts.append(restart)
        restart.start()
        return True

    def _start_later(self, node: NodeProcess) -> None:
        time.sleep(RESTART_SECONDS)
        node.start()
        wait_for(f"{node.id} serves", lambda: status_of(node), WHOLE_SECONDS)
        node.away = False

    def _kill_claimants(self) -> None:
        for node in itertools.cycle(random.sample(self._cluster.nodes, NODES)):
            if self._over.wait(random.uniform(*PAUSE_SECONDS)):
                return
            if not node.away:
                self._kill_at_claim(node)

    def _kill_at_claim(self, node: NodeProcess) -> None:
        hold = self._gates[node.id].hold(a_claim, Step.NOT_ANSWERED)
        while not hold.is_reached(LOOK_SECONDS):
            if self._over.is_set() or node.away:
                hold.let_go()
                return
        view = status_of(node)
        if view is None or view.leader_id == node.id:
            # Leaders have their own end, once they have led for a while.
            hold.let_go()
            return
        died_at = time.time()
        if self._end(node, signal.SIGKILL) and hold.request is not None:
            for claim in hold.request.documents:
                self.deaths.append(Death(node.id, claim["_id"], claim["token"], died_at))
        hold.drop()


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_SECONDS
    folder = Path(tempfile.mkdtemp(prefix="dcron-storm-"))
    # Said first: it stays when a target is missed or the run breaks off.
    print(f"logs of the nodes: {folder}", flush=True)
    with ExitStack() as stack:
        if shared_url := os.environ.get(COUCHDB_VARIABLE):
            store_url = stack.enter_context(own_databases(shared_url))
        else:
            store_url = stack.enter_context(CouchServer(folder / "couchdb")).url
        stormed = measure(folder, store_url, seconds)
    print_storm(stormed)
    print(f"all figures: {write_json(stormed, RESULTS, 'failover-storm')}")
    for each in stormed.misses:
        print(f"MISSED: {each}")
    if stormed.misses:
        sys.exit(1)
    shutil.rmtree(folder)


def measure(folder: Path, store_url: str, seconds: float) -> Stormed:
    """One storm, on a cluster of its own."""
    objects_url = (folder / "objects").as_uri()
    machine = describe_machine(store_url, objects_url)
    environment = {"DCRON_LOG_FORMAT": "json"}
    cluster = Cluster(
        folder, store_url, objects_url, environment, nodes=NODES, lease_seconds=LEASE.length_seconds
    )
    gates = {node.id: stand_before_store(node) for node in cluster.nodes}
    offers = FirstOffers([node.log for node in cluster.nodes])
    load = Load(cluster, JOBS)
    storm = Storm(cluster, gates)
    try:
        cluster.start()
        load.register()
        storm.rage(seconds)
        wait_for("a whole cluster", lambda: whole(cluster, offers), WHOLE_SECONDS)
        ended_at = datetime.now(UTC)
        wait_for("all jobs go on", lambda: load.has_caught_up(ended_at), WHOLE_SECONDS)
        watched = load.pause()
        wait_for("everything settled", load.is_idle, WHOLE_SECONDS)
    finally:
        cluster.stop()
        for gate in gates.values():
            gate.close()
    marks = load.marks()
    account, records = settled_account(cluster.store_url, watched, load.asked, marks)
    stormed = Stormed(seconds, storm.leaders_ended, followed(storm.deaths, marks, records), account, machine)
    stormed.misses = misses(stormed)
    return stormed


def followed(deaths: Sequence[Death], marks: Sequence[Mark], records: Records) -> list[Death]:
    """Those whose claim had won and whose script never started, each with the claim of the next attempt. All
    nodes have this machine's clock."""
    started = {mark.execution_id for mark in marks}
    found = []
    for death in deaths:
        claim = records.claims.get(death.execution_id)
        if claim is None or claim.token != death.token or death.execution_id in started:
            continue
        occurrence, _, attempt = death.execution_id.rpartition(":")
        following = records.claims.get(f"{occurrence}:{int(attempt) + 1:03d}")
        followed_at = following.claimed_at.timestamp() if following else None
        found.append(
            Death(death.node_id, death.execution_id, death.token, death.died_at, followed_at=followed_at)
        )
    return found


def misses(stormed: Stormed) -> list[str]:
    """What is not as it should be, in words."""
    slow = [each for each in stormed.deaths if each.stood_still_seconds > TARGET_SECONDS]
    found = [
        f"{each.execution_id} stood still for {each.stood_still_seconds:.2f} s after {each.node_id} died"
        for each in slow
    ]
    if not stormed.deaths or not stormed.leaders_ended:
        found.append("no worker died between claim and start, or no leader was ended")
    for word, occurrences in (("lost", stormed.account.lost), ("doubled", stormed.account.doubled)):
        if occurrences:
            found.append(f"{len(occurrences)} occurrences {word}: {', '.join(occurrences)}")
    return found


def print_storm(stormed: Stormed) -> None:
    """The table."""
    seconds = [each.stood_still_seconds for each in stormed.deaths]
    print(f"\nA storm of {stormed.seconds:g} s: {NODES} nodes, {JOBS} jobs due each second, ", end="")
    print(f"{stormed.leaders_ended} leaders ended")
    print(f"{'seconds from the death of a worker to the':46}{'n':>5}{'min':>7}{'p50':>7}{'p95':>7}{'max':>7}")
    print(f"{'claim of the next attempt':46}{figures(seconds)}   (target {TARGET_SECONDS:g})")
    if seconds:
        print(f"p99 {percentile(seconds, 99):.2f} s")
    account = stormed.account
    coalesced = ", ".join(f"{count} {reason}" for reason, count in sorted(account.skipped.items()))
    print(f"occurrences: {account.due} due, {account.started} started, {coalesced or '0 coalesced'}")
    print(f"lost: {len(account.lost)}, doubled: {len(account.doubled)}")


if __name__ == "__main__":
    main()
