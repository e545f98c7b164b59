"""Holding nodes and the whole cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.system.accounting import now
from tests.system.cluster import Cluster, at, started, wait_for


def test_a_draining_node_takes_nothing_and_what_waits_for_it_says_so(shared_cluster):
    node = shared_cluster.nodes[0]
    shared_cluster.create("bound", "true", "--schedule", "@yearly", "--label", f"host={node.id}")
    shared_cluster.do("node", "drain", node.id)
    shared_cluster.do("job", "run", "bound")

    def waiting() -> list[Any]:
        return [each for each in shared_cluster.status()["waiting"] if each["job"] == "bound"]

    [found] = wait_for("it waits", waiting)
    # The leader may not have read yet that the node drains; then it asks, and is refused.
    assert found["reason"].startswith(
        (
            f"no live node with the labels host={node.id} takes executions",
            f"{node.id}: the node is draining",
        )
    )
    assert shared_cluster.executions("bound") == []

    shared_cluster.do("node", "undrain", node.id)
    assert shared_cluster.settled("bound")[0]["nodeId"] == node.id


def test_a_busy_worker_refuses_and_the_occurrence_runs_once_a_slot_is_free(tmp_path):
    folder = f"{tmp_path}/objects"
    cluster = Cluster(
        tmp_path, f"sqlite:///{tmp_path}/dcron.db", f"file://{folder}", {"DCRON_SLOTS": "1"}, nodes=1
    )
    try:
        cluster.start()
        gate = tmp_path / "gate"
        cluster.create("first", f"until [ -e {gate} ]; do sleep 0.1; done", "--schedule", "@yearly")
        cluster.create("second", "true", "--schedule", "@yearly")
        cluster.do("job", "run", "first")
        wait_for("the slot is taken", lambda: cluster.executions("first", state="running"))
        cluster.do("job", "run", "second")
        wait_for(
            "it waits for a slot",
            lambda: (
                cluster.ask("job", "show", "second")
                .get("waitingReason", "")
                .startswith("n1: all slots are taken")
            ),
        )

        gate.touch()

        assert cluster.settled("second")[0]["state"] == "EXECUTION_STATE_SUCCEEDED"
    finally:
        cluster.stop()


def test_once_a_pause_is_answered_nothing_due_later_starts_and_a_resume_never_fires_for_the_past(
    shared_cluster, tmp_path
):
    marks = tmp_path / "starts"
    shared_cluster.create(
        "halting", f'echo "$DCRON_EXECUTION_ID" >> {marks}', "--schedule", "* * * * * *", "--timeout", "1m"
    )
    held_back: list[tuple[datetime, datetime]] = []
    for node in shared_cluster.nodes:
        before = len(started(marks))
        wait_for("it runs", lambda before=before: len(started(marks)) > before)
        shared_cluster.do("job", "pause", "halting", via=[node])
        paused_at = now()
        wait_for(
            "two occurrences are held back", lambda since=paused_at: now() - since > timedelta(seconds=2.5)
        )
        held_back.append((paused_at, now()))
        shared_cluster.do("job", "resume", "halting", via=[node])
    wait_for("it runs again", lambda: any(scheduled_at(each) > held_back[-1][1] for each in started(marks)))
    shared_cluster.do("job", "pause", "halting")

    records = shared_cluster.executions("halting")
    skipped = [each for each in records if each["skipReason"] == "SKIP_REASON_PAUSED"]
    for paused_at, resumed_at in held_back:
        assert [each for each in started(marks) if paused_at < scheduled_at(each) < resumed_at] == []
        second = paused_at.replace(microsecond=0) + timedelta(seconds=1)
        assert any(at(each["scheduledAt"]) <= second <= at(each["occurrencesUntil"]) for each in skipped)


def scheduled_at(execution_id: str) -> datetime:
    return datetime.strptime(execution_id.split(":")[1], "%Y%m%dT%H%M%S%z")


def test_nothing_due_while_frozen_starts_and_it_is_accounted_for(shared_cluster):
    shared_cluster.create("often", "true", "--schedule", "* * * * * *")
    shared_cluster.settled("often")

    shared_cluster.do("cluster", "freeze")
    answered_at = datetime.now(UTC)
    wait_for(
        "a frozen record",
        lambda: [e for e in shared_cluster.executions("often") if e["skipReason"] == "SKIP_REASON_FROZEN"],
    )
    shared_cluster.do("cluster", "thaw")
    thawed_at = datetime.now(UTC)

    def started_after_the_thaw() -> bool:
        return any(
            at(each["scheduledAt"]) > thawed_at
            for each in shared_cluster.executions("often")
            if each["state"] == "EXECUTION_STATE_SUCCEEDED"
        )

    wait_for("a start after the thaw", started_after_the_thaw)
    shared_cluster.do("job", "pause", "often")

    during = [
        e for e in shared_cluster.executions("often")
        if e["state"] != "EXECUTION_STATE_SKIPPED"
        and answered_at < at(e["scheduledAt"]) < thawed_at - timedelta(seconds=2)
    ]  # fmt: skip
    assert during == []
