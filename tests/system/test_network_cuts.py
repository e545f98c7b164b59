"""Links between nodes and stores are cut: no packet passes, and nobody is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.object_stores import S3Access
from tests.system.accounting import Ledger, now
from tests.system.cluster import Cluster, NodeProcess, at, serving, wait_for
from tests.system.gates import GatedCluster
from tests.system.namespaces import Link, Network, NetworkUnavailable

pytestmark = pytest.mark.timeout(240)

PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
UNDER_WAY = timedelta(seconds=1)
"""What was sent before a cut has arrived after so long, or never will."""


@pytest.fixture
def apart(
    tmp_path: Path, couch_url: str, s3: S3Access, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[GatedCluster, Network]]:
    """Three nodes, each in a network namespace of its own."""
    for name in PROXIES:
        for variable in (name, name.upper()):
            monkeypatch.delenv(variable, raising=False)
    cluster = Cluster(tmp_path, couch_url, s3.url, s3.environment)
    try:
        network = Network([node.id for node in cluster.nodes])
    except NetworkUnavailable as reason:
        pytest.skip(str(reason))
    try:
        gates = GatedCluster(cluster, network.machine_address)
        for node in cluster.nodes:
            network.settle(node)
        try:
            with serving(cluster):
                yield gates, network
        finally:
            gates.close()
    finally:
        network.close()


def test_a_worker_cut_off_from_the_other_nodes_gets_nothing_and_they_do_its_share(apart, tmp_path):
    # Given jobs that run everywhere,
    gates, network = apart
    cluster = gates.cluster
    ledger = Ledger.open(cluster, tmp_path / "starts", ["a", "b", "c", "d"])
    worker = gates.worker()
    wait_for("the worker has its share", lambda: runs_of(ledger, worker))

    # when a worker loses its link to the other nodes, and keeps that to the stores,
    network.cut(worker.id, Link.PEERS)
    cut_at = now()
    ledger.goes_on()

    # then the others run all that falls due, while it is alive and gets nothing;
    assert [each for each in runs_of(ledger, worker) if at(each["scheduledAt"]) > cut_at + UNDER_WAY] == []
    assert worker.id in cluster.alive()

    # and once the link is back, it has its share again.
    network.mend(worker.id, Link.PEERS)
    mended_at = now()
    wait_for(
        "its share again",
        lambda: [each for each in runs_of(ledger, worker) if at(each["scheduledAt"]) > mended_at],
        60,
    )
    ledger.close()


def test_a_leader_cut_off_from_the_store_steps_down_and_another_one_goes_on(apart, tmp_path):
    # Given jobs that run everywhere,
    gates, network = apart
    cluster = gates.cluster
    ledger = Ledger.open(cluster, tmp_path / "starts", ["a", "b", "c", "d"], period_seconds=3)
    ledger.goes_on()
    leader = cluster.leader()
    ledger.sleep_until_due(1.5)  # what has started by then has ended, too

    # when the leader loses its link to the stores, and keeps that to the other nodes,
    network.cut(leader.id, Link.STORES)
    leader.away = True

    # then it stops leading by itself, another one leads, and all jobs go on;
    wait_for("it steps down", lambda: "stops leading" in leader.tail())
    wait_for("another leader", lambda: cluster.leader_id() not in {"", leader.id})
    ledger.goes_on()

    # and once the link is back, it follows.
    network.mend(leader.id, Link.STORES)
    cluster.wait_ready(leader)
    wait_for("it follows", lambda: cluster.leader_id(via=[leader]) not in {"", leader.id})
    ledger.close()


def test_what_a_worker_cut_off_from_everything_ran_is_repeated_elsewhere_and_its_late_outcome_kept(
    apart, tmp_path
):
    # Given a script that runs on some node and has a timeout,
    gates, network = apart
    cluster = gates.cluster
    gate = tmp_path / "gate"
    first_only = f"until [ -e {gate} ]; do sleep 0.1; done; echo late; exit 5"
    cluster.create(
        "job", f'[ "$DCRON_ATTEMPT" = 2 ] || {{ {first_only}; }}',
        "--schedule", "@yearly", "--timeout", "4s", "--grace", "1s",
    )  # fmt: skip
    cluster.do("job", "run", "job")
    claimant_id = wait_for("it runs", lambda: cluster.records("job"))[0]["nodeId"]
    claimant = cluster.node(claimant_id)

    # when its node is cut off from everything, and the script ends by itself,
    network.cut(claimant.id, Link.PEERS, Link.STORES)
    claimant.away = True
    gate.touch()

    # then the next attempt runs on another node once the timeout has passed in silence;
    second = wait_for("the next attempt", lambda: attempt_of(cluster, 2), 60)
    assert (second["state"], second["nodeId"] != claimant.id) == ("EXECUTION_STATE_SUCCEEDED", True)
    assert attempt_of(cluster, 1) is None

    # and once the node is back, what its script really did is kept beside it, log and all.
    network.mend(claimant.id, Link.PEERS, Link.STORES)
    first = wait_for("the late outcome", lambda: attempt_of(cluster, 1), 60)
    assert (first["state"], first["exitCode"], first["nodeId"]) == ("EXECUTION_STATE_FAILED", 5, claimant.id)
    wait_for("its log", lambda: cluster.cli("execution", "log", first["id"]).stdout == b"late\n")
    assert cluster.ask("job", "show", "job")["last"]["state"] == "EXECUTION_STATE_SUCCEEDED"


def runs_of(ledger: Ledger, node: NodeProcess) -> list[Any]:
    """What a node has run."""
    records = [each for job in ledger.jobs for each in ledger.cluster.records(job)]
    return [each for each in records if each["nodeId"] == node.id]


def attempt_of(cluster: Cluster, number: int) -> Any:
    """An attempt that has ended; None before."""
    return next(
        (
            each
            for each in cluster.records("job")
            if each["attempt"] == number and each["state"] != "EXECUTION_STATE_RUNNING"
        ),
        None,
    )
