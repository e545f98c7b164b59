"""Failover: what is read is asked elsewhere, what is written is sent once."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from dcron.cli import client as client_module
from dcron.rpc import dcron_pb2 as pb
from tests.unit.cli.fake_node import Done, FakeNode, aborting

UNAVAILABLE = aborting(grpc.StatusCode.UNAVAILABLE, "document store gives no answer")


def test_the_next_server_is_tried_when_one_is_down(
    node: FakeNode, dead_address: str, dcron: Callable[..., Done]
) -> None:
    node.on("PauseJob", pb.Job(name="a"))
    done = dcron("job", "pause", "a", "--server", f"{dead_address},{node.address}")
    assert (done.exit_code, done.err) == (0, "")
    assert [request.name for request in node.asked("PauseJob")] == ["a"]


def test_a_server_that_accepts_and_says_nothing_is_left_after_two_seconds(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    node.on("ListNodes", pb.ListNodesResponse())
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        done = dcron("node", "list", "--server", f"{address},{node.address}")
    assert done.exit_code == 0
    assert client_module.CONNECT_SECONDS - 0.1 < done.seconds < 2 * client_module.CONNECT_SECONDS


def test_no_reachable_node_is_exit_code_4_in_one_line(dead_address: str, dcron: Callable[..., Done]) -> None:
    done = dcron("job", "list", "--server", dead_address)
    assert (done.exit_code, done.out) == (4, "")
    assert done.err.startswith(f"dcron: no node reachable ({dead_address}: connection refused)")
    assert done.err.count("\n") == 1


def test_a_server_that_does_not_speak_grpc_is_not_a_node(dcron: Callable[..., Done]) -> None:
    done = dcron("job", "list", "--server", "no-such-host.invalid:1")
    assert done.exit_code == 4
    assert done.err.count("\n") == 1


def test_a_read_that_one_node_cannot_answer_is_asked_of_the_next(
    make_node: Callable[[], FakeNode], dcron: Callable[..., Done]
) -> None:
    first, second = make_node(), make_node()
    first.on("ListNodes", UNAVAILABLE)
    second.on("ListNodes", pb.ListNodesResponse(nodes=[pb.Node(id="n7")]))
    done = dcron("node", "list", "--server", f"{first.address},{second.address}")
    assert done.exit_code == 0
    assert "n7" in done.out


def test_a_read_that_no_node_can_answer_says_why_and_is_not_unreachable(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    node.on("ListNodes", UNAVAILABLE)
    done = dcron("node", "list", "--server", node.address)
    assert done.exit_code == 1
    assert "document store gives no answer" in done.err


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
def test_a_change_whose_answer_is_lost_is_not_sent_again(
    code: grpc.StatusCode, make_node: Callable[[], FakeNode], dcron: Callable[..., Done]
) -> None:
    first, second = make_node(), make_node()
    first.on("PauseJob", aborting(code, "gone"))
    done = dcron("job", "pause", "a", "--server", f"{first.address},{second.address}")
    assert done.exit_code == 1
    assert "may or may not have been made; check with 'dcron job show a'" in done.err
    assert (len(first.calls), second.calls) == (1, [])


def test_a_run_is_asked_for_again_with_the_same_request_id(
    make_node: Callable[[], FakeNode], dcron: Callable[..., Done]
) -> None:
    first, second = make_node(), make_node()
    first.on("RunJob", UNAVAILABLE)
    second.on("RunJob", pb.RunJobResponse(execution_id="U:R:001"))
    done = dcron("job", "run", "a", "--server", f"{first.address},{second.address}")
    assert (done.exit_code, done.out) == (0, "U:R:001\n")
    assert first.asked("RunJob") == second.asked("RunJob")


def test_a_log_goes_on_at_the_byte_where_a_node_failed(
    make_node: Callable[[], FakeNode], dcron: Callable[..., Done]
) -> None:
    first, second = make_node(), make_node()

    def broken(request: Any, context: grpc.ServicerContext) -> Iterator[pb.ReadLogResponse]:
        yield pb.ReadLogResponse(data=b"one\ntw")
        context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")

    first.on("ReadLog", broken)
    second.on(
        "ReadLog",
        lambda r, c: iter([pb.ReadLogResponse(data=part) for part in (b"one\n", b"two\nth", b"ree\n")]),
    )
    second.on("GetExecution", pb.Execution(state=pb.EXECUTION_STATE_SUCCEEDED, exit_code=0))
    done = dcron("execution", "log", "U:R:001", "--server", f"{first.address},{second.address}")
    assert (done.exit_code, done.out) == (0, "one\ntwo\nthree\n")


def test_a_log_of_which_no_node_has_the_rest_ends_with_a_failure(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    def broken(request: Any, context: grpc.ServicerContext) -> Iterator[pb.ReadLogResponse]:
        yield pb.ReadLogResponse(data=b"one\n")
        context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")

    node.on("ReadLog", broken)
    done = dcron("execution", "log", "U:R:001", "--server", node.address)
    assert (done.exit_code, done.out) == (1, "one\n")
    assert "shutting down" in done.err


@pytest.mark.parametrize(
    ("code", "details", "exit_code", "line"),
    [
        (
            grpc.StatusCode.INVALID_ARGUMENT,
            "schedule: minute '99' is not valid",
            2,
            "dcron: schedule: minute '99' is not valid\n",
        ),
        (
            grpc.StatusCode.NOT_FOUND,
            "job 'bakup' not found",
            3,
            "dcron: job 'bakup' not found; see 'dcron job list'\n",
        ),
        (grpc.StatusCode.NOT_FOUND, "", 3, "dcron: job 'bakup' not found; see 'dcron job list'\n"),
        (grpc.StatusCode.ABORTED, "job 'bakup' is at revision 3", 1, "dcron: job 'bakup' is at revision 3\n"),
        (grpc.StatusCode.FAILED_PRECONDITION, "is\x1b[2J\nfrozen", 1, "dcron: is [2J frozen\n"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "", 1, "dcron: the node answered RESOURCE_EXHAUSTED"),
    ],
)
def test_what_a_node_refuses_is_one_line_and_its_exit_code(
    code: grpc.StatusCode,
    details: str,
    exit_code: int,
    line: str,
    node: FakeNode,
    dcron: Callable[..., Done],
) -> None:
    node.on("GetJob", aborting(code, details))
    done = dcron("job", "show", "bakup", "--server", node.address)
    assert (done.exit_code, done.out) == (exit_code, "")
    assert done.err.startswith(line)
    assert done.err.count("\n") == 1


def test_a_node_of_another_version_is_named_as_such(node: FakeNode, dcron: Callable[..., Done]) -> None:
    done = dcron("job", "show", "a", "--server", node.address)
    assert done.exit_code == 1
    assert "is it a dcron node of this version?" in done.err
