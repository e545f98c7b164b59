"""Stopping a script with all that it left behind: TERM, grace, KILL.

A process is the script's when it is in the script's control group, carries the script's token in its
environment, is in the session or process group that the script began with, was found to be the script's
before, or descends from such a one. The other signs count where there is a control group too: `su` and the
like may move a process to that of a login. Without one, a process that scrubbed its environment, left the
session and lost its parent, all before the first look, is missed.
"""

from __future__ import annotations

import os
import signal

from dcron.keeper.cgroups import Cgroup
from dcron.keeper.journal import say
from dcron.keeper.processes import Process, Snapshot, send_signal

__all__ = ["Stop"]

LOOK_SECONDS = 0.2
KILL_LOOK_SECONDS = 0.05
KILL_SECONDS = 0.8
"""Time for which KILL is repeated while new processes appear, before the rest is given up."""


class Stop:
    """The stop of one script. `look` is to be called at `look_at` until `over`."""

    def __init__(self, reason: str, now: float, grace_seconds: float, cgroup: Cgroup | None) -> None:
        self.reason = reason
        self._cgroup = cgroup
        self.look_at = now
        self.over = False
        self._kill_at = now + grace_seconds
        self._asked = False
        self._own_group = True
        self._known: dict[int, int] = {}

    def look(
        self, snapshot: Snapshot, *, pid: int, start_ticks: int, token: str, ended: bool, now: float
    ) -> None:
        """Find what is left and send it the signal that is due; `ended` says that the first process,
        `pid`, is gone and its number free to be another's."""
        left = self._members(snapshot, pid, start_ticks, token)
        if not left and ended and not (self._cgroup is not None and self._cgroup.is_populated()):
            self.over = True
        elif not self._asked:
            # Once, and not to what appears later: that may be what a script cleans up with.
            self._asked = True
            self._send(left, signal.SIGTERM)
            self._send(left, signal.SIGCONT)
        elif now >= self._kill_at + KILL_SECONDS:
            self.over = True
            say("stop_incomplete", token=token, left=len(left))
        elif now >= self._kill_at:
            if self._cgroup is not None:
                self._cgroup.kill()
            self._send(left, signal.SIGKILL)
        killing = now >= self._kill_at
        self.look_at = now + KILL_LOOK_SECONDS if killing else min(now + LOOK_SECONDS, self._kill_at)

    def _members(self, snapshot: Snapshot, pid: int, start_ticks: int, token: str) -> list[Process]:
        # A number that names a session or group is not given to a new process, so it is the script's for as
        # long as each look finds somebody there, and nobody's once a look finds none.
        grouped = [each for each in snapshot.processes if pid in {each.session, each.group}]
        stranger = any(each.pid == pid and each.start_ticks != start_ticks for each in grouped)
        self._own_group = self._own_group and bool(grouped) and not stranger
        found = {each.pid: each for each in grouped} if self._own_group else {}
        # Listed after the snapshot: a number that was another's then has another start time now.
        held = self._cgroup.pids() if self._cgroup is not None else ()
        for each in snapshot.processes:
            if each.pid in held or each.token == token or self._known.get(each.pid) == each.start_ticks:
                found[each.pid] = each
        queue = list(found)
        for parent in queue:
            for child in snapshot.children.get(parent, ()):
                if child.pid not in found:
                    found[child.pid] = child
                    queue.append(child.pid)
        found.pop(os.getpid(), None)
        self._known = {each.pid: each.start_ticks for each in found.values()}
        return [each for each in found.values() if not each.zombie]

    @staticmethod
    def _send(processes: list[Process], number: signal.Signals) -> None:
        for process in processes:
            try:
                send_signal(process.pid, process.start_ticks, number)
            except PermissionError:
                say("signal_refused", pid=process.pid, signal=number.name)
