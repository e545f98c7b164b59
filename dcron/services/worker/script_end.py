"""Outcomes of scripts that ended, from what their keeper saw."""

from __future__ import annotations

import signal
from datetime import datetime

from dcron.domain.model import Claim, LogObject, Outcome, State
from dcron.ports import ProcessExit

__all__ = ["outcome_of_end"]


def outcome_of_end(
    claim: Claim, ended: ProcessExit, node_id: str, now: datetime, max_log_bytes: int
) -> Outcome:
    """Outcome of a claimed attempt whose script ended.

    `now` stands in where the keeper has no time of the end. At most `max_log_bytes` of the log are kept; the
    rest counts as cut."""
    state, message = _state_of(ended)
    kept_bytes = min(ended.log_bytes, max_log_bytes)
    log = LogObject(_log_key(claim), kept_bytes, ended.log_bytes - kept_bytes) if kept_bytes else None
    return Outcome(
        execution_id=claim.execution_id,
        token=claim.token,
        node_id=node_id,
        state=state,
        finished_at=ended.finished_at or now,
        started_at=ended.started_at,
        exit_code=ended.exit_code,
        signal=ended.signal,
        message=message,
        cpu_seconds=ended.cpu_seconds,
        peak_memory_bytes=ended.peak_memory_bytes,
        log=log,
    )


def _state_of(ended: ProcessExit) -> tuple[State, str]:
    """State that an end amounts to, and what is to be said of it."""
    if ended.cancelled:
        return State.CANCELLED, "stopped on request"
    if ended.timed_out:
        return State.TIMED_OUT, "stopped at its timeout"
    if ended.lost:
        return (
            State.LOST,
            "nobody saw how it ended: the keeper of its node was killed, or the machine restarted",
        )
    if ended.error:
        return State.FAILED, ended.error
    if ended.signal is not None:
        return State.FAILED, f"ended by signal {_signal_name(ended.signal)}"
    return (State.SUCCEEDED, "") if ended.exit_code == 0 else (State.FAILED, "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _log_key(claim: Claim) -> str:
    """logs/<month>/<uid>/<occurrence>-<attempt>-<token>.log, so that a lifecycle rule can end a month."""
    uid, key, attempt = claim.id
    return f"logs/{claim.scheduled_at:%Y-%m}/{uid}/{key}-{attempt:03d}-{claim.token}.log"
