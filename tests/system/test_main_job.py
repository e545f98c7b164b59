"""The main job on a CouchDB-protocol server and an S3 server: any client, any node."""

from __future__ import annotations

from tests.system.cluster import at, wait_for


def test_a_job_registered_through_one_node_runs_on_another_and_its_log_is_read_through_a_third(
    shared_cluster,
):
    first, second, third = shared_cluster.nodes

    shared_cluster.create(
        "hello", 'echo "said by $DCRON_NODE to $1, $GREETING"', "--schedule", "* * * * * *",
        "--label", f"host={second.id}", "--arg", "you", "--env", "GREETING=hej", via=[first],
    )  # fmt: skip
    execution = shared_cluster.settled("hello")[0]
    shared_cluster.do("job", "delete", "hello", "--yes")

    assert execution["nodeId"] == second.id
    assert execution["state"] == "EXECUTION_STATE_SUCCEEDED"
    assert execution["exitCode"] == 0
    log = shared_cluster.cli("execution", "log", execution["id"], via=[third])
    assert log.stdout.decode() == f"said by {second.id} to you, hej\n"
    assert log.returncode == 0


def test_a_run_longer_than_its_period_delays_the_next_and_names_what_is_coalesced(shared_cluster):
    shared_cluster.create("overlong", "sleep 3", "--schedule", "* * * * * *")

    ended = sorted(shared_cluster.settled("overlong", 2), key=lambda each: each["scheduledAt"])
    shared_cluster.do("job", "pause", "overlong")

    first, second = ended[:2]
    assert at(second["startedAt"]) >= at(first["finishedAt"])
    assert int(second["occurrenceCount"]) >= 1
    skipped = [
        each
        for each in shared_cluster.executions("overlong")
        if each["skipReason"] == "SKIP_REASON_COALESCED"
    ]
    assert any(at(each["scheduledAt"]) > at(second["scheduledAt"]) for each in skipped)


def test_a_live_log_is_followed_through_any_node_and_the_execution_cancelled(shared_cluster):
    shared_cluster.create(
        "live", "echo first; sleep 600", "--schedule", "0 0 1 1 *", "--timeout", "1h", "--grace", "1s"
    )
    shared_cluster.do("job", "run", "live")
    execution = wait_for("it runs", lambda: shared_cluster.executions("live", state="running"))[0]
    for node in shared_cluster.nodes:
        wait_for(
            f"the log through {node.id}",
            lambda node=node: (
                shared_cluster.cli("execution", "log", execution["id"], via=[node]).stdout == b"first\n"
            ),
        )

    shared_cluster.do("execution", "cancel", execution["id"])

    [ended] = shared_cluster.settled("live")
    assert ended["state"] == "EXECUTION_STATE_CANCELLED"
    assert "active" not in shared_cluster.ask("job", "show", "live")
