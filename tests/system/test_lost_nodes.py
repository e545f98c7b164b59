"""Workers that die, hang or overrun while they run scripts."""

from __future__ import annotations

import signal

from tests.system.cluster import started, wait_for


def test_a_script_outlives_its_killed_node_and_its_true_exit_code_is_recorded(cluster, tmp_path):
    gate = tmp_path / "gate"
    worker = cluster.nodes[1]
    cluster.create(
        "long", f"echo began; until [ -e {gate} ]; do sleep 0.1; done; echo ended; exit 7",
        "--schedule", "0 0 1 1 *", "--label", f"host={worker.id}",
    )  # fmt: skip
    cluster.do("job", "run", "long")
    execution = wait_for("it runs", lambda: cluster.executions("long", state="running"))[0]

    worker.kill()
    gate.touch()
    worker.start()
    [ended] = cluster.settled("long")

    assert (ended["id"], ended["state"], ended["exitCode"]) == (execution["id"], "FAILED", 7)
    log = cluster.cli("execution", "log", ended["id"])
    assert log.stdout == b"began\nended\n"
    assert log.returncode == 7


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
    claimant.signal(signal.SIGSTOP)
    try:
        others = [node for node in cluster.nodes if node is not claimant]
        wait_for("a second start", lambda: len(started(marks)) == 4, 60)
        lines = marks.read_text().splitlines()
        assert lines[0] == f"{claimant.id} 1"
        assert lines[1] in {f"{node.id} 2" for node in others}
    finally:
        claimant.signal(signal.SIGCONT)

    # The late true outcome of the first attempt is kept beside that of the second.
    found = wait_for(
        "both outcomes",
        lambda: {
            each["attempt"]: each["state"]
            for each in cluster.executions("stuck")
            if each["state"] != "RUNNING"
        }.keys() == {1, 2} and cluster.executions("stuck"),
        30,
    )  # fmt: skip
    assert {each["attempt"]: each["state"] for each in found} == {1: "TIMED_OUT", 2: "SUCCEEDED"}


def test_a_timeout_stops_all_that_the_script_left_and_retries_elsewhere(cluster, tmp_path):
    marks = tmp_path / "nodes"
    cluster.create(
        "slow", f"echo $DCRON_NODE >> {marks}; trap '' TERM; (setsid sleep 601 &) ; sleep 602",
        "--schedule", "0 0 1 1 *", "--timeout", "1s", "--grace", "1s", "--max-attempts", "2",
    )  # fmt: skip
    cluster.do("job", "run", "slow")

    ended = cluster.settled("slow", 2)

    assert [each["state"] for each in ended] == ["TIMED_OUT", "TIMED_OUT"]
    nodes = marks.read_text().split()
    assert len(set(nodes)) == 2, "the second attempt goes to another node"
    assert cluster.ask("job", "show", "slow")["last"]["state"] == "TIMED_OUT"
