"""Stores that go away while scripts run."""

from __future__ import annotations

import time

from tests.system.cluster import wait_for

OUTAGE_SECONDS = 4.0
"""How long a store is away: longer than the lease, so that everybody notices."""


def test_results_of_a_document_store_outage_arrive_when_it_is_over(outage_cluster, tmp_path):
    cluster, couch = outage_cluster
    gate = tmp_path / "gate"
    cluster.create(
        "meanwhile", f"until [ -e {gate} ]; do sleep 0.1; done; echo done", "--schedule", "0 0 1 1 *"
    )
    cluster.do("job", "run", "meanwhile")
    wait_for("it runs", lambda: cluster.executions("meanwhile", state="running"))

    couch.pause()
    gate.touch()
    time.sleep(OUTAGE_SECONDS)  # the outage itself is what is tested
    status = cluster.cli("job", "list")
    assert status.returncode == 1
    assert b"CouchDB" in status.stderr
    couch.resume()

    [ended] = cluster.settled("meanwhile", seconds=40)
    assert ended["state"] == "SUCCEEDED"
    assert cluster.do("execution", "log", ended["id"]) == "done\n"


def test_logs_of_an_object_store_outage_are_read_from_the_node_and_arrive_later(object_outage_cluster):
    cluster, s3 = object_outage_cluster
    cluster.create("printing", "echo printed", "--schedule", "0 0 1 1 *")
    cluster.do("job", "run", "printing", "--wait")

    s3.stop()
    cluster.do("job", "run", "printing", "--wait")
    newest = cluster.executions("printing")[0]
    assert cluster.do("execution", "log", newest["id"]) == "printed\n"
    wait_for(
        "the spool holds the log", lambda: any(n["spooled"] for n in cluster.ask("node", "list")["nodes"])
    )
    s3.start()

    wait_for(
        "the spool is empty", lambda: not any(n["spooled"] for n in cluster.ask("node", "list")["nodes"]), 40
    )
    assert cluster.do("execution", "log", newest["id"]) == "printed\n"
