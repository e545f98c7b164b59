"""`job run --wait` and `execution log`: they end as the script did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from dcron.cli import following
from dcron.cli.main import main
from dcron.domain.ids import is_ulid
from dcron.rpc import dcron_pb2 as pb
from tests.unit.cli.fake_node import Done, FakeNode, aborting

UID = "01M84D6QBS78X2GEQR0TKKPTAC"
EXECUTION = f"{UID}:20261123T130000Z:001"
OUTCOMES = [
    (pb.Execution(state=pb.EXECUTION_STATE_SUCCEEDED, exit_code=0), 0),
    (pb.Execution(state=pb.EXECUTION_STATE_FAILED, exit_code=7), 7),
    (pb.Execution(state=pb.EXECUTION_STATE_FAILED, signal=9), 137),
    (pb.Execution(state=pb.EXECUTION_STATE_FAILED, message="no interpreter 'x'"), 1),
    (pb.Execution(state=pb.EXECUTION_STATE_TIMED_OUT, signal=15), 124),
    (pb.Execution(state=pb.EXECUTION_STATE_CANCELLED, signal=15), 130),
    (pb.Execution(state=pb.EXECUTION_STATE_LOST), 1),
    (pb.Execution(state=pb.EXECUTION_STATE_NOT_STARTED), 1),
    (pb.Execution(state=pb.EXECUTION_STATE_RUNNING, verdict=pb.VERDICT_SUCCEEDED), 0),
    (pb.Execution(state=pb.EXECUTION_STATE_RUNNING, verdict=pb.VERDICT_FAILED), 1),
]


class Occurrence:
    """A node's view of one manual run, which goes on by one step at each look at the job."""

    def __init__(
        self, node: FakeNode, *steps: Callable[[str], pb.Job | None], **executions: pb.Execution
    ) -> None:
        self._steps = list(steps)
        self._executions = executions
        self._key = ""
        node.on("RunJob", self._run)
        node.on("GetJob", self._job)
        node.on("GetExecution", self._execution)

    def _run(self, request: pb.RunJobRequest, context: grpc.ServicerContext) -> pb.RunJobResponse:
        assert is_ulid(request.request_id)
        self._key = request.request_id
        return pb.RunJobResponse(execution_id=f"{UID}:{self._key}:001")

    def _job(self, request: Any, context: grpc.ServicerContext) -> pb.Job:
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        job = step(self._key)
        if job is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "job 'a' not found")
        return job

    def _execution(self, request: pb.GetExecutionRequest, context: grpc.ServicerContext) -> pb.Execution:
        uid, key, attempt = request.id.split(":")
        assert (uid, key) == (UID, self._key)
        if f"attempt{attempt}" not in self._executions:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such execution")
        return self._executions[f"attempt{attempt}"]


def waits(key: str) -> pb.Job:
    return pb.Job(
        name="a", uid=UID, waiting_execution_ids=[f"{UID}:01M84D6QBS78X2GEQR0TKKPTAD:001", f"{UID}:{key}:001"]
    )


def runs(attempt: int) -> Callable[[str], pb.Job]:
    return lambda key: pb.Job(
        name="a", uid=UID, active=pb.ActiveOccurrence(execution_id=f"{UID}:{key}:{attempt:03d}")
    )


def settled(attempt: int, state: int = pb.EXECUTION_STATE_SUCCEEDED) -> Callable[[str], pb.Job]:
    return lambda key: pb.Job(
        name="a", uid=UID, last=pb.LastOutcome(execution_id=f"{UID}:{key}:{attempt:03d}", state=state)
    )


def overtaken(key: str) -> pb.Job:
    return pb.Job(
        name="a",
        uid=UID,
        last=pb.LastOutcome(execution_id=f"{UID}:20261123T130000Z:001", state=pb.EXECUTION_STATE_FAILED),
    )


def deleted(key: str) -> None:
    return None


@pytest.mark.parametrize(("outcome", "exit_code"), OUTCOMES)
def test_a_run_that_is_waited_for_exits_as_the_script_did(
    outcome: pb.Execution, exit_code: int, node: FakeNode, dcron: Callable[..., Done]
) -> None:
    Occurrence(node, settled(1), attempt001=outcome)
    done = dcron("job", "run", "a", "--wait", "--server", node.address)
    assert done.exit_code == exit_code
    assert done.out.startswith(f"{UID}:")


def test_without_wait_only_the_id_is_printed(node: FakeNode, dcron: Callable[..., Done]) -> None:
    Occurrence(node, waits)
    done = dcron("job", "run", "a", "--server", node.address)
    assert (done.exit_code, done.err, node.asked("GetJob")) == (0, "", [])


def test_waiting_lasts_through_further_attempts(node: FakeNode, dcron: Callable[..., Done]) -> None:
    Occurrence(
        node,
        waits,
        runs(1),
        runs(2),
        settled(2),
        attempt001=pb.Execution(state=pb.EXECUTION_STATE_TIMED_OUT),
        attempt002=pb.Execution(state=pb.EXECUTION_STATE_FAILED, exit_code=5, attempt=2, node_id="n2"),
    )
    done = dcron("job", "run", "a", "--wait", "--server", node.address)
    assert done.exit_code == 5
    assert done.err == "failed on n2, attempt 2: exit 5\n"


@pytest.mark.parametrize("gone", [overtaken, deleted])
def test_a_run_that_the_job_no_longer_shows_is_found_by_its_attempts(
    gone: Callable[[str], pb.Job | None], node: FakeNode, dcron: Callable[..., Done]
) -> None:
    Occurrence(
        node,
        runs(1),
        gone,
        attempt001=pb.Execution(state=pb.EXECUTION_STATE_LOST),
        attempt002=pb.Execution(state=pb.EXECUTION_STATE_FAILED, exit_code=6),
    )
    assert dcron("job", "run", "a", "--wait", "--server", node.address).exit_code == 6


def test_a_run_that_leaves_no_trace_is_given_up(
    node: FakeNode, dcron: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 0.2)
    Occurrence(node, waits, deleted)
    done = dcron("job", "run", "a", "--wait", "--server", node.address)
    assert done.exit_code == 1
    assert "left no trace" in done.err


def test_an_attempt_that_nobody_claimed_ends_as_its_job_says(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    Occurrence(node, settled(1, pb.EXECUTION_STATE_CANCELLED))
    assert dcron("job", "run", "a", "--wait", "--server", node.address).exit_code == 130


def test_nodes_that_are_away_for_a_moment_do_not_end_the_wait(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    Occurrence(node, settled(1), attempt001=pb.Execution(state=pb.EXECUTION_STATE_FAILED, exit_code=9))
    away = [aborting(grpc.StatusCode.UNAVAILABLE, "store is away")] * 3
    later = node._handlers["GetJob"]

    def get(request: Any, context: grpc.ServicerContext) -> pb.Job:
        return away.pop()(request, context) if away else later(request, context)

    node.on("GetJob", get)
    assert dcron("job", "run", "a", "--wait", "--server", node.address).exit_code == 9
    assert len(node.asked("GetJob")) == 4


@pytest.mark.parametrize(("outcome", "exit_code"), OUTCOMES)
@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_a_log_is_given_byte_for_byte_and_exits_as_the_script_did(
    outcome: pb.Execution,
    exit_code: int,
    follow: list[str],
    node: FakeNode,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    data = bytes(range(256)) * 3
    node.on(
        "ReadLog",
        lambda r, c: iter([pb.ReadLogResponse(data=data[:100]), pb.ReadLogResponse(data=data[100:])]),
    )
    node.on("GetExecution", outcome)
    assert main(["execution", "log", EXECUTION, *follow, "--server", node.address]) == exit_code
    assert capsysbinary.readouterr().out == data
    assert [request.follow for request in node.asked("ReadLog")] == [bool(follow)]


def test_the_log_so_far_of_what_still_runs_is_exit_code_0(node: FakeNode, dcron: Callable[..., Done]) -> None:
    node.on("ReadLog", lambda r, c: iter([pb.ReadLogResponse(data=b"so far")]))
    node.on("GetExecution", pb.Execution(state=pb.EXECUTION_STATE_RUNNING))
    done = dcron("execution", "log", EXECUTION, "--server", node.address)
    assert (done.exit_code, done.out) == (0, "so far")


def test_a_followed_log_waits_for_the_start_and_for_the_outcome(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    not_yet = aborting(
        grpc.StatusCode.NOT_FOUND, f"execution {EXECUTION} has not started: all nodes are busy"
    )
    running = pb.Execution(state=pb.EXECUTION_STATE_RUNNING)
    answers: list[Any] = [
        not_yet,
        not_yet,
        running,
        running,
        pb.Execution(state=pb.EXECUTION_STATE_FAILED, exit_code=3),
    ]

    def get(request: Any, context: grpc.ServicerContext) -> pb.Execution:
        answer = answers.pop(0)
        return answer(request, context) if callable(answer) else answer

    node.on("ReadLog", lambda r, c: iter([]))
    node.on("GetExecution", get)
    assert dcron("execution", "log", "--follow", EXECUTION, "--server", node.address).exit_code == 3
    assert answers == []


def test_a_followed_log_of_what_cannot_be_an_execution_is_not_waited_for(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    node.on("GetExecution", aborting(grpc.StatusCode.NOT_FOUND, ""))
    done = dcron("execution", "log", "--follow", "backup", "--server", node.address)
    assert (done.exit_code, len(node.calls)) == (3, 1)
    assert done.err == "dcron: execution 'backup' not found; see 'dcron execution list'\n"


def test_an_outcome_that_does_not_arrive_is_said(
    node: FakeNode, dcron: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 0.1)
    node.on("ReadLog", lambda r, c: iter([]))
    node.on("GetExecution", pb.Execution(state=pb.EXECUTION_STATE_RUNNING))
    done = dcron("execution", "log", "--follow", EXECUTION, "--server", node.address)
    assert done.exit_code == 1
    assert "the outcome has not arrived yet" in done.err
