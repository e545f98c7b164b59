"""Leaders that die: nothing due is lost, nothing starts twice."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from dcron.rpc import dcron_pb2 as pb
from tests.system.cluster import Cluster, at, started, wait_for


@pytest.mark.timeout(240)
def test_200_occurrences_start_once_each_though_the_leader_is_killed_twice(cluster, tmp_path):
    marks = tmp_path / "starts"
    cluster.create(
        "job00", f'echo "$DCRON_EXECUTION_ID" >> {marks}', "--schedule", "*/10 * * * * *", "--paused"
    )
    public = cluster.stub()
    first = public.GetJob(pb.GetJobRequest(name="job00"))
    jobs = [f"job{number:02}" for number in range(1, 51)]
    for job in jobs:
        public.CreateJob(pb.CreateJobRequest(name=job, specification=first.specification))

    for count in (50, 100):
        wait_for(f"{count} starts", lambda count=count: len(started(marks)) >= count, 60)
        replace_the_leader(cluster)
    wait_for("200 starts", lambda: len(started(marks)) >= 200, 90)
    public = cluster.stub()
    for job in jobs:
        public.PauseJob(pb.PauseJobRequest(name=job))
    wait_for("nothing active", lambda: cluster.status()["activeCount"] == 0, 30)

    starts = Counter(started(marks))
    assert [each for each, count in starts.items() if count > 1] == []
    for job in jobs:
        assert_calendar_is_accounted_for(cluster, job, set(starts))


def replace_the_leader(cluster: Cluster) -> None:
    """SIGKILL the leader, wait for another one, start the killed node again."""
    leader = cluster.node(cluster.leader_id())
    leader.kill()
    survivors = [node for node in cluster.nodes if node is not leader]
    wait_for("another leader", lambda: cluster.leader_id(via=survivors) not in {"", leader.id}, 15)
    leader.start()
    cluster.wait_ready(leader)


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
