"""`dcron doctor` on real servers: what is wrong is named with its remedy, and no secret is ever shown."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dcron.adapters.host_probe import is_spool_in_use, probe_spool
from dcron.adapters.keeper.probe import KeeperFacts, probe_keeper
from dcron.adapters.system_clock import SystemClock
from dcron.doctor import examine, judge_keeper
from dcron.domain.checkup import Level
from dcron.services.worker.spool import Spool
from tests.certificates import DAY, Authority, node_environment
from tests.couchdb_server import CouchServer, CouchUnavailable
from tests.object_stores import S3Access
from tests.system.cluster import NodeProcess, free_ports, wait_for

pytest_plugins = ["tests.object_store_fixtures"]

SECRET = "correct-horse-battery"


@dataclass
class Report:
    """What doctor says, by check."""

    exit_code: int
    findings: list[dict[str, str]]
    text: str

    def level(self, check: str) -> str:
        """The worst level of a check."""
        order = ["ok", "warning", "failed"]
        return max((each["level"] for each in self.findings if each["check"] == check), key=order.index)

    def failed(self) -> set[str]:
        return {each["check"] for each in self.findings if each["level"] == "failed"}

    def words(self, check: str) -> str:
        return " ".join(
            f"{each['message']} {each['remedy']}" for each in self.findings if each["check"] == check
        )


def environment_of(tmp_path: Path, **changes: str) -> dict[str, str]:
    """Variables of a node on SQLite and a folder."""
    [port] = free_ports(1)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DCRON_")}
    return {
        **kept,
        "DCRON_NODE_ID": "n1",
        "DCRON_LISTEN": f"127.0.0.1:{port}",
        "DCRON_STORE": f"sqlite:///{tmp_path}/dcron.db",
        "DCRON_OBJECTS": f"file://{tmp_path}/objects",
        "DCRON_SPOOL": str(tmp_path / "spool"),
        **changes,
    }


def doctor(environment: dict[str, str], *words: str) -> Report:
    """Run the command; it prints findings only, and no secret."""
    command = [sys.executable, "-m", "dcron", "doctor", *words]
    done = subprocess.run(
        [*command, "-o", "json"], env=environment, capture_output=True, timeout=90, check=False
    )
    assert SECRET not in (done.stdout + done.stderr).decode()
    assert not done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return Report(done.returncode, answer["findings"], done.stdout.decode())


@pytest.fixture
def couch(tmp_path: Path) -> Iterator[CouchServer]:
    try:
        with CouchServer(tmp_path / "couch") as server:
            yield server
    except CouchUnavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    """A node that serves, on SQLite and a folder."""
    environment = environment_of(tmp_path)
    [port] = free_ports(1)
    made = NodeProcess("n1", port, tmp_path, {**environment, "DCRON_LEASE_SECONDS": "3"})
    made.start()
    wait_for("it serves", lambda: "serving" in made.log.read_text())
    yield made
    made.stop()


def test_a_first_start_lacks_nothing_that_the_node_does_not_make_itself(tmp_path):
    before = set(tmp_path.iterdir())
    report = doctor(environment_of(tmp_path))
    assert report.exit_code == 0, report.text
    assert report.level("databases") == "warning"
    assert set(tmp_path.iterdir()) == before


def test_a_node_that_runs_is_well_and_is_not_disturbed(node, tmp_path):
    before = node.log.read_text()
    report = doctor(node.environment)
    assert report.exit_code == 0, report.text
    levels = {each["check"]: each["level"] for each in report.findings}
    # A lease of 3 s is short.
    assert {check for check, level in levels.items() if level != "ok"} == {"lease"}
    assert "this node answers at" in report.words("addresses")
    assert "keeper" not in node.log.read_text().removeprefix(before)
    assert not list(node.spool.glob(".doctor*"))
    assert not list((tmp_path / "objects").rglob("doctor/*"))


def test_for_people_each_finding_is_a_line(tmp_path):
    command = [sys.executable, "-m", "dcron", "doctor"]
    done = subprocess.run(
        command, env=environment_of(tmp_path), capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert all(line.split()[0] in {"ok", "warning", "failed"} for line in lines)
    assert any(line.startswith("ok       keeper ") for line in lines)


def test_settings_that_cannot_work_are_the_only_finding(tmp_path):
    config = tmp_path / "node.toml"
    config.write_text("sloots = 3\n")
    report = doctor(environment_of(tmp_path), "--config", str(config))
    assert report.exit_code == 1
    assert "did you mean 'slots'?" in report.words("settings")
    missing = doctor(environment_of(tmp_path), "--config", str(tmp_path / "none.toml"))
    assert "No such file" in missing.words("settings")
    bad_url = doctor(environment_of(tmp_path, DCRON_STORE=f"couchdb:/dcron:{SECRET}@nowhere"))
    assert bad_url.failed() == {"settings"}


def test_a_store_that_is_down_is_named_without_its_password(tmp_path):
    [port] = free_ports(1)
    report = doctor(environment_of(tmp_path, DCRON_STORE=f"couchdb://dcron:{SECRET}@127.0.0.1:{port}/dcron"))
    assert report.exit_code == 1
    assert report.failed() == {"document store"}
    assert f"127.0.0.1:{port}" in report.words("document store")
    assert "Connection refused" in report.words("document store")


@contextmanager
def refusing_server() -> Iterator[str]:
    """Answers every request as CouchDB answers a wrong password."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"error":"unauthorized","reason":"Name or password is incorrect."}'
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_wrong_password_is_told_and_never_shown(tmp_path):
    with refusing_server() as address:
        report = doctor(environment_of(tmp_path, DCRON_STORE=f"couchdb://dcron:{SECRET}@{address}/dcron"))
    assert report.failed() == {"document store"}
    assert "refuses user dcron" in report.words("document store")
    assert "password" in report.words("document store")


@pytest.mark.real_couchdb
def test_a_real_couchdb_refuses_a_wrong_password(tmp_path, couch_url):
    address = couch_url.rpartition("@")[2]
    report = doctor(environment_of(tmp_path, DCRON_STORE=f"couchdb://dcron:{SECRET}@{address}"))
    assert "refuses user dcron" in report.words("document store")


def test_a_couchdb_is_written_to_and_nothing_is_left(tmp_path, couch_url):
    prefix = f"doctor{os.getpid()}"
    url = f"{couch_url.rpartition('/')[0]}/{prefix}"
    environment = environment_of(tmp_path, DCRON_STORE=url)
    fresh = doctor(environment)
    assert f"{prefix}-jobs" in fresh.words("databases")
    [port] = free_ports(1)
    made = NodeProcess("n1", port, tmp_path, environment)
    made.start()
    try:
        wait_for("it serves", lambda: "serving" in made.log.read_text())
        report = doctor(made.environment)
    finally:
        made.stop()
    assert report.failed() == set(), report.text
    assert report.level("databases") == "ok"
    assert report.level("writing to the store") == "ok"
    assert report.level("clock") == "ok"


def test_a_spool_that_no_folder_can_be_made_for_is_named(tmp_path):
    (tmp_path / "file").touch()
    report = doctor(environment_of(tmp_path, DCRON_SPOOL=str(tmp_path / "file" / "spool")))
    assert report.failed() == {"spool"}
    assert "is no folder" in report.words("spool")
    unwritable = doctor(environment_of(tmp_path, DCRON_SPOOL="/proc/spool"))
    assert unwritable.failed() == {"spool"}
    assert "own" in unwritable.words("spool")


def test_a_certificate_is_looked_at(tmp_path):
    authority = Authority(tmp_path / "ca")
    files = authority.issue("n1", "dcron-node")
    environment = environment_of(tmp_path, **node_environment(files))
    assert doctor(environment).level("certificate") == "ok"

    authority.issue("n1", "dcron-node", hosts=["n1.example"], lasts=10 * DAY, into=files)
    report = doctor(environment)
    assert report.failed() == {"certificate"}
    assert "does not name 127.0.0.1" in report.words("certificate")
    assert "expires on" in report.words("certificate")

    authority.issue("n1", "dcron-node", into=files)
    files.ca.write_bytes(Authority(tmp_path / "other").file.read_bytes())
    assert "is of no CA in tls_ca" in doctor(environment).words("certificate")
    files.key.write_text("nothing")
    assert f"{files.key} holds no private key" in doctor(environment).words("certificate")


def test_nodes_that_talk_tls_are_asked_by_tls(tmp_path):
    files = Authority(tmp_path / "ca").issue("n1", "dcron-node")
    environment = environment_of(tmp_path, **node_environment(files), DCRON_LEASE_SECONDS="3")
    port = int(environment["DCRON_LISTEN"].rpartition(":")[2])
    node = NodeProcess("n1", port, tmp_path, environment)
    node.environment |= environment
    node.start()
    try:
        wait_for("it serves", lambda: "action=serve" in node.log.read_text())
        report = doctor(environment)
        assert report.failed() == set(), report.text
        assert report.level("addresses") == "ok"
    finally:
        node.stop()


def test_a_bucket_that_no_cluster_uses_is_a_mistake(tmp_path, node, s3: S3Access):
    url = s3.url.replace(f"s3://{s3.settings.bucket}?", f"s3://{s3.another_bucket().bucket}?")
    environment = {**node.environment, **s3.environment, "DCRON_OBJECTS": url}
    report = doctor(environment)
    assert report.failed() == {"object store"}
    assert "use the same `objects`" in report.words("object store")


def test_an_s3_store_is_tried_as_a_client_does(tmp_path, s3: S3Access, s3_store):
    report = doctor(environment_of(tmp_path, **s3.environment, DCRON_OBJECTS=s3.url))
    assert report.failed() == set(), report.text
    assert report.level("object store") == "ok"
    assert report.level("uploads by clients") == "ok"


def test_a_wrong_secret_for_s3_is_told_and_never_shown(tmp_path, s3: S3Access, s3_store):
    wrong = {**s3.environment, "AWS_SECRET_ACCESS_KEY": SECRET}
    report = doctor(environment_of(tmp_path, **wrong, DCRON_OBJECTS=s3.url))
    assert report.failed() == {"object store"}
    assert "AWS_SECRET_ACCESS_KEY" in report.words("object store")


async def test_a_clock_that_is_an_hour_off_is_found(tmp_path, node):
    class Ahead(SystemClock):
        def now(self) -> datetime:
            return datetime.now(UTC) + timedelta(hours=1)

    findings = await examine(None, node.environment, Ahead())
    [clock] = [finding for finding in findings if finding.check == "clock"]
    assert clock.level is Level.FAILED
    # The store tells whole seconds.
    assert re.match(r"\+(3599|3600|3601) s ", clock.message)


def test_an_id_that_another_node_lives_under_is_found(node, tmp_path):
    report = doctor(environment_of(tmp_path, DCRON_LEASE_SECONDS="3", DCRON_SPOOL=str(tmp_path / "other")))
    assert report.failed() == {"node id"}
    assert node.address in report.words("node id")
    assert node.is_running()


def test_an_address_that_is_taken_and_a_lease_that_differs_are_found(node, tmp_path):
    environment = environment_of(tmp_path, DCRON_NODE_ID="n2", DCRON_SPOOL=str(tmp_path / "other"))
    report = doctor(environment | {"DCRON_LISTEN": node.address})
    assert report.failed() == {"addresses", "lease"}
    assert "3 on n1" in report.words("lease")


def test_whether_a_spool_is_in_use_is_seen_without_touching_it(tmp_path):
    spool = Spool(tmp_path / "spool")
    assert not is_spool_in_use(spool.folder)
    spool.open()
    assert is_spool_in_use(spool.folder)
    spool.close()
    assert not is_spool_in_use(spool.folder)


def test_the_file_system_of_a_folder_is_told(tmp_path):
    assert probe_spool(Path("/dev/shm")).file_system == "tmpfs"
    facts = probe_spool(tmp_path / "a" / "b")
    assert not facts.exists
    assert facts.free_bytes > 0
    assert not list(tmp_path.iterdir())


def test_a_keeper_without_control_groups_is_warned_of():
    finding = judge_keeper(KeeperFacts("", has_control_groups=False))
    assert finding.level is Level.WARNING
    assert "Delegate=yes" in finding.remedy


async def test_a_keeper_that_cannot_start_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    facts = await probe_keeper(tmp_path, SystemClock())
    assert "did not start" in facts.trouble
    assert judge_keeper(facts).level is Level.FAILED
    assert not list(tmp_path.iterdir())
