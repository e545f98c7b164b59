"""One script: what was asked for, the process it became, and the record of its end."""

from __future__ import annotations

import math
import os
import resource
import time
from pathlib import Path

from dcron.keeper.cgroups import Cgroup
from dcron.keeper.journal import now_text
from dcron.keeper.logs import ScriptLog
from dcron.keeper.processes import boot_id
from dcron.keeper.protocol import ProtocolError
from dcron.keeper.records import LOG_NAME, is_token
from dcron.keeper.stopping import Stop

__all__ = ["Limits", "Request", "Script", "failed_record"]

KIBIBYTE = 1024


class Limits:
    """Limits of a script: how long it may run and how much it may print. The ledger keeps them of a
    request."""

    __slots__ = ("grace_seconds", "max_log_bytes", "timeout_seconds")

    def __init__(self, fields: dict[str, object]) -> None:
        self.timeout_seconds = _number(fields, "timeout_seconds")
        self.grace_seconds = _number(fields, "grace_seconds")
        self.max_log_bytes = int(_number(fields, "max_log_bytes"))


class Request:
    """A script to start, as the daemon sent it; raises ProtocolError where it is malformed."""

    __slots__ = (
        "argv",
        "claim",
        "environment",
        "execution_id",
        "folder",
        "limits",
        "not_after_boottime",
        "token",
    )

    def __init__(self, fields: dict[str, object]) -> None:
        self.execution_id = _text(fields, "execution_id")
        self.token = _text(fields, "token")
        self.folder = Path(_text(fields, "folder"))
        self.limits = Limits(fields)
        self.not_after_boottime = _number(fields, "not_after_boottime")
        argv, environment, claim = fields.get("argv"), fields.get("environment"), fields.get("claim")
        if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
            raise ProtocolError("argv: not a list of words")
        if not isinstance(environment, dict) or not all(isinstance(v, str) for v in environment.values()):
            raise ProtocolError("environment: not an object of strings")
        if not isinstance(claim, dict):
            raise ProtocolError("claim: not an object")
        if not is_token(self.token):
            raise ProtocolError("token: cannot be a file name")
        if not self.folder.is_absolute():
            raise ProtocolError("folder: not an absolute path")
        self.argv: list[str] = argv
        self.environment: dict[str, str] = environment
        self.claim: dict[str, object] = claim


class Script:
    """A script that runs, or whose end is not on disk yet.

    `adopted` is one that a keeper before this one started: this one is not its parent and so cannot learn
    how it ends, only that it did."""

    def __init__(self, execution_id: str, token: str, folder: Path, limits: Limits) -> None:
        self.execution_id = execution_id
        self.token = token
        self.folder = folder
        self.limits = limits
        self.log = ScriptLog(folder / LOG_NAME, limits.max_log_bytes)
        self.cgroup: Cgroup | None = None
        """Has all that it starts; None where that has to be found by other signs."""
        self.pid = 0
        self.start_ticks = 0
        self.adopted = False
        self.started_at = ""
        self.stop_at = math.inf
        """By the monotonic clock."""
        self.stop: Stop | None = None
        self.ended = False
        """Its first process is gone; what that left behind may still have to be stopped."""
        self.exit: dict[str, object] | None = None
        """The record of its end, once that is known."""
        self.write_exit_at = 0.0
        self.write_exit_tries = 0
        self._how: dict[str, object] = {"lost": True}

    def will_facts(self, claim: dict[str, object]) -> dict[str, object]:
        """Fields for the ledger before the start: enough for the next keeper to go on, and the note of the
        claim, which the daemon does not flush to the disk."""
        return {
            "claim": claim,
            "execution_id": self.execution_id,
            "token": self.token,
            "folder": str(self.folder),
            "boot_id": boot_id(),
            "cgroup": self._cgroup_text(),
            "timeout_seconds": self.limits.timeout_seconds,
            "grace_seconds": self.limits.grace_seconds,
            "max_log_bytes": self.limits.max_log_bytes,
        }

    def began_facts(self) -> dict[str, object]:
        """Further fields for the ledger once it runs."""
        return {
            "pid": self.pid,
            "start_ticks": self.start_ticks,
            "cgroup": self._cgroup_text(),
            "started_at": self.started_at,
            "stop_at_monotonic": None if self.stop_at == math.inf else self.stop_at,
        }

    def _cgroup_text(self) -> str | None:
        return None if self.cgroup is None else str(self.cgroup.path)

    def begin(self, pid: int, start_ticks: int) -> None:
        """Note that it runs from now on."""
        self.pid = pid
        self.start_ticks = start_ticks
        self.started_at = now_text()
        if self.limits.timeout_seconds > 0:
            self.stop_at = time.monotonic() + self.limits.timeout_seconds

    def stop_for(self, reason: str, now: float) -> None:
        """Begin to stop it, unless that has begun."""
        if self.stop is None:
            self.stop = Stop(reason, now, self.limits.grace_seconds, self.cgroup)

    def resume(self, pid: int, start_ticks: int, entry: dict[str, object]) -> None:
        """Go on with a script that a keeper before this one started, by its entry in the ledger."""
        self.pid = pid
        self.start_ticks = start_ticks
        self.started_at = str(entry.get("started_at", ""))
        stop_at = entry.get("stop_at_monotonic")
        if isinstance(stop_at, int | float):
            self.stop_at = stop_at

    def end(self, status: int, usage: resource.struct_rusage) -> None:
        """Note how its first process ended, as `os.wait4` told."""
        code = os.waitstatus_to_exitcode(status)
        self.ended = True
        self._how = {
            "exit_code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_memory_bytes": usage.ru_maxrss * KIBIBYTE,
        }

    def end_unseen(self) -> None:
        """Note that it is gone and nobody saw how."""
        self.ended = True

    def settle(self) -> dict[str, object]:
        """Make the record of its end."""
        self.exit = {
            "token": self.token,
            **self._how,
            "timed_out": self.stop is not None and self.stop.reason == "timed_out",
            "cancelled": self.stop is not None and self.stop.reason == "cancelled",
            "started_at": self.started_at or None,
            "finished_at": now_text(),
            "log_bytes": self.log.trim(),
        }
        return self.exit


def failed_record(token: str, error: str) -> dict[str, object]:
    """The record of a script that could not be executed."""
    return {"token": token, "error": error, "finished_at": now_text()}


def _text(fields: dict[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise ProtocolError(f"{name}: not a text")
    return value


def _number(fields: dict[str, object], name: str) -> float:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ProtocolError(f"{name}: not a number of at least 0")
    return value
