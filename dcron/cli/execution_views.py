"""Executions as tables, details and exit codes."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from dcron.cli.durations import format_duration
from dcron.cli.failures import ExitCode
from dcron.cli.output import format_time, print_details, print_table
from dcron.rpc import dcron_pb2 as pb

__all__ = ["exit_code_of", "format_result", "is_settled", "print_execution", "print_executions", "state_name"]

TIMED_OUT_EXIT_CODE = 124
"""Exit code of a run that timed out, as timeout(1) has it."""
SIGNAL_EXIT_CODE_BASE = 128
"""Exit code of a run that was cancelled, as shells have it for SIGINT."""
VERDICT_SUCCEEDED = "succeeded"
VERDICT_RETRY = "retry"
_MIB = 1024 * 1024


def state_name(state: int) -> str:
    """`timed_out` for TIMED_OUT; a number that this version does not know, as it is."""
    known = pb.ExecutionState.DESCRIPTOR.values_by_number.get(state)
    return known.name.lower() if known else str(state)


def is_settled(execution: pb.Execution) -> bool:
    """Whether it has an outcome, or a person has said how it ended."""
    return execution.state != pb.RUNNING or bool(execution.verdict)


def exit_code_of(execution: pb.Execution) -> int:
    """The exit code that stands for how a settled execution ended: the script's own where there is one."""
    if execution.HasField("exit_code"):
        return execution.exit_code
    if execution.state == pb.TIMED_OUT:
        return TIMED_OUT_EXIT_CODE
    if execution.state == pb.CANCELLED:
        return ExitCode.INTERRUPTED
    if execution.HasField("signal"):
        return SIGNAL_EXIT_CODE_BASE + execution.signal
    by_verdict = execution.state == pb.RUNNING and execution.verdict == VERDICT_SUCCEEDED
    return ExitCode.OK if execution.state == pb.SUCCEEDED or by_verdict else ExitCode.FAILED


def format_result(execution: pb.Execution) -> str:
    """End of an execution, in a few words."""
    parts = []
    if execution.HasField("exit_code"):
        parts.append(f"exit {execution.exit_code}")
    if execution.HasField("signal"):
        parts.append(_signal_name(execution.signal))
    if execution.state == pb.SKIPPED:
        parts.append(f"{_count(execution)} {execution.skip_reason}")
    if execution.message:
        parts.append(execution.message)
    if execution.verdict:
        parts.append(f"resolved as {execution.verdict}")
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
    skipped = execution.state == pb.SKIPPED
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
            ("timeout", format_duration(execution.timeout_seconds) if execution.timeout_seconds else ""),
            ("cpu", format_duration(execution.cpu_seconds) if execution.HasField("finished_at") else ""),
            ("peak memory", _memory(execution)),
            ("log", _log(execution)),
            ("resolved", _verdict(execution)),
            ("script", execution.script.file_name),
            ("script sha256", execution.script.sha256),
            ("revision", str(execution.revision) if not skipped else ""),
            ("term", str(execution.term) if not skipped else ""),
        ]
    )


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
    return f"as {execution.verdict} by {execution.verdict_by}{at}{reason}"


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
