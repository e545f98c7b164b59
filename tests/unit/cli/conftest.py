"""Fake nodes, and the command line to ask them with."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dcron.cli.main import main
from dcron.credentials import CertificateFiles
from tests.unit.cli.fake_node import Done, FakeNode


@pytest.fixture
def make_node() -> Iterator[Callable[[], FakeNode]]:
    nodes: list[FakeNode] = []

    def make(tls: CertificateFiles | None = None) -> FakeNode:
        node = FakeNode()
        node.start(tls)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.stop()


@pytest.fixture
def node(make_node: Callable[[], FakeNode]) -> FakeNode:
    return make_node()


@pytest.fixture
def dead_address() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def dcron(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Done]:
    """The command line, in this process, without anything of this machine's."""
    for name in ("SERVER", "CONTEXT", "CA", "CERT", "KEY"):
        monkeypatch.delenv(f"DCRON_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("dcron.cli.targets.SYSTEM_FILE", tmp_path / "etc/client.toml")

    def run(*arguments: str) -> Done:
        started = time.monotonic()
        exit_code = main(arguments)
        out, err = capsysbinary.readouterr()
        return Done(exit_code, out.decode(), err.decode(), time.monotonic() - started)

    return run
