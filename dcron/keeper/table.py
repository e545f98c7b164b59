"""All scripts that this keeper looks after: started, watched, stopped, and their ends written down."""

from __future__ import annotations

import math
import os
import time
from contextlib import ExitStack

from dcron.keeper.adopting import adopt
from dcron.keeper.cgroups import Cgroup, Cgroups
from dcron.keeper.journal import say
from dcron.keeper.launch import LaunchError, launch, prepare_folder
from dcron.keeper.ledger import Ledger, flush_folder
from dcron.keeper.processes import Snapshot, is_alive, start_ticks
from dcron.keeper.records import EXIT_NAME, write_record
from dcron.keeper.script import Request, Script, failed_record
from dcron.keeper.timeouts import Timeouts

__all__ = ["Table"]

WATCH_SECONDS = 1.0
"""Between two looks at the logs, and at the processes that are not children of this keeper."""
WRITE_AGAIN_SECONDS_MAX = 60.0

Answer = dict[str, object]


class Table:
    """The scripts by token. Nothing in it waits: `tick` does what is due, `wait_seconds` says until when.

    Without `cgroups`, what a script leaves behind is found by weaker signs: see `stopping`."""

    def __init__(self, ledger: Ledger, cgroups: Cgroups | None) -> None:
        self._ledger = ledger
        self._cgroups = cgroups
        self._left_groups: list[Cgroup] = []
        """Control groups of scripts that ended and left something running, under this keeper or an earlier
        one."""
        self._scripts: dict[str, Script] = {}
        self._by_pid: dict[int, Script] = {}
        self._ending: dict[str, Script] = {}
        """Those of them that are being stopped, or have ended: all others cost nothing at a tick."""
        self._timeouts = Timeouts()
        self._watch_at = 0.0
        self._exited: list[str] = []

    def adopt(self) -> None:
        """Take over what the keeper before this one left; first of all. Raises OSError."""
        self._ledger.load()
        for script in adopt(self._ledger):
            self._keep(script)
        if self._cgroups is not None:
            self._left_groups = self._cgroups.left(set(self._scripts))
            self._remove_left_groups()

    def close(self) -> None:
        """Leave no group behind but those in which something runs."""
        self._remove_left_groups()
        if self._cgroups is not None:
            self._cgroups.close()

    @property
    def has_control_groups(self) -> bool:
        """Whether scripts get control groups of their own."""
        return self._cgroups is not None

    def tokens(self) -> list[str]:
        """Scripts that run, or whose end could not be written to the disk yet."""
        return list(self._scripts)

    def take_exited(self) -> list[str]:
        """Scripts whose end was written since the last call."""
        exited, self._exited = self._exited, []
        return exited

    def start(self, requests: list[Request]) -> list[Answer]:
        """Start scripts; an answer for each, in order. A token that was started before is not started
        again: a daemon may ask anew when it did not hear the answer."""
        answers: dict[str, Answer] = {}
        prepared: list[tuple[Request, Script]] = []
        for request in requests:
            if request.token in answers:
                continue
            answers[request.token] = self._known(request) or self._prepare(request, prepared)
        try:
            # Once for all of them, and before anything runs: it may.
            for parent in {request.folder.parent for request, _ in prepared}:
                flush_folder(parent)
            self._ledger.will([script.will_facts(request.claim) for request, script in prepared])
        except OSError as error:
            answers |= {request.token: self._refuse(request, error) for request, _ in prepared}
            prepared = []
        for request, script in prepared:
            answers[request.token] = self._launch(request, script)
        return [answers[request.token] for request in requests]

    def cancel(self, token: str) -> bool:
        """Begin to stop a script; False where it does not run."""
        script = self._scripts.get(token)
        if script is None or script.ended:
            return False
        self._stop(script, "cancelled", time.monotonic())
        return True

    def reap(self) -> None:
        """Collect every child that has ended, orphans of scripts among them."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            script = self._by_pid.pop(pid, None)
            if script is not None:
                script.end(status, usage)
                self._ending[script.token] = script
                if script.stop is not None:
                    script.stop.look_at = 0.0

    def tick(self) -> None:
        """Do what is due by now."""
        now = time.monotonic()
        if now >= self._watch_at:
            self._watch_at = now + WATCH_SECONDS
            self._remove_left_groups()
            for script in self._scripts.values():
                script.log.trim()
                if script.adopted and not script.ended and not is_alive(script.pid, script.start_ticks):
                    script.end_unseen()
                    self._ending[script.token] = script
        for token in self._timeouts.take_due(now):
            if not self._scripts[token].ended:
                self._stop(self._scripts[token], "timed_out", now)
        self._look_at_stops(now)
        self._finish(
            [
                script
                for script in self._ending.values()
                if script.ended and (script.stop is None or script.stop.over) and now >= script.write_exit_at
            ],
            now,
        )

    def wait_seconds(self) -> float | None:
        """Seconds in which nothing is due; None where only an event can change that."""
        if not self._scripts:
            return None
        due = min(map(self._due_at, self._ending.values()), default=math.inf)
        return max(0.0, min(due, self._timeouts.next_at(), self._watch_at) - time.monotonic())

    @staticmethod
    def _due_at(script: Script) -> float:
        if script.stop is not None and not script.stop.over:
            return script.stop.look_at
        return script.write_exit_at if script.ended else math.inf

    def _keep(self, script: Script) -> None:
        """Look after a script that runs, or may have ended unseen."""
        self._scripts[script.token] = script
        if script.ended or script.stop is not None:
            self._ending[script.token] = script
        else:
            self._timeouts.add(script.token, script.stop_at)

    def _stop(self, script: Script, reason: str, now: float) -> None:
        script.stop_for(reason, now)
        self._ending[script.token] = script

    def _known(self, request: Request) -> Answer | None:
        """The answer for a script that was started already."""
        if request.token in self._scripts:
            return {"result": "started"}
        end = self._ledger.end_of(request.token)
        if end is None:
            return None
        return {"result": "failed"} if end.get("error") else {"result": "started", "over": True}

    def _prepare(self, request: Request, prepared: list[tuple[Request, Script]]) -> Answer:
        try:
            prepare_folder(request.folder)
        except OSError as error:
            return self._refuse(request, error)
        prepared.append((request, self._new(request)))
        return {}

    def _launch(self, request: Request, script: Script) -> Answer:
        if time.clock_gettime(time.CLOCK_BOOTTIME) > request.not_after_boottime:
            self._forget(request)
            return {"result": "too_late"}
        try:
            pid = self._spawn(request, script)
        except LaunchError as error:
            return self._fail(request, str(error))
        except OSError as error:
            return self._refuse(request, error)
        # Not reaped yet, so the number is still its own even if it has ended.
        script.begin(pid, start_ticks(pid) or 0)
        self._keep(script)
        self._by_pid[pid] = script
        try:
            self._ledger.began(script.token, script.began_facts())
        except OSError as error:
            # It runs; a later keeper would find it by its token.
            say("started_unrecorded", token=script.token, reason=str(error))
        return {"result": "started"}

    def _spawn(self, request: Request, script: Script) -> int:
        """Start the process, in the script's group where it can be had; its pid."""
        with ExitStack() as inside:
            if self._cgroups is not None and script.cgroup is not None:
                try:
                    inside.enter_context(self._cgroups.entered(script.cgroup))
                except OSError as error:
                    say("cgroup_refused", token=script.token, reason=str(error))
                    self._discard_group(script.cgroup)
                    script.cgroup = None
            return launch(request)

    def _fail(self, request: Request, reason: str) -> Answer:
        end = failed_record(request.token, reason)
        try:
            self._ledger.ended({request.token: end})
            write_record(request.folder / EXIT_NAME, end)
        except OSError as error:
            return self._refuse(request, error)
        self._discard_group_of(request)
        return {"result": "failed"}

    def _refuse(self, request: Request, error: OSError) -> Answer:
        say("spool_refused", token=request.token, folder=str(request.folder), reason=str(error))
        self._forget(request)
        return {"result": "spool_full", "reason": str(error)}

    def _forget(self, request: Request) -> None:
        """Leave no sign of a script that was not started."""
        self._discard_group_of(request)
        try:
            self._ledger.dropped(request.token)
        except OSError as error:
            say("spool_refused", token=request.token, folder=str(request.folder), reason=str(error))

    def _look_at_stops(self, now: float) -> None:
        snapshot: Snapshot | None = None
        for script in self._ending.values():
            stop = script.stop
            if stop is None or stop.over or now < stop.look_at:
                continue
            if script.adopted and not is_alive(script.pid, script.start_ticks):
                script.end_unseen()
            snapshot = snapshot or Snapshot()
            stop.look(
                snapshot,
                pid=script.pid,
                start_ticks=script.start_ticks,
                token=script.token,
                ended=script.ended,
                now=now,
            )

    def _finish(self, scripts: list[Script], now: float) -> None:
        """Write down how scripts ended, now or as soon as the disk takes it: once for all of them."""
        try:
            self._ledger.ended({script.token: script.exit or script.settle() for script in scripts})
        except OSError as error:
            for script in scripts:
                _try_again(script, error, now)
            return
        for script in scripts:
            try:
                _write_exit(script)
            except OSError as error:
                _try_again(script, error, now)
                continue
            del self._scripts[script.token], self._ending[script.token]
            self._timeouts.discard(script.token)
            self._exited.append(script.token)
            if script.cgroup is not None:
                self._discard_group(script.cgroup)

    def _new(self, request: Request) -> Script:
        script = Script(request.execution_id, request.token, request.folder, request.limits)
        if self._cgroups is not None:
            script.cgroup = self._cgroups.of(request.token)
        return script

    def _discard_group_of(self, request: Request) -> None:
        if self._cgroups is not None:
            self._discard_group(self._cgroups.of(request.token))

    def _discard_group(self, cgroup: Cgroup) -> None:
        """Remove a group, now or once what a script left running in it has ended."""
        if not cgroup.remove():
            self._left_groups.append(cgroup)

    def _remove_left_groups(self) -> None:
        self._left_groups = [each for each in self._left_groups if not each.remove()]


def _write_exit(script: Script) -> None:
    try:
        write_record(script.folder / EXIT_NAME, script.exit or script.settle())
    except FileNotFoundError:
        # The attempt's folder was removed, so nobody will ask.
        say("folder_gone", token=script.token, folder=str(script.folder))


def _try_again(script: Script, error: OSError, now: float) -> None:
    script.write_exit_tries += 1
    script.write_exit_at = now + min(2.0**script.write_exit_tries, WRITE_AGAIN_SECONDS_MAX)
    say("exit_unwritten", token=script.token, reason=str(error))
