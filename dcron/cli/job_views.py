"""Jobs as tables and details."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from google.protobuf.timestamp_pb2 import Timestamp

from dcron.cli.durations import format_span
from dcron.cli.execution_views import state_name
from dcron.cli.output import format_labels, format_time, print_details, print_table
from dcron.rpc import dcron_pb2 as pb

__all__ = ["format_time_in", "job_state_name", "next_line", "print_job", "print_jobs", "print_revisions"]

DIGEST_SHOWN = 12
"""Digits of a script's digest that tell it from others of its job."""

SHOWN = frozenset(
    {
        "schedule",
        "timezone",
        "interpreter",
        "script",
        "arguments",
        "environment",
        "labels",
        "timeout",
        "grace",
        "max_attempts",
        "failure_retries",
    }
)
"""Fields of a specification that `print_job` puts into words; others are shown as they are."""


def print_jobs(jobs: Sequence[pb.Job]) -> None:
    """One line for each job."""
    rows = [
        (
            job.name,
            job.specification.schedule,
            job.specification.timezone,
            format_time(job.next_at),
            _state(job).partition("; ")[0],
            _last(job),
        )
        for job in jobs
    ]
    print_table(("NAME", "SCHEDULE", "TIMEZONE", "NEXT", "STATE", "LAST"), rows)


def print_job(job: pb.Job) -> None:
    """All there is to say of one job."""
    wanted = job.specification
    print_details(
        [
            ("name", job.name),
            ("state", _state(job)),
            ("schedule", f"{wanted.schedule} ({wanted.timezone})"),
            ("next", format_time_in(job.next_at, wanted.timezone) if job.HasField("next_at") else ""),
            ("waits because", job.waiting_reason),
            ("active", job.active.execution_id),
            ("manual runs waiting", ", ".join(job.waiting_execution_ids)),
            ("last", _last(job)),
            ("last execution", job.last.execution_id),
            ("interpreter", wanted.interpreter or "the script's own #! line"),
            ("script", f"{wanted.script.file_name} ({wanted.script.size_bytes} bytes)"),
            ("script sha256", wanted.script.sha256),
            ("arguments", shlex.join(wanted.arguments)),
            ("environment", format_labels(dict(wanted.environment))),
            ("labels", format_labels(dict(wanted.labels))),
            ("timeout", _timeout(wanted)),
            ("attempts at most", str(wanted.max_attempts)),
            ("retries of failures", str(wanted.failure_retries)),
            *_others(wanted),
            ("revision", f"{job.revision} of {format_time(job.changed_at)}"),
            ("created", format_time(job.created_at)),
            ("uid", job.uid),
        ]
    )


def print_revisions(revisions: Sequence[pb.JobRevision]) -> None:
    """One line for each revision."""
    rows = [
        (
            str(each.revision),
            format_time(each.changed_at),
            "removed" if each.deleted else "paused" if each.paused else "",
            each.specification.schedule,
            each.specification.timezone,
            each.specification.script.file_name,
            each.specification.script.sha256[:DIGEST_SHOWN],
        )
        for each in revisions
    ]
    print_table(("REVISION", "CHANGED", "STATE", "SCHEDULE", "TIMEZONE", "SCRIPT", "SHA256"), rows)


def job_state_name(state: int) -> str:
    """`paused` for JOB_STATE_PAUSED."""
    known = pb.JobState.DESCRIPTOR.values_by_number.get(state)
    return known.name.removeprefix("JOB_STATE_").lower() if known else str(state)


def _others(wanted: pb.Specification) -> list[tuple[str, str]]:
    """Fields of a specification for which nobody has found words, as they are."""
    return [
        (field.name.replace("_", " "), _as_it_is(value))
        for field, value in wanted.ListFields()
        if field.name not in SHOWN
    ]


def _as_it_is(value: Any) -> str:
    if isinstance(value, Mapping):
        return format_labels(dict(value))
    return str(value) if isinstance(value, str | int | float) else shlex.join(map(str, value))


def next_line(job: pb.Job) -> str:
    """Next run of a job, in words."""
    if job.paused:
        return f"paused; start it with 'dcron job resume {job.name}'"
    if not job.HasField("next_at"):
        return "its schedule has no further occurrence"
    return f"next at {format_time_in(job.next_at, job.specification.timezone)}"


def format_time_in(instant: Timestamp, timezone: str) -> str:
    """An instant in a job's timezone and in UTC; in UTC alone where this machine lacks that timezone."""
    in_utc = format_time(instant)
    try:
        zone = ZoneInfo(timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return in_utc
    local = instant.ToDatetime(tzinfo=UTC).astimezone(zone)
    if zone.key == "UTC":
        return in_utc
    return f"{local:%Y-%m-%d %H:%M:%S} {zone.key} ({in_utc})"


def _state(job: pb.Job) -> str:
    if job.HasField("active"):
        state = f"waiting: {job.waiting_reason}" if job.waiting_reason else "running"
        return f"{state} (paused)" if job.paused else state
    if job.paused:
        return "paused"
    return f"waiting: {job.waiting_reason}" if job.waiting_reason else "idle"


def _last(job: pb.Job) -> str:
    if not job.HasField("last"):
        return ""
    return f"{state_name(job.last.state)} {format_time(job.last.settled_at)}"


def _timeout(wanted: pb.Specification) -> str:
    if not wanted.timeout.ToNanoseconds():
        return "none: no limit, and no retry when the node is lost"
    grace = format_span(wanted.grace)
    return f"{format_span(wanted.timeout)}, then TERM, and KILL {grace} later"
