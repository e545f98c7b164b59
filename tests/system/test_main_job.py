"""The main job on a CouchDB-protocol server and an S3 server: any client, any node, one leader."""

from __future__ import annotations

import signal
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dcron.rpc import dcron_pb2 as pb
from tests.system.cluster import Cluster, wait_for

OUTAGE_SECONDS = 4.0
"""How long a store is away: longer than the lease, so that everybody notices."""


def started(path: Path) -> list[str]:
    """Execution ids as the scripts themselves wrote them when they started."""
    return path.read_text().split() if path.exists() else []


def test_a_job_registered_through_one_node_runs_on_another_and_its_log_is_read_through_a_third(cluster):
    first, second, third = cluster.nodes

    cluster.create(
        "hello", 'echo "said by $DCRON_NODE to $1, $GREETING"', "--schedule", "* * * * * *",
        "--label", f"host={second.id}", "--arg", "you", "--env", "GREETING=hej", via=[first],
    )  # fmt: skip
    execution = cluster.settled("hello")[0]

    assert execution["nodeId"] == second.id
    assert execution["state"] == "SUCCEEDED"
    assert execution["exitCode"] == 0
    log = cluster.cli("execution", "log", execution["id"], via=[third])
    assert log.stdout.decode() == f"said by {second.id} to you, hej\n"
    assert log.returncode == 0


@pytest.mark.timeout(240)
def test_200_occurrences_start_once_each_though_the_leader_is_killed_twice(cluster, tmp_path):
    marks = tmp_path / "starts"
    cluster.create("job00", f'echo "$DCRON_EXECUTION_ID" >> {marks}', "--schedule", "*/10 * * * * *", "--paused")
    public = cluster.stub()
    first = public.GetJob(pb.GetJobRequest(name="job00"))
    jobs = [f"job{number:02}" for number in range(1, 51)]
    for job in jobs:
        public.CreateJob(pb.CreateJobRequest(name=job, specification=first.specification))

    for count in (50, 100):
        wait_for(f"{count} starts", lambda count=count: len(started(marks)) >= count, 60)
        leader = cluster.node(cluster.leader_id())
        leader.kill()
        survivors = [node for node in cluster.nodes if node is not leader]
        wait_for("another leader", lambda: cluster.leader_id(via=survivors) not in {"", leader.id}, 15)
        leader.start()
        cluster.wait_ready(leader)
    wait_for("200 starts", lambda: len(started(marks)) >= 200, 90)
    public = cluster.stub()
    for job in jobs:
        public.PauseJob(pb.PauseJobRequest(name=job))
    wait_for("nothing active", lambda: cluster.status()["activeCount"] == 0, 30)

    starts = Counter(started(marks))
    assert [each for each, count in starts.items() if count > 1] == []
    for job in jobs:
        assert_calendar_is_accounted_for(cluster, job, set(starts))


def assert_calendar_is_accounted_for(cluster: Cluster, job: str, starts: set[str]) -> None:
    """Every tenth second from the first record to the last has an execution that started, or is skipped."""
    records = cluster.executions(job)
    executed = {at(each["scheduledAt"]): each for each in records if each["state"] != "SKIPPED"}
    skipped = [each for each in records if each["state"] == "SKIPPED"]
    instant, last = min(executed), max(executed)
    while instant <= last:
        covered = any(at(each["scheduledAt"]) <= instant <= at(each["occurrencesUntil"]) for each in skipped)
        assert (instant in executed) != covered, f"{job} at {instant}: {records}"
        instant += timedelta(seconds=10)
    for each in executed.values():
        assert each["state"] == "SUCCEEDED", each
        assert each["id"] in starts


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


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


def test_a_run_longer_than_its_period_delays_the_next_and_names_what_is_coalesced(cluster, tmp_path):
    cluster.create("overlong", "sleep 3", "--schedule", "* * * * * *")

    ended = sorted(cluster.settled("overlong", 2), key=lambda each: each["scheduledAt"])
    cluster.do("job", "pause", "overlong")

    first, second = ended[:2]
    assert at(second["startedAt"]) >= at(first["finishedAt"])
    assert int(second["occurrenceCount"]) >= 1
    skipped = [each for each in cluster.executions("overlong") if each["skipReason"] == "coalesced"]
    assert any(at(each["scheduledAt"]) > at(second["scheduledAt"]) for each in skipped)


def test_results_of_a_document_store_outage_arrive_when_it_is_over(outage_cluster, tmp_path):
    cluster, couch = outage_cluster
    gate = tmp_path / "gate"
    cluster.create("meanwhile", f"until [ -e {gate} ]; do sleep 0.1; done; echo done", "--schedule", "0 0 1 1 *")
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
    wait_for("the spool holds the log", lambda: any(n["spooled"] for n in cluster.ask("node", "list")["nodes"]))
    s3.start()

    wait_for(
        "the spool is empty", lambda: not any(n["spooled"] for n in cluster.ask("node", "list")["nodes"]), 40
    )
    assert cluster.do("execution", "log", newest["id"]) == "printed\n"


def test_a_live_log_is_followed_through_any_node_and_the_execution_cancelled(cluster, tmp_path):
    cluster.create("live", "echo first; sleep 600", "--schedule", "0 0 1 1 *", "--timeout", "1h", "--grace", "1s")
    cluster.do("job", "run", "live")
    execution = wait_for("it runs", lambda: cluster.executions("live", state="running"))[0]
    for node in cluster.nodes:
        wait_for(
            f"the log through {node.id}",
            lambda node=node: cluster.cli("execution", "log", execution["id"], via=[node]).stdout == b"first\n",
        )

    cluster.do("execution", "cancel", execution["id"])

    [ended] = cluster.settled("live")
    assert ended["state"] == "CANCELLED"
    assert "active" not in cluster.ask("job", "show", "live")


def test_a_busy_worker_refuses_and_the_occurrence_waits_with_a_reason(cluster):
    node = cluster.nodes[0]
    for number in range(3):
        cluster.create(f"fill{number}", "sleep 600", "--schedule", "0 0 1 1 *", "--label", f"host={node.id}")
    cluster.do("node", "drain", node.id)
    wait_for("drained", lambda: next(n for n in cluster.ask("node", "list")["nodes"] if n["id"] == node.id)["draining"])
    cluster.do("job", "run", "fill0")

    reason = wait_for("it waits", lambda: cluster.ask("job", "show", "fill0").get("waitingReason"))
    assert "no live node" in reason or node.id in reason
    assert cluster.status()["waitingCount"] == 1

    cluster.do("node", "undrain", node.id)
    execution = wait_for("it runs", lambda: cluster.executions("fill0", state="running"))[0]
    cluster.do("execution", "cancel", execution["id"])


def test_nothing_due_while_frozen_starts_and_it_is_accounted_for(cluster):
    cluster.create("often", "true", "--schedule", "* * * * * *")
    cluster.settled("often")

    cluster.do("cluster", "freeze")
    frozen_at = at(cluster.status()["frozenAt"])
    wait_for("a frozen record", lambda: [e for e in cluster.executions("often") if e["skipReason"] == "frozen"])
    cluster.do("cluster", "thaw")
    thawed_at = datetime.now(tz=frozen_at.tzinfo)
    wait_for(
        "a start after the thaw",
        lambda: [e for e in cluster.executions("often") if e["state"] == "SUCCEEDED" and at(e["scheduledAt"]) > thawed_at],
    )  # fmt: skip
    cluster.do("job", "pause", "often")

    during = [
        e for e in cluster.executions("often")
        if e["state"] != "SKIPPED" and frozen_at < at(e["scheduledAt"]) < thawed_at - timedelta(seconds=2)
    ]  # fmt: skip
    assert during == []
