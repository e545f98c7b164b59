"""What clients ask for, out of messages: filters, masks and verdicts. What is unknown is InvalidInput."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask

from dcron.domain.audit import AuditQuery
from dcron.domain.errors import InvalidInput
from dcron.domain.model import VerdictKind
from dcron.domain.queries import SKIPPED, ExecutionQuery, JobQuery, JobState, StateFilter
from dcron.domain.validation import check_name_prefix, shown
from dcron.rpc import dcron_pb2 as pb
from dcron.wire import MODEL_NAMES, instant_from
from dcron.wire_words import STATES_BACK, VERDICTS_BACK

__all__ = [
    "audit_query_from",
    "execution_query_from",
    "job_query_from",
    "mask_from",
    "patience_from",
    "verdict_from",
]

USUAL_PATIENCE_SECONDS = 20.0
MAX_PATIENCE_SECONDS = 60.0
_Meaning = TypeVar("_Meaning")
_BoundName = Literal["scheduled_from", "scheduled_until"]

# Bounds of what a filter can ask for: what is before the one or after the other is never scheduled.
_FIRST = datetime(2000, 1, 1, tzinfo=UTC)
_LAST = datetime(3000, 1, 1, tzinfo=UTC)
_LISTED_STATES: Mapping[int, StateFilter] = {**STATES_BACK, pb.EXECUTION_STATE_SKIPPED: SKIPPED}
_JOB_STATES: Mapping[int, JobState] = {
    pb.JOB_STATE_IDLE: JobState.IDLE,
    pb.JOB_STATE_ACTIVE: JobState.ACTIVE,
    pb.JOB_STATE_PAUSED: JobState.PAUSED,
}


def job_query_from(message: pb.ListJobsRequest) -> JobQuery:
    """Which jobs are asked for."""
    check_name_prefix(message.name_prefix)
    return JobQuery(
        name_prefix=message.name_prefix,
        labels=tuple(sorted(message.labels.items())),
        states=_known("states", _JOB_STATES, message.states),
        last_states=_known("last_states", STATES_BACK, message.last_states),
    )


def execution_query_from(message: pb.ListExecutionsRequest) -> ExecutionQuery:
    """Which executions are asked for."""
    return ExecutionQuery(
        job=message.job,
        states=_known("states", _LISTED_STATES, message.states),
        node_id=message.node_id,
        scheduled_from=_bound(message, "scheduled_from"),
        scheduled_until=_bound(message, "scheduled_until"),
        manual=message.manual if message.HasField("manual") else None,
        oldest_first=message.oldest_first,
    )


def _known(field: str, meanings: Mapping[int, _Meaning], numbers: Iterable[int]) -> tuple[_Meaning, ...]:
    """What each number of a filter means, each once, in one order whatever the request's was."""
    unknown = sorted(set(numbers) - set(meanings))
    if unknown:
        raise InvalidInput(field, f"{unknown[0]} is nothing that this node knows; leave it out")
    return tuple(meanings[number] for number in sorted(set(numbers)))


def _bound(message: pb.ListExecutionsRequest, field: _BoundName) -> datetime | None:
    """The bound of a filter; absent is None. What no occurrence can be beyond is cut to what ids can tell."""
    if not message.HasField(field):
        return None
    return min(max(instant_from(field, getattr(message, field)), _FIRST), _LAST)


def mask_from(mask: FieldMask, message: pb.Specification) -> list[str]:
    """The fields of the model's Specification that an update is to take: those that the mask names, all for
    "*", and those that are set where it names none."""
    known = pb.Specification.DESCRIPTOR.fields_by_name
    paths = list(mask.paths) or [field.name for field, _ in message.ListFields()]
    if paths == ["*"]:
        paths = list(known)
    unknown = sorted(set(paths) - set(known))
    if unknown or not paths:
        wrong = f"unknown: {', '.join(map(shown, unknown))}" if unknown else "no field is named or set"
        raise InvalidInput("update_mask", f'{wrong}; name some of {", ".join(sorted(known))}, or "*" for all')
    return [MODEL_NAMES.get(path, path) for path in dict.fromkeys(paths)]


def patience_from(message: pb.WaitExecutionRequest) -> float:
    """How many seconds a client waits for an end."""
    if not message.HasField("timeout"):
        return USUAL_PATIENCE_SECONDS
    seconds = message.timeout.ToNanoseconds() / 1e9
    if not 0 <= seconds <= MAX_PATIENCE_SECONDS:
        raise InvalidInput("timeout", f"{seconds:g} s is not valid; give 0 to {MAX_PATIENCE_SECONDS:g} s")
    return seconds


def verdict_from(number: pb.Verdict.ValueType) -> VerdictKind:
    """A person's verdict."""
    try:
        return VERDICTS_BACK[number]
    except KeyError:
        raise InvalidInput("verdict", "give succeeded, failed or retry") from None


def audit_query_from(message: pb.ListAuditRequest) -> AuditQuery:
    """Query for records of changes, from a message."""
    return AuditQuery(
        since=instant_from("since", message.since) if message.HasField("since") else None,
        until=instant_from("until", message.until) if message.HasField("until") else None,
        job=message.job,
        who=message.who,
    )
