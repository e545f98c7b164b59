"""`execution wait`: through a queue and a node's absence, to every end that an execution can have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from dcron.cli import following
from dcron.rpc import dcron_pb2 as pb
from tests.unit.cli.fake_node import Done, FakeNode, aborting

UID = "01M84D6QBS78X2GEQR0TKKPTAC"
EXECUTION = f"{UID}:01M84D6QBS78X2GEQR0TKKPTAD:001"
OTHER = f"{UID}:01M84D6QBS78X2GEQR0TKKPTAE:001"
ENDED = pb.Execution(id=EXECUTION, state=pb.EXECUTION_STATE_FAILED, exit_code=4)
RUNNING = pb.Execution(id=EXECUTION, state=pb.EXECUTION_STATE_RUNNING)
NOT_FOUND = aborting(grpc.StatusCode.NOT_FOUND, "no such execution is stored")
AWAY = aborting(grpc.StatusCode.UNAVAILABLE, "store is away")
KEPT = pb.ListJobRevisionsResponse(revisions=[pb.JobRevision(job="backup", uid=UID, revision=2)])


def one_after_the_other(*answers: Any) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Give each answer once, and the last one for ever."""
    left = list(answers)

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        following_one = left.pop(0) if len(left) > 1 else left[0]
        return following_one(request, context) if callable(following_one) else following_one

    return answer


def wait(node: FakeNode, dcron: Callable[..., Done]) -> Done:
    return dcron("execution", "wait", EXECUTION, "--server", node.address)


@pytest.mark.parametrize(
    "job",
    [
        pb.Job(name="backup", uid=UID, waiting_execution_ids=[OTHER, EXECUTION]),
        pb.Job(name="backup", uid=UID, active=pb.ActiveOccurrence(execution_id=EXECUTION)),
    ],
)
def test_a_run_that_its_job_is_yet_to_start_is_waited_for(
    job: pb.Job, node: FakeNode, dcron: Callable[..., Done]
) -> None:
    node.on("WaitExecution", one_after_the_other(NOT_FOUND, NOT_FOUND, RUNNING, ENDED))
    node.on("ListJobRevisions", KEPT)
    node.on("GetJob", job)
    assert wait(node, dcron).exit_code == 4
    assert [request.job for request in node.asked("ListJobRevisions")] == [UID, UID]
    assert [request.name for request in node.asked("GetJob")] == ["backup", "backup"]


@pytest.mark.parametrize(
    ("kept", "job"),
    [
        (KEPT, pb.Job(name="backup", uid=UID, waiting_execution_ids=[OTHER])),
        (KEPT, aborting(grpc.StatusCode.NOT_FOUND, "job 'backup' not found")),
        (pb.ListJobRevisionsResponse(), None),
    ],
)
def test_what_no_job_is_to_start_is_not_found(
    kept: Any, job: Any, node: FakeNode, dcron: Callable[..., Done]
) -> None:
    node.on("WaitExecution", NOT_FOUND)
    node.on("ListJobRevisions", kept)
    node.on("GetJob", job)
    node.on("GetExecution", NOT_FOUND)
    done = wait(node, dcron)
    assert (done.exit_code, len(node.asked("WaitExecution"))) == (3, 1)
    assert "no such execution is stored" in done.err


def test_a_run_that_starts_while_its_job_is_looked_at_is_found(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    node.on("WaitExecution", NOT_FOUND)
    node.on("ListJobRevisions", KEPT)
    node.on("GetJob", pb.Job(name="backup", uid=UID))
    node.on("GetExecution", ENDED)
    assert wait(node, dcron).exit_code == 4


def test_nodes_that_are_away_for_a_moment_do_not_end_the_wait(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    node.on("WaitExecution", one_after_the_other(AWAY, NOT_FOUND, AWAY, ENDED))
    node.on("ListJobRevisions", AWAY)
    assert wait(node, dcron).exit_code == 4


def test_nodes_that_stay_away_end_the_wait(
    node: FakeNode, dcron: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 0.1)
    node.on("WaitExecution", AWAY)
    assert wait(node, dcron).exit_code not in (0, 3)


def test_a_verdict_in_a_newer_versions_word_ends_the_wait(node: FakeNode, dcron: Callable[..., Done]) -> None:
    spoken = pb.Execution(
        id=EXECUTION, state=pb.EXECUTION_STATE_RUNNING, verdict_by="ops", verdict_at=Timestamp(seconds=9)
    )
    node.on("WaitExecution", one_after_the_other(spoken, NOT_FOUND))
    assert wait(node, dcron).exit_code == 1


def test_a_node_that_answers_at_once_is_asked_after_pauses(
    node: FakeNode, dcron: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(following.time, "sleep", slept.append)
    node.on("WaitExecution", one_after_the_other(RUNNING, RUNNING, RUNNING, ENDED))
    assert wait(node, dcron).exit_code == 4
    assert slept == sorted(slept)
    assert len(slept) == 3
