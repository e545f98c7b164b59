"""Holding nodes and the whole cluster."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.system.cluster import at, wait_for


def test_a_busy_worker_refuses_and_the_occurrence_waits_with_a_reason(shared_cluster):
    node = shared_cluster.nodes[0]
    for number in range(3):
        shared_cluster.create(
            f"fill{number}", "sleep 600", "--schedule", "0 0 1 1 *", "--label", f"host={node.id}"
        )
    shared_cluster.do("node", "drain", node.id)
    wait_for(
        "drained",
        lambda: next(n for n in shared_cluster.ask("node", "list")["nodes"] if n["id"] == node.id)[
            "draining"
        ],
    )
    shared_cluster.do("job", "run", "fill0")

    reason = wait_for("it waits", lambda: shared_cluster.ask("job", "show", "fill0").get("waitingReason"))
    assert "no live node" in reason or node.id in reason
    assert shared_cluster.status()["waitingCount"] == 1

    shared_cluster.do("node", "undrain", node.id)
    execution = wait_for("it runs", lambda: shared_cluster.executions("fill0", state="running"))[0]
    shared_cluster.do("execution", "cancel", execution["id"])


def test_nothing_due_while_frozen_starts_and_it_is_accounted_for(shared_cluster):
    shared_cluster.create("often", "true", "--schedule", "* * * * * *")
    shared_cluster.settled("often")

    shared_cluster.do("cluster", "freeze")
    frozen_at = at(shared_cluster.status()["frozenAt"])
    wait_for(
        "a frozen record",
        lambda: [e for e in shared_cluster.executions("often") if e["skipReason"] == "frozen"],
    )
    shared_cluster.do("cluster", "thaw")
    thawed_at = datetime.now(tz=frozen_at.tzinfo)

    def started_after_the_thaw() -> bool:
        return any(
            at(each["scheduledAt"]) > thawed_at
            for each in shared_cluster.executions("often")
            if each["state"] == "SUCCEEDED"
        )

    wait_for("a start after the thaw", started_after_the_thaw)
    shared_cluster.do("job", "pause", "often")

    during = [
        e for e in shared_cluster.executions("often")
        if e["state"] != "SKIPPED" and frozen_at < at(e["scheduledAt"]) < thawed_at - timedelta(seconds=2)
    ]  # fmt: skip
    assert during == []
