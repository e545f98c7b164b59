"""Fake nodes, and the command line to ask them with."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from dcron.cli.main import main
from tests.unit.cli.fake_node import Done, FakeNode


@pytest.fixture
def make_node() -> Iterator[Callable[[], FakeNode]]:
    nodes: list[FakeNode] = []

    def make() -> FakeNode:
        node = FakeNode()
        node.start()
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
def dcron(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """The command line, in this process."""
    monkeypatch.delenv("DCRON_SERVER", raising=False)

    def run(*arguments: str) -> Done:
        started = time.monotonic()
        exit_code = main(arguments)
        out, err = capsysbinary.readouterr()
        return Done(exit_code, out.decode(), err.decode(), time.monotonic() - started)

    return run
