"""Executions as tables, details and exit codes."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from google.protobuf.descriptor import EnumDescriptor

from dcron.cli.durations import format_duration, format_span
from dcron.cli.failures import ExitCode
from dcron.cli.output import format_time, print_details, print_table
from dcron.rpc import dcron_pb2 as pb

__all__ = [
    "exit_code_of",
    "format_result",
    "is_settled",
    "print_execution",
    "print_executions",
    "state_name",
    "verdict_name",
]

TIMED_OUT_EXIT_CODE = 124
"""Exit code of a run that timed out, as timeout(1) has it."""
SIGNAL_EXIT_CODE_BASE = 128
"""Added to the number of the signal that ended a run, as shells have it."""
_MIB = 1024 * 1024


def state_name(state: int) -> str:
    """`timed_out` for EXECUTION_STATE_TIMED_OUT; a number that this version does not know, as it is."""
    return _name(pb.ExecutionState.DESCRIPTOR, "EXECUTION_STATE_", state)


def verdict_name(verdict: int) -> str:
    """`retry` for VERDICT_RETRY."""
    return _name(pb.Verdict.DESCRIPTOR, "VERDICT_", verdict)


def _name(enum: EnumDescriptor, prefix: str, number: int) -> str:
    known = enum.values_by_number.get(number)
    return known.name.removeprefix(prefix).lower() if known else str(number)


def is_settled(execution: pb.Execution) -> bool:
    """Whether it has an outcome, or a person has said how it ended, if only by a newer version's word."""
    has_verdict = bool(execution.verdict) or execution.HasField("verdict_at")
    return execution.state != pb.EXECUTION_STATE_RUNNING or has_verdict


def exit_code_of(execution: pb.Execution) -> int:
    """The exit code that stands for how a settled execution ended: the script's own where there is one."""
    if execution.HasField("exit_code"):
        return execution.exit_code
    if execution.state == pb.EXECUTION_STATE_TIMED_OUT:
        return TIMED_OUT_EXIT_CODE
    if execution.state == pb.EXECUTION_STATE_CANCELLED:
        return ExitCode.INTERRUPTED
    if execution.HasField("signal"):
        return SIGNAL_EXIT_CODE_BASE + execution.signal
    by_verdict = execution.state == pb.EXECUTION_STATE_RUNNING and execution.verdict == pb.VERDICT_SUCCEEDED
    return ExitCode.OK if execution.state == pb.EXECUTION_STATE_SUCCEEDED or by_verdict else ExitCode.FAILED


def format_result(execution: pb.Execution) -> str:
    """End of an execution, in a few words."""
    parts = []
    if execution.HasField("exit_code"):
        parts.append(f"exit {execution.exit_code}")
    if execution.HasField("signal"):
        parts.append(_signal_name(execution.signal))
    if execution.state == pb.EXECUTION_STATE_SKIPPED:
        parts.append(f"{_count(execution)} {_skip_reason(execution.skip_reason)}")
    if execution.message:
        parts.append(execution.message)
    if execution.verdict:
        parts.append(f"resolved as {verdict_name(execution.verdict)}")
    if execution.needs_attention:
        parts.append("its node or its outcome is gone; needs a person: see 'dcron execution resolve --help'")
    return "; ".join(parts)


def print_executions(executions: Sequence[pb.Execution]) -> None:
    """One line for each."""
    rows = [
        (
            execution.id,
            execution.job,
            state_name(execution.state),
            execution.node_id,
            format_time(execution.started_at),
            _took(execution),
            format_result(execution),
        )
        for execution in executions
    ]
    print_table(("ID", "JOB", "STATE", "NODE", "STARTED", "TOOK", "RESULT"), rows)


def print_execution(execution: pb.Execution) -> None:
    """All there is to say of one."""
    skipped = execution.state == pb.EXECUTION_STATE_SKIPPED
    print_details(
        [
            ("id", execution.id),
            ("job", execution.job),
            ("state", state_name(execution.state)),
            ("result", format_result(execution)),
            ("scheduled", format_time(execution.scheduled_at)),
            ("trigger", "manual" if execution.manual else "schedule"),
            (
                "stands for",
                f"{_count(execution)}, until {format_time(execution.occurrences_until)}"
                if execution.HasField("occurrences_until")
                else "",
            ),
            ("attempt", str(execution.attempt) if not skipped else ""),
            ("node", execution.node_id),
            ("claimed", format_time(execution.claimed_at)),
            ("started", format_time(execution.started_at)),
            ("finished", format_time(execution.finished_at)),
            ("took", _took(execution)),
            ("timeout", format_span(execution.timeout) if execution.HasField("timeout") else ""),
            ("cpu", format_span(execution.cpu_time) if execution.HasField("cpu_time") else ""),
            ("peak memory", _memory(execution)),
            ("log", _log(execution)),
            ("resolved", _verdict(execution)),
            ("script", execution.script.file_name),
            ("script sha256", execution.script.sha256),
            ("revision", str(execution.revision) if not skipped else ""),
            ("term", str(execution.term) if not skipped else ""),
        ]
    )


def _skip_reason(reason: int) -> str:
    return _name(pb.SkipReason.DESCRIPTOR, "SKIP_REASON_", reason)


def _took(execution: pb.Execution) -> str:
    if not execution.HasField("started_at") or not execution.HasField("finished_at"):
        return ""
    took = execution.finished_at.ToDatetime() - execution.started_at.ToDatetime()
    return format_duration(max(0.0, took.total_seconds()))


def _count(execution: pb.Execution) -> str:
    if not execution.HasField("occurrence_count"):
        return "many occurrences"
    count = execution.occurrence_count
    return f"{count} occurrence{'' if count == 1 else 's'}"


def _verdict(execution: pb.Execution) -> str:
    """Person who said how it ended. A true outcome that came later stands in the result beside it."""
    if not execution.verdict:
        return ""
    at = f" at {format_time(execution.verdict_at)}" if execution.HasField("verdict_at") else ""
    reason = f": {execution.verdict_reason}" if execution.verdict_reason else ""
    return f"as {verdict_name(execution.verdict)} by {execution.verdict_by}{at}{reason}"


def _memory(execution: pb.Execution) -> str:
    return f"{execution.peak_memory_bytes / _MIB:.1f} MiB" if execution.peak_memory_bytes else ""


def _log(execution: pb.Execution) -> str:
    if not execution.HasField("finished_at"):
        return ""
    cut = f", {execution.log_cut_bytes} more were not kept" if execution.log_cut_bytes else ""
    return f"{execution.log_bytes} bytes{cut}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
