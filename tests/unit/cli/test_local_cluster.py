"""`dcron dev` with real node processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dcron.cli import demo
from dcron.cli.failures import CommandFailed
from dcron.cli.local_cluster import LocalCluster, free_ports, require_free_ports
from tests.unit.cli.fake_node import Done

SECONDS = 60


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A folder in which no process is left: keepers end by themselves soon after their nodes."""
    yield tmp_path / "data with spaces"
    deadline = time.monotonic() + SECONDS
    while demo._processes_in(tmp_path):
        assert time.monotonic() < deadline, f"left behind: {demo._processes_in(tmp_path)}"
        time.sleep(0.1)


class Dev:
    """A `dcron dev` that runs, and what it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.printed: list[str] = []

    def read_until(self, words: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line)
            if words in line:
                return line
        raise AssertionError(f"{words!r} was not printed, but\n{''.join(self.printed)}")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=SECONDS)
        self.printed.append(out)
        return self.process.returncode


@contextmanager
def running_dev(data: Path, port: int, nodes: int) -> Iterator[Dev]:
    command = [
        sys.executable,
        "-m",
        "dcron",
        "dev",
        "--nodes",
        str(nodes),
        "--port",
        str(port),
        "--data",
        str(data),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield Dev(process)
        finally:
            if process.poll() is None:
                process.terminate()


def adjacent_free_ports(count: int) -> int:
    """The first of several ports in a row that are free."""
    for port in range(20_000, 30_000, count):
        try:
            require_free_ports(range(port, port + count))
        except CommandFailed:
            continue
        return port
    raise AssertionError("no free ports")


def test_a_cluster_on_loopback_takes_nothing_from_the_environment_of_another(data: Path) -> None:
    names = ("ADVERTISE", "TLS_CERTIFICATE", "TLS_KEY", "TLS_CA", "INSECURE")
    of_another = {f"DCRON_{name}": "/elsewhere" for name in names}
    cluster = LocalCluster(data, [7420], {**of_another, "DCRON_SLOTS": "3"})
    environment = cluster._environment_of(cluster.nodes[0])
    assert not set(of_another) & set(environment)
    assert environment["DCRON_SLOTS"] == "3"


def test_a_cluster_runs_until_ctrl_c_and_its_data_survive_a_restart(
    data: Path, dcron: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = adjacent_free_ports(2)
    script = data.parent / "hello.sh"
    script.write_text("#!/bin/sh\necho hello\n")
    with running_dev(data, port, 2) as dev:
        servers = dev.read_until("DCRON_SERVER=").partition("=")[2].strip()
        assert servers == f"127.0.0.1:{port},127.0.0.1:{port + 1}"
        monkeypatch.setenv("DCRON_SERVER", servers)
        created = dcron("job", "create", "hello", "--schedule", "@yearly", str(script))
        assert (created.exit_code, created.err) == (0, "")
        assert dcron("job", "run", "hello", "--wait").exit_code == 0
        assert dev.end(signal.SIGINT) == 0
    log = "".join(dev.printed)
    assert re.search(r"^node1 \| .*serving", log, re.MULTILINE)
    assert re.search(r"^node2 \| .*serving", log, re.MULTILINE)
    assert dcron("job", "list").exit_code == 4

    with running_dev(data, port, 2) as dev:
        dev.read_until("DCRON_SERVER=")
        assert "hello" in dcron("job", "list").out
        assert dev.end(signal.SIGTERM) == 0


def test_a_node_that_dies_by_itself_is_named_and_ends_in_a_failure(data: Path) -> None:
    with running_dev(data, adjacent_free_ports(1), 1) as dev:
        dev.read_until("DCRON_SERVER=")
        [node] = _children(dev.process.pid)
        os.kill(node, signal.SIGKILL)
        dev.read_until("node1 has ended by itself (exit code -9)")
        dev.read_until("dcron: ended by themselves: node1")
        assert dev.process.wait(SECONDS) == 1


def test_a_port_in_use_is_one_line(data: Path, dcron: Callable[..., Done]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = dcron("dev", "--nodes", "1", "--port", str(port), "--data", str(data))
    assert (done.exit_code, done.out) == (1, "")
    reason = f"port {port} on 127.0.0.1 cannot be used (Address already in use)"
    assert done.err == f"dcron: {reason}; choose others with --port\n"
    assert not data.exists()


def test_a_node_that_cannot_start_is_told_with_its_last_line(data: Path) -> None:
    environment = {**os.environ, "DCRON_SLOTS": "none"}
    with LocalCluster(data, free_ports(1), environment) as cluster, pytest.raises(CommandFailed) as failure:
        cluster.start()
    assert "node1 ended at once: dcron: slots: expected a whole number" in str(failure.value)


def test_the_demo_tells_the_expectation_that_failed_and_the_nodes_last_lines(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = LocalCluster(data, free_ports(1), {})
    cluster.nodes[0].tail.append("a line of its log")
    with (
        pytest.raises(CommandFailed, match="expected that pigs fly; it did not happen"),
        demo._logs_on_failure(cluster),
    ):
        demo._expect("pigs fly", False)
    assert (
        capsys.readouterr().err
        == "--- the last lines of node1 (ended with exit code None)\n    a line of its log\n"
    )


def test_the_demo_notices_a_process_that_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "STEP_SECONDS", 0.1)
    command = [sys.executable, "-c", "print(flush=True); input()", str(tmp_path)]
    straggler = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        # Only now is its command line certain to be seen.
        assert straggler.stdout is not None
        straggler.stdout.readline()
        with pytest.raises(CommandFailed, match="no process is left"), demo._nothing_left_behind(tmp_path):
            pass
    finally:
        straggler.communicate(b"\n", timeout=SECONDS)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
