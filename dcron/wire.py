"""Protobuf messages from and to the model; the only place that knows both.

Absent timestamps are absent fields. What cannot be understood is InvalidInput with the field's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from dcron.domain.concerns import Concern
from dcron.domain.errors import InvalidInput
from dcron.domain.execution_id import ExecutionId
from dcron.domain.model import Active, Coalesced, Job, LastOutcome, Script, Specification
from dcron.domain.nodes import LeaderReport
from dcron.domain.offers import OfferAnswer, OfferedAttempt
from dcron.domain.planning import AHEAD_SECONDS
from dcron.domain.queries import Listed
from dcron.domain.validation import shown
from dcron.domain.views import ClusterView, ExecutionView, HeldExecution, NodeView, SkippedView
from dcron.rpc import dcron_pb2 as pb
from dcron.wire_words import (
    result_from,
    result_number,
    skip_reason_number,
    state_number,
    told,
    verdict_number,
)

__all__ = [
    "CHANNEL_MESSAGE_BYTES",
    "MODEL_NAMES",
    "answer_from",
    "answer_message",
    "attempt_from",
    "attempt_message",
    "cluster_message",
    "duration",
    "execution_message",
    "instant_from",
    "job_message",
    "listed_message",
    "maybe_timestamp",
    "node_message",
    "skipped_message",
    "specification_asked",
    "specification_from",
    "specification_message",
    "timestamp",
]

CHANNEL_MESSAGE_BYTES = 48 * 1024 * 1024
"""Largest message between nodes: MAX_OFFER attempts, each with MAX_TEXT_BYTES of text, and room beside."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_SECONDS = 86_400
_NANOSECONDS = 1_000_000_000
MODEL_NAMES = {"timeout": "timeout_seconds", "grace": "grace_seconds"}
"""Fields of Specification that the model has by another name."""
_PLAIN_FIELDS = frozenset(pb.Specification.DESCRIPTOR.fields_by_name) - {"script", *MODEL_NAMES}
"""Fields of Specification that are texts, numbers, lists or maps of texts, under one name in both."""


def timestamp(instant: datetime) -> Timestamp:
    """An instant as protobuf has it."""
    # Each job of a listing has several, and `FromDatetime` takes three times as long.
    since_epoch = instant - _EPOCH
    return Timestamp(
        seconds=since_epoch.days * _DAY_SECONDS + since_epoch.seconds, nanos=since_epoch.microseconds * 1_000
    )


def duration(seconds: float) -> Duration:
    """A span of time as protobuf has it, to the nanosecond."""
    message = Duration()
    message.FromNanoseconds(round(seconds * _NANOSECONDS))
    return message


def specification_message(specification: Specification) -> pb.Specification:
    """Specification as a message."""
    return pb.Specification(
        **{name: getattr(specification, name) for name in _PLAIN_FIELDS},
        script=_script_message(specification.script),
        timeout=_maybe_duration(specification.timeout_seconds),
        grace=duration(specification.grace_seconds),
    )


def specification_from(message: pb.Specification) -> Specification:
    """What is wanted of a job, unchecked; what is not set has its default."""
    given: dict[str, Any] = {"schedule": ""}
    for field, value in message.ListFields():
        if field.name in _PLAIN_FIELDS:
            given[field.name] = _plain(value)
        elif field.name in MODEL_NAMES:
            given[MODEL_NAMES[field.name]] = _seconds(value)
    script = message.script
    return Specification(**given, script=Script(script.sha256, script.size_bytes, script.file_name))


def specification_asked(message: pb.Specification) -> Specification:
    """What a client wants of a job; InvalidInput where it says what only a newer version understands."""
    if any(len(UnknownFieldSet(part)) for part in (message, message.script)):
        raise InvalidInput(
            "specification", "has a field that this node does not know; ask a node of a newer version"
        )
    return specification_from(message)


def _plain(value: Any) -> Any:
    """A text or number as it is; several texts as a tuple, pairs of them as a map."""
    if isinstance(value, str | int | float):
        return value
    return dict(value) if isinstance(value, Mapping) else tuple(value)


def job_message(job: Job, report: LeaderReport) -> pb.Job:
    """A job, with the leader's reason should it wait."""
    place = job.place
    reasons = [waiting.reason for waiting in report.waiting if waiting.job == job.name]
    if place.active and place.active.execution_id in report.attention:
        reasons.append("its node or its outcome is gone; it needs a person, see 'dcron cluster status'")
    return pb.Job(
        name=job.name,
        uid=job.uid,
        revision=job.revision,
        specification=specification_message(job.specification),
        paused=job.paused,
        created_at=timestamp(job.created_at),
        changed_at=timestamp(job.changed_at),
        next_at=maybe_timestamp(place.next_at),
        active=_active_message(place.active) if place.active else None,
        waiting_execution_ids=[ExecutionId(job.uid, run.request_id, 1).text for run in place.waiting],
        last=_last_message(place.last) if place.last else None,
        waiting_reason=reasons[0] if reasons else "",
    )


def execution_message(view: ExecutionView) -> pb.Execution:
    """One execution with its outcome, if it has one."""
    claim, outcome, verdict = view.claim, view.outcome, view.verdict
    message = pb.Execution(
        id=view.id,
        job=claim.job,
        state=state_number(view.state),
        scheduled_at=timestamp(claim.scheduled_at),
        attempt=claim.id.attempt,
        manual=claim.manual,
        node_id=claim.node_id,
        term=claim.term,
        revision=claim.revision,
        script=_script_message(claim.script),
        claimed_at=timestamp(claim.claimed_at),
        timeout=_maybe_duration(claim.timeout_seconds),
        needs_attention=view.needs_attention,
    )
    if claim.coalesced is not None:
        message.occurrences_until.FromDatetime(claim.coalesced.until)
        if claim.coalesced.count is not None:
            message.occurrence_count = claim.coalesced.count
    if verdict is not None:
        message.verdict, message.verdict_by = verdict_number(verdict.kind), verdict.by
        message.verdict_reason = told("as", verdict.kind, verdict.reason)
        message.verdict_at.FromDatetime(verdict.at)
    if outcome is not None:
        message.MergeFrom(
            pb.Execution(
                started_at=maybe_timestamp(outcome.started_at),
                finished_at=timestamp(outcome.finished_at),
                exit_code=outcome.exit_code,
                signal=outcome.signal,
                message=told("ended as", outcome.state, outcome.message),
                cpu_time=duration(outcome.cpu_seconds),
                peak_memory_bytes=outcome.peak_memory_bytes,
                log_bytes=outcome.log.size_bytes + outcome.log.cut_bytes if outcome.log else 0,
                log_cut_bytes=outcome.log.cut_bytes if outcome.log else 0,
            )
        )
    return message


def listed_message(listed: Listed) -> pb.Execution:
    """An execution or a skip record."""
    return skipped_message(listed) if isinstance(listed, SkippedView) else execution_message(listed)


def skipped_message(view: SkippedView) -> pb.Execution:
    """The record of occurrences that did not run."""
    skip = view.skip
    return pb.Execution(
        id=skip.id,
        job=view.job,
        state=pb.EXECUTION_STATE_SKIPPED,
        scheduled_at=timestamp(skip.scheduled_at),
        occurrences_until=timestamp(skip.until),
        occurrence_count=skip.count,
        skip_reason=skip_reason_number(skip.reason),
        message=told("skipped as", skip.reason),
    )


def node_message(view: NodeView) -> pb.Node:
    """One node."""
    record = view.record
    return pb.Node(
        id=record.node_id,
        address=record.address,
        version=record.version,
        alive=view.alive,
        leading=view.leading,
        draining=view.draining,
        slots=record.slots,
        running=record.running,
        labels=record.labels,
        started_at=timestamp(record.started_at),
        renewed_at=timestamp(record.renewed_at),
        spooled=record.spooled,
        warnings=record.warnings,
        stopped=record.stopped,
        spooled_since=maybe_timestamp(record.spooled_since),
        lease=_maybe_duration(record.lease_seconds),
    )


def cluster_message(
    view: ClusterView, needs_attention: Sequence[ExecutionView], concerns: Sequence[Concern]
) -> pb.ClusterStatus:
    """The cluster in one answer."""
    settings = view.settings
    return pb.ClusterStatus(
        answering_node_id=view.answering_id,
        leader_id=view.leader_id,
        term=view.term,
        summary=view.summary,
        nodes=[node_message(node) for node in view.nodes],
        frozen=settings is not None and settings.frozen,
        frozen_at=maybe_timestamp(settings.frozen_at if settings and settings.frozen else None),
        waiting=[
            pb.Waiting(job=waiting.job, execution_id=waiting.execution_id, reason=waiting.reason)
            for waiting in view.report.waiting
        ],
        waiting_count=view.report.waiting_count,
        needs_attention=[execution_message(execution) for execution in needs_attention],
        active_count=view.report.active_count,
        format_version=settings.format_version if settings else 0,
        concerns=[pb.Concern(what=concern.what, remedy=concern.remedy) for concern in concerns],
        store_trouble=view.store_trouble,
        store_trouble_since=maybe_timestamp(view.store_trouble_since),
        held=[_held_message(view.answering_id, held) for held in view.held],
    )


def _held_message(node_id: str, held: HeldExecution) -> pb.HeldExecution:
    return pb.HeldExecution(
        node_id=node_id,
        execution_id=held.execution_id,
        job=held.job,
        state=state_number(held.state),
        since=timestamp(held.since),
        waits_for=held.waits_for,
    )


def attempt_message(attempt: OfferedAttempt) -> pb.Attempt:
    """One attempt, offered."""
    coalesced = attempt.coalesced
    return pb.Attempt(
        execution_id=attempt.execution_id,
        job=attempt.job,
        revision=attempt.revision,
        specification=specification_message(attempt.specification),
        scheduled_at=timestamp(attempt.scheduled_at),
        manual=attempt.manual,
        coalesced_count=coalesced.count if coalesced else None,
        coalesced_until=timestamp(coalesced.until) if coalesced else None,
        start_in=_maybe_duration(attempt.start_in_seconds),
    )


def attempt_from(message: pb.Attempt) -> OfferedAttempt:
    """One offered attempt."""
    start_in_seconds = _seconds(message.start_in)
    if not 0 <= start_in_seconds <= AHEAD_SECONDS:
        raise InvalidInput("start_in", f"{start_in_seconds:g} s is not valid; give 0 to {AHEAD_SECONDS:g}")
    if ExecutionId.parse_or_none(message.execution_id) is None:
        raise InvalidInput("execution_id", f"{shown(message.execution_id)} is not an execution id")
    coalesced = None
    if message.HasField("coalesced_until"):
        count = message.coalesced_count if message.HasField("coalesced_count") else None
        coalesced = Coalesced(instant_from("coalesced_until", message.coalesced_until), count)
    return OfferedAttempt(
        execution_id=message.execution_id,
        job=message.job,
        revision=message.revision,
        specification=specification_from(message.specification),
        scheduled_at=instant_from("scheduled_at", message.scheduled_at),
        manual=message.manual,
        coalesced=coalesced,
        start_in_seconds=start_in_seconds,
    )


def answer_message(answer: OfferAnswer) -> pb.OfferAnswer:
    """A worker's answer to one attempt."""
    return pb.OfferAnswer(result=result_number(answer.result), reason=answer.reason)


def answer_from(message: pb.OfferAnswer) -> OfferAnswer:
    """A worker's answer; one that only a newer node knows counts as unable."""
    return OfferAnswer(result_from(message.result), message.reason)


def _maybe_duration(seconds: float) -> Duration | None:
    """Absent for 0, where that means none."""
    return duration(seconds) if seconds else None


def _seconds(message: Duration) -> float:
    return message.ToNanoseconds() / _NANOSECONDS


def maybe_timestamp(instant: datetime | None) -> Timestamp | None:
    """An instant as protobuf has it; None for none."""
    return None if instant is None else timestamp(instant)


def instant_from(field: str, message: Timestamp) -> datetime:
    """An instant out of a message; InvalidInput naming `field` where it is none."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(field, f"is not an instant: {error}") from error


def _script_message(script: Script) -> pb.Script:
    return pb.Script(sha256=script.sha256, size_bytes=script.size_bytes, file_name=script.file_name)


def _active_message(active: Active) -> pb.ActiveOccurrence:
    return pb.ActiveOccurrence(
        execution_id=active.execution_id,
        scheduled_at=timestamp(active.occurrence.scheduled_at),
        intended_at=timestamp(active.intended_at),
        manual=active.occurrence.manual,
        attempt=active.attempt,
    )


def _last_message(last: LastOutcome) -> pb.LastOutcome:
    return pb.LastOutcome(
        execution_id=last.execution_id,
        state=state_number(last.state),
        settled_at=timestamp(last.settled_at),
    )
