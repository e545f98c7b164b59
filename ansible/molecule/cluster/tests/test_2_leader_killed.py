"""The leader's host is killed, and the schedule goes on."""

import subprocess
from datetime import UTC, datetime

import pytest
from conftest import wait_for

JOB = "each-second"


def podman(*arguments):
    done = subprocess.run(["podman", *arguments], check=False, capture_output=True, text=True)
    return done.returncode, done.stdout.split()


def is_up(name):
    """Asked without ssh, which answers late on a host that boots."""
    return podman("exec", name, "systemctl", "is-active", "ssh", "dcron") == (0, ["active", "active"])


@pytest.fixture
def job(client):
    client.run(f"job delete {JOB} --yes")
    client.create(JOB, "echo $DCRON_SCHEDULED_AT", "--schedule", "* * * * * *", "--timeout", "20s")
    yield JOB
    client.check(f"job delete {JOB} --yes")


def ended(client):
    return client.ask(f"execution list --job {JOB} --state succeeded --limit 1000")["executions"]


def is_alive(client, name):
    line = next(line for line in client.check("node list").splitlines() if line.split()[0] == name)
    return line.split()[2] in {"alive", "leading"}


def test_when_the_leaders_host_is_killed_another_leads_and_the_schedule_goes_on(client, job):
    wait_for("three executions", lambda: len(ended(client)) >= 3)
    leader = client.ask("cluster status")["leaderId"]
    assert podman("kill", "--signal", "KILL", leader)[0] == 0
    killed_at = datetime.now(UTC)
    try:
        wait_for("another leader", lambda: client.ask("cluster status")["leaderId"] not in ("", leader))
        later = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
        wait_for(
            "executions after that", lambda: sum(each["scheduledAt"] > later for each in ended(client)) >= 3
        )
        occurrences = [each["scheduledAt"] for each in ended(client)]
        assert len(occurrences) == len(set(occurrences)), "an occurrence ran twice"
        assert any(each < f"{killed_at:%Y-%m-%dT%H:%M:%S}" for each in occurrences)
    finally:
        podman("start", leader)
    wait_for("the host", lambda: is_up(leader))
    wait_for("its node", lambda: is_alive(client, leader))
