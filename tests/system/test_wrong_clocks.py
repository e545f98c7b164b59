"""Wall clocks that are set wrong while a node leads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.object_stores import S3Access
from tests.system.accounting import Ledger
from tests.system.cluster import Cluster, NodeProcess, serving, wait_for
from tests.system.wall_clocks import ClockUnavailable, SettableClock, build_shim

HOUR_SECONDS = 3600


@pytest.fixture
def clocks(
    tmp_path: Path, couch_url: str, s3: S3Access
) -> Iterator[tuple[Cluster, dict[str, SettableClock]]]:
    """Three nodes, each with a wall clock of its own that the test may set."""
    try:
        shim = build_shim(tmp_path)
    except ClockUnavailable as reason:
        pytest.skip(str(reason))
    cluster = Cluster(tmp_path, couch_url, s3.url, s3.environment)
    settable = {node.id: SettableClock(node, shim, tmp_path) for node in cluster.nodes}
    with serving(cluster):
        yield cluster, settable


@pytest.mark.timeout(240)
@pytest.mark.parametrize("offset_seconds", [HOUR_SECONDS, -HOUR_SECONDS], ids=["ahead", "behind"])
def test_a_leader_whose_clock_is_set_an_hour_off_stops_leading_says_so_and_the_schedule_goes_on(
    clocks, tmp_path, offset_seconds
):
    # Given jobs that run everywhere, and one that only the leader's node may run,
    cluster, clock = clocks
    leader = cluster.leader()
    ledger = Ledger.open(cluster, tmp_path / "starts", ["a", "b", "c"])
    bound = Ledger.open(
        cluster, tmp_path / "bound", ["bound"], "--label", f"host={leader.id}", then="echo done"
    )
    ledger.goes_on()
    bound.goes_on()

    # when its clock is set an hour off,
    clock[leader.id].set(offset_seconds)

    # then another node leads and the schedule goes on;
    others = [node for node in cluster.nodes if node is not leader]
    wait_for("another leader", lambda: cluster.leader_id(via=others) not in {"", leader.id})
    leader.away = True  # what it would say of instants is wrong
    ledger.goes_on()
    # whoever is asked says why that node does not lead;
    # (the store tells its time in whole seconds, and up to a second late)
    reasons = {
        f"its clock is {offset_seconds + rounded:+} s off the store's; set it (chrony, ntp)"
        for rounded in (-1, 0, 1, 2)
    }
    for node in cluster.nodes:
        wait_for("the reason", lambda node=node: reasons & {*warnings_of(cluster, leader, via=node)})
    # and what it runs meanwhile is recorded.
    bound.goes_on()

    # When the clock is right again, then nothing is wrong any more, and all logs arrive.
    clock[leader.id].set(0)
    wait_for("no warning", lambda: not warnings_of(cluster, leader, via=others[0]), 90)
    ledger.close()
    bound.close()
    for each in cluster.records("bound"):
        if each["state"] == "EXECUTION_STATE_SUCCEEDED":
            assert cluster.do("execution", "log", each["id"]) == "done\n"


def warnings_of(cluster: Cluster, node: NodeProcess, via: NodeProcess) -> list[str]:
    """What people are told of a node, through some node."""
    found = cluster.status(via=[via])["nodes"]
    return next(each["warnings"] for each in found if each["id"] == node.id)
