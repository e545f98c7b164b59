"""What a person sees when a node is set up wrongly, or finds the world broken: one clear line, no secret."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from dcron.domain.documents import INITIAL_SETTINGS, SETTINGS_ID, settings_body
from tests.certificates import Authority, node_environment
from tests.couchdb_server import CouchServer, CouchUnavailable
from tests.system.cluster import Cluster, NodeProcess, free_ports, wait_for

SECRET = "correct-horse-battery"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    """One node on SQLite and a folder, not started yet."""
    [port] = free_ports(1)
    environment = {
        "DCRON_STORE": f"sqlite:///{tmp_path}/dcron.db",
        "DCRON_OBJECTS": f"file://{tmp_path}/objects",
        "DCRON_LEASE_SECONDS": "3",
    }
    made = NodeProcess("alone", port, tmp_path, environment)
    yield made
    if made.is_running():
        made.kill()


def refuses_to_start(node: NodeProcess, *words: str) -> str:
    """The last line that a node prints before it ends with an error; it holds all the words."""
    node.start()
    code = node.process.wait(30)
    text = node.log.read_text()
    assert code in {1, 2}, text
    assert "Traceback" not in text
    assert SECRET not in text
    last = text.strip().splitlines()[-1]
    for word in words:
        assert word in last, last
    return last


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("DCRON_STORE", f"couchdb:/dcron:{SECRET}@nowhere", ("store",)),
        ("DCRON_STORE", f"mysql://dcron:{SECRET}@nowhere/db", ("store", "couchdb://", "sqlite:///")),
        ("DCRON_STORE", "", ("store", "DCRON_STORE")),
        ("DCRON_OBJECTS", f"s3://key:{SECRET}@bucket", ("object", "AWS_")),
        ("DCRON_OBJECTS", "s3://bucket?colour=blue", ("colour",)),
        ("DCRON_OBJECTS", "ftp://host/path", ("objects", "s3://", "file:///")),
        ("DCRON_LISTEN", "nowhere", ("listen", "host:port")),
        ("DCRON_LISTEN", "0.0.0.0:7420", ("listen", "tls_certificate", "--insecure")),
        ("DCRON_TLS_CA", "/ca.pem", ("TLS", "tls_certificate", "not set")),
        ("DCRON_SLOTS", "-3", ("slots", "1 to")),
        ("DCRON_LABELS", "zone=a b", ("labels",)),
        ("DCRON_LEASE_SECONDS", "0", ("lease_seconds",)),
        ("DCRON_LOG_FORMAT", "xml", ("log_format", "json")),
        ("DCRON_NODE_ID", "a\x1bb", ("node_id",)),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(node, variable, value, words):
    node.environment[variable] = value
    refuses_to_start(node, *words)


def test_certificates_that_cannot_be_used_are_named(node, tmp_path):
    files = Authority(tmp_path / "ca").issue("n1", "dcron-node")
    node.environment |= node_environment(files)
    files.key.write_bytes(files.key.read_bytes()[:100])
    refuses_to_start(node, str(files.key), "no private key")


def test_a_node_that_is_told_to_serves_other_machines_and_warns(node):
    port = node.address.rpartition(":")[2]
    node.environment |= {"DCRON_LISTEN": f"0.0.0.0:{port}", "DCRON_ADVERTISE": node.address}
    node.command.append("--insecure")
    node.start()
    wait_for("it serves", lambda: "action=serve" in node.log.read_text())
    [line] = [line for line in node.log.read_text().splitlines() if "without TLS" in line]
    assert "warning" in line


def test_a_port_in_use_is_named(node):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(node.address.rpartition(":")[2])))
        taken.listen()
        refuses_to_start(node, node.address, "in use")


def test_a_spool_in_use_is_named(node, tmp_path):
    node.start()
    wait_for("it serves", lambda: "serving" in node.log.read_text())
    [port] = free_ports(1)
    other = NodeProcess("other", port, tmp_path, {**node.environment})
    other.environment |= {
        "DCRON_NODE_ID": "other",
        "DCRON_LISTEN": other.address,
        "DCRON_SPOOL": str(node.spool),
    }
    refuses_to_start(other, "spool", "in use")


def test_a_second_node_with_one_id_is_refused_and_the_first_goes_on(node, tmp_path):
    node.start()
    wait_for("it serves", lambda: "serving" in node.log.read_text())
    [port] = free_ports(1)
    other = NodeProcess("copy", port, tmp_path, {**node.environment})
    other.environment |= {
        "DCRON_NODE_ID": node.id, "DCRON_LISTEN": other.address, "DCRON_SPOOL": str(tmp_path / "copy"),
    }  # fmt: skip
    refuses_to_start(other, "alone", "in use", node.address)
    assert node.is_running()


def test_a_store_that_is_down_at_the_start_is_waited_for(node, tmp_path):
    [port] = free_ports(1)
    node.environment["DCRON_STORE"] = f"couchdb://dcron:{SECRET}@127.0.0.1:{port}/dcron"
    node.start()
    wait_for("it says so", lambda: "cannot reach the document store" in node.log.read_text())
    assert node.is_running()
    assert SECRET not in node.log.read_text()
    assert f"127.0.0.1:{port}" in node.log.read_text()
    assert node.stop() == 0


def test_stored_data_of_a_newer_format_are_left_alone(node, tmp_path):
    try:
        server = CouchServer(tmp_path / "couch")
        server.start()
    except CouchUnavailable as reason:
        pytest.skip(str(reason))
    try:
        put(server, "dcron-cluster", b"")
        settings = replace(INITIAL_SETTINGS, format_version=99)
        put(server, f"dcron-cluster/{SETTINGS_ID}", json.dumps(settings_body(settings)).encode())
        node.environment["DCRON_STORE"] = server.url
        refuses_to_start(node, "format 99", "upgrade")
    finally:
        server.stop()


def put(server: CouchServer, path: str, body: bytes) -> None:
    """One PUT beside dcron."""
    headers = {"Content-Type": "application/json"}
    request = Request(f"http://{server.address}/{path}", body, headers, method="PUT")
    urlopen(request, timeout=10).close()


def test_no_node_reachable_is_exit_code_4_and_names_the_servers(tmp_path):
    [port] = free_ports(1)
    nowhere = NodeProcess("nowhere", port, tmp_path, {})
    cluster = Cluster(tmp_path, "sqlite:///unused", "file:///unused", {}, nodes=1)
    done = cluster.cli("job", "list", via=[nowhere])
    assert done.returncode == 4
    assert done.stderr.decode().count("\n") == 1
    assert nowhere.address in done.stderr.decode()


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node on SQLite and a folder, serving; tests use jobs of their own."""
    folder = tmp_path_factory.mktemp("lone")
    made = Cluster(folder, f"sqlite:///{folder}/dcron.db", f"file://{folder}/objects", {}, nodes=1)
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--schedule", "61 * * * *"], 2, ("schedule", "minute", "0-59")),
        (["--schedule", "* * * *"], 2, ("schedule", "five")),
        (["--schedule", "0 0 31 2 *"], 2, ("schedule", "never")),
        (["--timezone", "Mars/Olympus"], 2, ("timezone", "Mars/Olympus")),
        (["--timeout", "-5s"], 2, ("timeout",)),
        (["--env", "1A=x"], 2, ("environment", "1A")),
        (["--env", "DCRON_JOB=x"], 2, ("environment", "DCRON_")),
        (["--label", "a b=c"], 2, ("label",)),
        (["--interpreter", "no such"], 2, ("interpreter",)),
        (["--max-attempts", "0"], 2, ("max", "attempts")),
    ],
)
def test_bad_input_gets_one_line_and_registers_nothing(lone, tmp_path, words, code, says):
    script = tmp_path / "script.sh"
    script.write_text("true\n")
    options = ["--schedule", "@daily", "--interpreter", "sh", *words]
    done = lone.cli("job", "create", "bad", *options, str(script))
    message = done.stderr.decode()
    assert done.returncode == code, message
    for word in says:
        assert word in message.lower() or word in message
    assert lone.cli("job", "show", "bad").returncode == 3


def test_names_and_scripts_that_cannot_be_are_refused(lone, tmp_path):
    script = tmp_path / "script.sh"
    script.write_text("true\n")
    options = ("--schedule", "@daily", "--interpreter", "sh")
    assert lone.cli("job", "create", "Bad\x07Name", *options, str(script)).returncode == 2
    empty = tmp_path / "empty.sh"
    empty.touch()
    assert lone.cli("job", "create", "empty", *options, str(empty)).returncode == 2
    large = tmp_path / "large.sh"
    large.write_bytes(b"#" * (11 * 1024 * 1024))
    assert lone.cli("job", "create", "large", *options, str(large)).returncode == 2
    lone.do("job", "create", "twice", *options, str(script))
    again = lone.cli("job", "create", "twice", *options, str(script))
    assert again.returncode == 1
    assert b"twice" in again.stderr
    assert lone.cli("job", "delete", "never-was", "--yes").returncode == 3
    assert lone.cli("execution", "show", "nonsense").returncode in {2, 3}


def test_an_interpreter_that_no_node_has_is_a_failed_result_that_says_so(lone, tmp_path):
    script = tmp_path / "script.rb"
    script.write_text("puts 1\n")
    lone.do("job", "create", "ruby", "--schedule", "@yearly", "--interpreter", "no-such-ruby", str(script))
    done = lone.cli("job", "run", "ruby", "--wait")
    assert done.returncode == 1
    [execution] = lone.executions("ruby")
    assert execution["state"] == "EXECUTION_STATE_FAILED"
    assert "no-such-ruby" in execution["message"]


def test_a_script_finds_its_environment_and_none_of_the_nodes_secrets(node, tmp_path):
    node.environment |= {"AWS_SECRET_ACCESS_KEY": SECRET, "DCRON_LOG_FORMAT": "json"}
    secretive = Cluster(tmp_path, "sqlite:///unused", "file:///unused", {}, nodes=1)
    secretive.nodes = [node]
    secretive.start()
    secretive.create("env", "env", "--schedule", "@yearly", "--env", "MINE=yes")
    secretive.do("job", "run", "env", "--wait")
    [execution] = secretive.executions("env")
    found = dict(
        line.split("=", 1) for line in secretive.do("execution", "log", execution["id"]).splitlines()
    )
    assert found["DCRON_JOB"] == "env"
    assert found["DCRON_EXECUTION_ID"] == execution["id"]
    assert found["DCRON_ATTEMPT"] == "1"
    assert found["DCRON_NODE"] == "alone"
    assert found["DCRON_SCHEDULED_AT"].endswith("Z")
    assert found["MINE"] == "yes"
    assert SECRET not in str(found)
    assert "DCRON_STORE" not in found
    assert all(json.loads(line) for line in node.log.read_text().splitlines())
