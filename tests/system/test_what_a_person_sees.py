"""What the command line tells while something is wrong, and how a person settles it."""

from __future__ import annotations

import json

from tests.system.cluster import wait_for


def test_what_only_a_person_can_settle_is_told_with_the_command_that_settles_it(cluster, tmp_path):
    gate = tmp_path / "gate"
    worker = cluster.nodes[1]
    cluster.create(
        "endless", f"[ $DCRON_ATTEMPT = 1 ] || exit 0; until [ -e {gate} ]; do sleep 0.1; done; exit 7",
        "--schedule", "0 0 1 1 *", "--timeout", "0",
    )  # fmt: skip
    # Only one node takes it at first.
    for other in cluster.nodes:
        if other is not worker:
            cluster.do("node", "drain", other.id)
    cluster.do("job", "run", "endless")
    execution = wait_for("it runs", lambda: cluster.executions("endless", state="running"))[0]
    for other in cluster.nodes:
        if other is not worker:
            cluster.do("node", "undrain", other.id)

    worker.kill()
    wait_for("it needs a person", lambda: cluster.status()["needsAttention"])
    told = cluster.do("cluster", "status")
    assert f"dcron execution resolve {execution['id']} --as" in told
    assert "start dcron on that machine again" in told
    refused = cluster.cli("execution", "cancel", execution["id"])
    assert refused.returncode == 1
    assert b"connection refused" in refused.stderr
    assert f"dcron execution resolve {execution['id']}".encode() in refused.stderr

    cluster.do("execution", "resolve", execution["id"], "--as", "retry", "--reason", "its disk died")
    wait_for("the next attempt", lambda: cluster.executions("endless", state="succeeded"))
    wait_for("nothing needs a person", lambda: not cluster.status()["needsAttention"])
    shown = cluster.do("execution", "show", execution["id"])
    assert "resolved as retry" in shown
    assert "its disk died" in shown

    # The machine is there again, and what it did comes to stand beside the verdict.
    gate.touch()
    worker.start()
    wait_for("its true end", lambda: cluster.executions("endless", state="failed"))
    shown = cluster.do("execution", "show", execution["id"])
    assert "exit 7; resolved as retry" in shown
    again = cluster.cli("execution", "resolve", execution["id"], "--as", "failed")
    assert again.returncode == 1
    assert b"already resolved as retry" in again.stderr


def lines_about_the_store(node) -> list[str]:
    return [line for line in node.log.read_text().splitlines() if "action=reach_store" in line]


def test_without_the_store_each_node_tells_what_it_knows_by_itself(outage_cluster):
    cluster, couch = outage_cluster
    cluster.create("sleeper", "sleep 600", "--schedule", "0 0 1 1 *")
    cluster.do("job", "run", "sleeper")
    execution = wait_for("it runs", lambda: cluster.executions("sleeper", state="running"))[0]
    couch.pause()
    try:
        wait_for(
            "all nodes notice", lambda: all("reach_store" in node.log.read_text() for node in cluster.nodes)
        )
        done = cluster.cli("cluster", "status")
        assert done.returncode == 1
        told = done.stdout.decode()
        assert told.count("cannot reach the document store since") == len(cluster.nodes)
        assert execution["id"] in told
        assert done.stderr.decode().count("\n") == 1
        answer = json.loads(cluster.cli("cluster", "status", "--output", "json").stdout)
        [held] = answer["held"]
        assert (held["executionId"], held["nodeId"], held["state"]) == (
            execution["id"], execution["nodeId"], "EXECUTION_STATE_RUNNING",
        )  # fmt: skip
    finally:
        couch.resume()
    # A status of 0 is one node's view: each of the others finds the store again at its own next call.
    wait_for(
        "all nodes find it again",
        lambda: all(len(lines_about_the_store(node)) >= 2 for node in cluster.nodes),
    )
    wait_for("it is well again", lambda: cluster.cli("cluster", "status").returncode == 0)
    assert [len(lines_about_the_store(node)) for node in cluster.nodes] == [2] * len(cluster.nodes)
    cluster.do("execution", "cancel", execution["id"])
