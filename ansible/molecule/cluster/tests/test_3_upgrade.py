"""upgrade.yml brings a newer release to a running cluster: nothing is lost or doubled, and scripts go on."""

import shutil
import subprocess
import sys

import pytest
from conftest import NODES, REPOSITORY, missing, on, playbook, wait_for

JOB = "through-the-upgrade"
LONG = "longer-than-the-upgrade"
NEW = "9.9.9"
BROKEN = "9.9.8"


@pytest.fixture
def wheel_of(tmp_path):
    """Builds a wheel of the same code under another version, with a line more in the node's module."""
    return lambda version, more="": build(tmp_path, version, more)


def build(source, version, more):
    for name in ("dcron", "proto"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("pyproject.toml", "dcron/__init__.py"):
        text = (REPOSITORY / name).read_text()
        (source / name).write_text(text.replace('"0.1.0"', f'"{version}"', 1))
    with (source / "dcron/node.py").open("a") as file:
        file.write(more)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "--target", "wheel"], check=True, cwd=source)
    return next((source / "dist").glob(f"dcron-{version}-*.whl"))


def versions(client):
    return {node["id"]: node["version"] for node in client.ask("cluster status")["nodes"]}


def test_where_a_release_does_not_serve_the_node_goes_back_to_the_old_one(client, wheel_of):
    before = versions(client)
    broken = wheel_of(BROKEN, 'raise RuntimeError("broken on purpose")\n')
    said = playbook(
        "upgrade.yml",
        *("-e", f"dcron_node_wheel={broken}"),
        *("-e", "{dcron_node_serving_seconds: 5, dcron_upgrade_drain_seconds: 1}"),
        fails=True,
    )
    assert "did not serve with the new release and is back at" in said
    wait_for("all nodes", lambda: all(node["alive"] for node in client.ask("cluster status")["nodes"]))
    assert versions(client) == before
    assert not any(node["draining"] for node in client.ask("cluster status")["nodes"])


def test_an_upgrade_loses_and_doubles_nothing_and_kills_no_script(client, wheel_of):
    client.create(JOB, "echo $DCRON_SCHEDULED_AT", "--schedule", "* * * * * *", "--timeout", "20s")
    wait_script = "echo begun; until [ -e /var/tmp/go ]; do sleep 0.2; done; echo done"
    client.create(LONG, wait_script, "--schedule", "0 0 1 1 *", "--timeout", "10m")
    long = client.check(f"job run {LONG}")
    try:
        wait_for("the schedule", lambda: len(client.ask(f"execution list --job {JOB}")["executions"]) >= 3)
        playbook(
            "upgrade.yml", "-e", f"dcron_node_wheel={wheel_of(NEW)}", "-e", "dcron_upgrade_drain_seconds=3"
        )
        assert set(versions(client).values()) == {NEW}
        assert client.check("--version").split()[-1] == NEW
        client.check(f"job pause {JOB}")
        wait_for(
            "the last ones",
            lambda: not client.ask(f"execution list --job {JOB} --state running")["executions"],
        )
        records = client.ask(f"execution list --job {JOB} --limit 1000")["executions"]
        # What a node that stops has claimed and not started is told of, and tried elsewhere.
        assert {each["state"] for each in records} <= {
            "EXECUTION_STATE_SUCCEEDED",
            "EXECUTION_STATE_SKIPPED",
            "EXECUTION_STATE_NOT_STARTED",
        }
        ran = [each["scheduledAt"] for each in records if each["state"] == "EXECUTION_STATE_SUCCEEDED"]
        assert len(ran) == len(set(ran)), "an occurrence ran twice"
        assert not missing(records), "an occurrence has neither an execution nor a record that says why"
        for name in NODES:
            on(name).check_output("touch /var/tmp/go")
        log = client.check(f"execution log --follow {long}")
        assert log.split() == ["begun", "done"]
    finally:
        for job in (JOB, LONG):
            client.run(f"job delete {job} --yes")
