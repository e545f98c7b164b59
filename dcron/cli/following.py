"""Waits for what runs elsewhere to end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from dcron.cli.client import Client
from dcron.cli.execution_views import is_settled
from dcron.cli.failures import CommandFailed, NotFoundFailure, UnreachableFailure
from dcron.cli.subjects import JOBS, execution_named, job_named
from dcron.domain.execution_id import MAX_ATTEMPT, ExecutionId
from dcron.rpc import dcron_pb2 as pb

__all__ = ["await_occurrence", "await_outcome", "await_settled", "await_start"]

FIRST_PAUSE_SECONDS = 0.05
PAUSE_GROWTH = 1.5
MAX_PAUSE_SECONDS = 2.0
PATIENCE_SECONDS = 30.0
"""Time for which nodes may be away, or an occurrence without a trace, before waiting is given up."""

_Answer = TypeVar("_Answer")


def await_start(client: Client, execution_id: str) -> None:
    """Return once a worker has claimed the execution; NotFoundFailure when none does in time.

    One that was just asked for is not stored before it is claimed, and may wait for a free worker."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    may_come = ExecutionId.parse_or_none(execution_id) is not None
    request = pb.GetExecutionRequest(id=execution_id)
    for _ in _pauses():
        try:
            client.read(lambda public: public.GetExecution, request, execution_named(execution_id))
        except NotFoundFailure:
            if not may_come or time.monotonic() > deadline:
                raise
        else:
            return


def await_outcome(client: Client, execution_id: str) -> pb.Execution:
    """One execution once it is settled, which is to be soon: its log has ended."""
    request = pb.GetExecutionRequest(id=execution_id)
    deadline = time.monotonic() + PATIENCE_SECONDS
    for _ in _pauses():
        found = client.read(lambda public: public.GetExecution, request, execution_named(execution_id))
        if is_settled(found):
            return found
        if time.monotonic() > deadline:
            break
    raise CommandFailed(
        f"the log has ended, but the outcome has not arrived yet; "
        f"see 'dcron execution show {execution_id}' later"
    )


def await_settled(client: Client, execution_id: str) -> pb.Execution:
    """One execution once it is settled, however long it waits for its start and runs.

    NotFoundFailure where neither it is stored nor its job is to start it."""
    answered_at = time.monotonic()
    for _ in _pauses():
        try:
            found = _wait_once(client, execution_id)
        except UnreachableFailure:
            if time.monotonic() > answered_at + PATIENCE_SECONDS:
                raise
            continue
        if found is not None and is_settled(found):
            return found
        answered_at = time.monotonic()
    raise AssertionError("pauses never end")


def _wait_once(client: Client, execution_id: str) -> pb.Execution | None:
    """What a node answers after its time of waiting; None for what is yet to start."""
    request = pb.WaitExecutionRequest(id=execution_id)
    try:
        return client.read(lambda public: public.WaitExecution, request, execution_named(execution_id))
    except NotFoundFailure:
        if _is_to_start(client, execution_id):
            return None
        # It may have started between the two looks.
        found = _execution(client, execution_id)
        if found is None:
            raise
        return found


def _is_to_start(client: Client, execution_id: str) -> bool:
    """Whether a job lists an execution as waiting or as worked on."""
    identifier = ExecutionId.parse_or_none(execution_id)
    if identifier is None:
        return False
    newest = pb.ListJobRevisionsRequest(job=identifier.uid, page_size=1)
    kept = client.read(lambda public: public.ListJobRevisions, newest, JOBS).revisions
    if not kept:
        return False
    request = pb.GetJobRequest(name=kept[0].job)
    job = _or_none(lambda: client.read(lambda public: public.GetJob, request, job_named(request.name)))
    return job is not None and execution_id in (job.active.execution_id, *job.waiting_execution_ids)


def await_occurrence(client: Client, job: str, first_attempt_id: str) -> pb.Execution:
    """The attempt that settles the occurrence, however many it takes and however long."""
    first_attempt = ExecutionId.parse(first_attempt_id)
    traced_at = answered_at = time.monotonic()
    for _ in _pauses():
        try:
            settled, traced = _look(client, job, first_attempt)
        except UnreachableFailure:
            if time.monotonic() > answered_at + PATIENCE_SECONDS:
                raise
            continue
        answered_at = time.monotonic()
        if settled is not None:
            return settled
        if traced:
            traced_at = answered_at
        elif answered_at > traced_at + PATIENCE_SECONDS:
            break
    raise CommandFailed(
        f"the run of job {job!r} left no trace: the job was probably deleted or changed before it started"
    )


def _look(client: Client, name: str, first_attempt: ExecutionId) -> tuple[pb.Execution | None, bool]:
    """The settling attempt if there is one, and whether there is any trace of the occurrence."""
    job = _or_none(
        lambda: client.read(lambda public: public.GetJob, pb.GetJobRequest(name=name), job_named(name))
    )
    if job is not None:
        waits = first_attempt.text in job.waiting_execution_ids
        if waits or _is_of(job.active.execution_id, first_attempt):
            return None, True
        if _is_of(job.last.execution_id, first_attempt):
            found = _execution(client, job.last.execution_id)
            # An attempt that was given up before anybody claimed it has no record of its own.
            return found or pb.Execution(id=job.last.execution_id, job=name, state=job.last.state), True
    # Later occurrences have taken its place in the job, or the job is gone.
    newest = _newest_attempt(client, first_attempt)
    if newest is None:
        return None, False
    return (newest if is_settled(newest) else None), True


def _is_of(execution_id: str, first_attempt: ExecutionId) -> bool:
    """Whether an execution id, or "", is of the same occurrence."""
    identifier = ExecutionId.parse_or_none(execution_id)
    return identifier is not None and identifier.reaches(first_attempt)


def _newest_attempt(client: Client, first_attempt: ExecutionId) -> pb.Execution | None:
    newest = None
    for attempt in range(1, MAX_ATTEMPT + 1):
        found = _execution(client, first_attempt.with_attempt(attempt).text)
        if found is None:
            break
        newest = found
    return newest


def _execution(client: Client, execution_id: str) -> pb.Execution | None:
    request = pb.GetExecutionRequest(id=execution_id)
    return _or_none(
        lambda: client.read(lambda public: public.GetExecution, request, execution_named(execution_id))
    )


def _or_none(ask: Callable[[], _Answer]) -> _Answer | None:
    try:
        return ask()
    except NotFoundFailure:
        return None


def _pauses() -> Iterator[None]:
    """Yields at once, and then after growing pauses, for ever."""
    pause_seconds = FIRST_PAUSE_SECONDS
    while True:
        yield
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * PAUSE_GROWTH, MAX_PAUSE_SECONDS)
