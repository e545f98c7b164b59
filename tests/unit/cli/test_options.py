from __future__ import annotations

from collections.abc import Callable

import pytest

from dcron.cli.options import parse_servers
from dcron.rpc import dcron_pb2 as pb
from tests.unit.cli.fake_node import Done, FakeNode


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("a:1", ("a:1",)),
        ("a:1, b:2,", ("a:1", "b:2")),
        ("a", ("a:7420",)),
        ("[::1]:5", ("[::1]:5",)),
        ("[::1]", ("[::1]:7420",)),
    ],
)
def test_servers_are_listed_with_commas(text: str, servers: tuple[str, ...]) -> None:
    assert parse_servers(text) == servers


@pytest.mark.parametrize("text", ["", ",", "a:", "a:b", "a:0", "a:65536", ":1", "http://a:1", "a b:1", "a:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        parse_servers(text)


@pytest.mark.parametrize("place", ["before", "after", "environment"])
def test_the_server_may_be_named_anywhere(
    place: str, node: FakeNode, dcron: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    node.on("ListNodes", pb.ListNodesResponse())
    if place == "environment":
        monkeypatch.setenv("DCRON_SERVER", node.address)
        done = dcron("node", "list")
    elif place == "before":
        done = dcron("--server", node.address, "node", "list")
    else:
        done = dcron("node", "list", "--server", node.address)
    assert (done.exit_code, len(node.calls)) == (0, 1)


def test_the_server_nearest_to_the_command_wins(
    node: FakeNode, dead_address: str, dcron: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    node.on("ListNodes", pb.ListNodesResponse())
    monkeypatch.setenv("DCRON_SERVER", dead_address)
    assert dcron("--server", dead_address, "node", "list", "--server", node.address).exit_code == 0


def test_a_malformed_server_is_a_usage_error(dcron: Callable[..., Done]) -> None:
    done = dcron("node", "list", "--server", "nowhere:port")
    assert done.exit_code == 2
    assert done.err.count("\n") == 1
    assert "'nowhere:port' is not host:port" in done.err
