"""upgrade.yml brings a newer release to a running cluster: nothing is lost or doubled, and scripts go on."""

import shutil
import subprocess
import sys
from datetime import datetime, timedelta

import pytest
from conftest import NODES, REPOSITORY, on, playbook, wait_for

JOB = "through-the-upgrade"
LONG = "longer-than-the-upgrade"
NEW = "9.9.9"


@pytest.fixture(scope="module")
def newer_wheel(tmp_path_factory):
    """The same code under a newer version."""
    source = tmp_path_factory.mktemp("source")
    for name in ("dcron", "proto"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("pyproject.toml", "dcron/__init__.py"):
        text = (REPOSITORY / name).read_text()
        (source / name).write_text(text.replace('"0.1.0"', f'"{NEW}"', 1))
    subprocess.run([sys.executable, "-m", "hatchling", "build", "--target", "wheel"], check=True, cwd=source)
    return next((source / "dist").glob(f"dcron-{NEW}-*.whl"))


def test_an_upgrade_loses_and_doubles_nothing_and_kills_no_script(client, newer_wheel):
    client.create(JOB, "echo $DCRON_SCHEDULED_AT", "--schedule", "* * * * * *", "--timeout", "20s")
    wait_script = "echo begun; until [ -e /var/tmp/go ]; do sleep 0.2; done; echo done"
    client.create(LONG, wait_script, "--schedule", "0 0 1 1 *", "--timeout", "10m")
    long = client.check(f"job run {LONG}")
    try:
        wait_for("the schedule", lambda: len(client.ask(f"execution list --job {JOB}")["executions"]) >= 3)
        playbook(
            "upgrade.yml", "-e", f"dcron_node_wheel={newer_wheel}", "-e", "dcron_upgrade_drain_seconds=3"
        )
        assert {node["version"] for node in client.ask("cluster status")["nodes"]} == {NEW}
        client.check(f"job pause {JOB}")
        wait_for(
            "the last ones",
            lambda: not client.ask(f"execution list --job {JOB} --state running")["executions"],
        )
        records = client.ask(f"execution list --job {JOB} --limit 1000")["executions"]
        # What a node that stops has claimed and not started is told of, and tried elsewhere.
        assert {each["state"] for each in records} <= {"SUCCEEDED", "SKIPPED", "NOT_STARTED"}
        ran = [each["scheduledAt"] for each in records if each["state"] == "SUCCEEDED"]
        assert len(ran) == len(set(ran)), "an occurrence ran twice"
        assert not missing(records), "an occurrence has neither an execution nor a record that says why"
        for name in NODES:
            on(name).check_output("touch /var/tmp/go")
        log = client.check(f"execution log --follow {long}")
        assert log.split() == ["begun", "done"]
    finally:
        for job in (JOB, LONG):
            client.run(f"job delete {job} --yes")


def missing(records):
    """Instants between the first and the last one that neither a run nor a skip record accounts for."""
    covered = set()
    for each in records:
        if each["state"] == "NOT_STARTED":
            continue
        first = instant(each["scheduledAt"])
        until = instant(each.get("occurrencesUntil") or each["scheduledAt"])
        covered.update(
            first + timedelta(seconds=more) for more in range(int((until - first).total_seconds()) + 1)
        )
    whole = int((max(covered) - min(covered)).total_seconds()) + 1
    return {min(covered) + timedelta(seconds=more) for more in range(whole)} - covered


def instant(text):
    return datetime.fromisoformat(text)
