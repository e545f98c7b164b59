"""Workers that die, hang or overrun while they run scripts."""

from __future__ import annotations

import signal

import pytest

from tests.system.accounting import Ledger
from tests.system.cluster import started, wait_for


def test_after_a_timeout_passed_in_silence_the_next_attempt_runs_on_another_node(cluster, tmp_path):
    marks = tmp_path / "starts"
    cluster.create(
        "stuck", f'echo "$DCRON_NODE $DCRON_ATTEMPT" >> {marks}; [ "$DCRON_ATTEMPT" = 2 ] || exec sleep 600',
        "--schedule", "0 0 1 1 *", "--timeout", "2s", "--grace", "1s",
    )  # fmt: skip
    cluster.do("job", "run", "stuck")
    claimant = cluster.node(
        wait_for("it runs", lambda: cluster.executions("stuck", state="running"))[0]["nodeId"]
    )
    claimant.pause()
    try:
        others = [node for node in cluster.nodes if node is not claimant]
        wait_for("a second start", lambda: len(started(marks)) == 4, 60)
        lines = marks.read_text().splitlines()
        assert lines[0] == f"{claimant.id} 1"
        assert lines[1] in {f"{node.id} 2" for node in others}
    finally:
        claimant.resume()

    # The late true outcome of the first attempt is kept beside that of the second.
    found = wait_for(
        "both outcomes",
        lambda: {
            each["attempt"]: each["state"]
            for each in cluster.executions("stuck")
            if each["state"] != "EXECUTION_STATE_RUNNING"
        }.keys() == {1, 2} and cluster.executions("stuck"),
        30,
    )  # fmt: skip
    assert {each["attempt"]: each["state"] for each in found} == {
        1: "EXECUTION_STATE_TIMED_OUT",
        2: "EXECUTION_STATE_SUCCEEDED",
    }


def test_a_timeout_stops_all_that_the_script_left_and_retries_elsewhere(cluster, tmp_path):
    marks = tmp_path / "nodes"
    cluster.create(
        "slow", f"echo $DCRON_NODE >> {marks}; trap '' TERM; (setsid sleep 601 &) ; sleep 602",
        "--schedule", "0 0 1 1 *", "--timeout", "1s", "--grace", "1s", "--max-attempts", "2",
    )  # fmt: skip
    cluster.do("job", "run", "slow")

    ended = cluster.settled("slow", 2)

    assert [each["state"] for each in ended] == ["EXECUTION_STATE_TIMED_OUT", "EXECUTION_STATE_TIMED_OUT"]
    nodes = marks.read_text().split()
    assert len(set(nodes)) == 2, "the second attempt goes to another node"
    assert cluster.ask("job", "show", "slow")["last"]["state"] == "EXECUTION_STATE_TIMED_OUT"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("after_seconds", [-1.0, 0.1], ids=["launched ahead", "starting"])
def test_all_nodes_are_killed_at_once_and_nothing_due_is_lost_or_doubled(cluster, tmp_path, after_seconds):
    # Given many short jobs, and some whose scripts run longer than the nodes will,
    short = Ledger.open(cluster, tmp_path / "short", [f"short{number:02}" for number in range(1, 21)])
    long = Ledger.open(
        cluster, tmp_path / "long", ["long1", "long2", "long3"],
        period_seconds=5, then="sleep 4; echo whole; exit 3", end="EXECUTION_STATE_FAILED",
    )  # fmt: skip
    wait_for("the long scripts run", lambda: len(long.starts()) >= 3)

    # when all nodes are killed while the short ones are launched or start, are away for a while,
    short.sleep_until_due(after_seconds)
    for node in cluster.nodes:
        node.signal(signal.SIGKILL)
    long.sleep_until_due()
    long.sleep_until_due()
    for node in cluster.nodes:
        node.process.wait()
        node.start()

    # then all is made up for, once, and the scripts that went on are recorded with what they did.
    running = list(long.starts())
    short.close()
    long.close()
    for execution_id in running:
        assert cluster.cli("execution", "log", execution_id).stdout == b"whole\n"
