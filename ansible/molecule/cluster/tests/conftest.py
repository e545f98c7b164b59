"""What tests of the whole cluster share: its hosts, and the client on one of them."""

import json
import os
import shlex
import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import testinfra

REPOSITORY = Path(os.environ["MOLECULE_REPOSITORY"])
INVENTORY = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "inventory/hosts.yml"
NODES = {"node1": "172.30.84.11", "node2": "172.30.84.12", "node3": "172.30.84.13"}
STORES = "172.30.84.10"
IS_COUCHDB_REAL = bool(os.environ.get("COUCHDB_DEB"))
IS_MINIO_REAL = bool(os.environ.get("MINIO_BINARY"))
OTHER_STORE = f"s3://moved?endpoint=http://{STORES}:{9001 if IS_MINIO_REAL else 9000}&path_style=true"
"""A bucket of the stand-in for S3: beside MinIO where there is one, else beside the first bucket."""
OTHER_OBJECTS = [
    *("-e", f"dcron_objects={OTHER_STORE}"),
    *("-e", "dcron_node_objects_ca="),
    *("-e", "{dcron_node_s3_access_key: '{{ s3_standin_access_key }}'}"),
]
WAIT_SECONDS = 60.0
SHARE = os.environ.get("DCRON_TEST_SHARE", "")
"""Of the long tests, a run of CI has one share of three; without one, all are run."""
SHARE_OF = {
    "test_3_upgrade.py": "1",
    "test_4_restore.py": "2",
    "test_5_certificates.py": "2",
    "test_6_move_objects.py": "3",
}
collect_ignore = [name for name, share in SHARE_OF.items() if SHARE not in {"", share}]


def on(name):
    """A host, by its name in the inventory."""
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=str(INVENTORY))


def wait_for(what, condition, seconds=WAIT_SECONDS):
    """The first true value of a condition; a failure that says what did not come."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.5)
    return value


def playbook(name, *options, fails=False):
    """Run one of the bundle's playbooks, and give what it says of errors; it has to succeed, or to fail."""
    command = [
        "ansible-playbook",
        "--inventory",
        str(INVENTORY.parent),
        str(REPOSITORY / "ansible" / name),
    ]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert (done.returncode != 0) == fails, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stderr


class Client:
    """dcron's command line on the client host."""

    def __init__(self):
        self.host = on("stores")

    def run(self, arguments, options=""):
        """What came of a command."""
        return self.host.run(f"dcron {options} {arguments}")

    def check(self, arguments, options=""):
        """What a command prints; it has to succeed."""
        done = self.run(arguments, options)
        assert done.rc == 0, done.stderr
        return done.stdout.strip()

    def ask(self, arguments):
        """The JSON of a reading command."""
        return json.loads(self.check(f"{arguments} --output json"))

    def create(self, name, script, *options):
        """Register a job."""
        given = " ".join(map(shlex.quote, options))
        done = self.host.run(
            f"echo {shlex.quote(script)} | dcron job create {name} --interpreter sh {given} -"
        )
        assert done.rc == 0, done.stderr


def missing(records):
    """Instants between the first and the last one that neither a run nor a skip record accounts for."""
    covered = set()
    for each in records:
        if each["state"] == "EXECUTION_STATE_NOT_STARTED":
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


@pytest.fixture(scope="session")
def client():
    return Client()
