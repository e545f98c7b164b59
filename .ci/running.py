"""Steps of CI as processes: each has a time limit, and what it prints comes in one piece once it has
ended."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

KILL_SECONDS = 60
"""What a step that is told to stop has for it: it removes its hosts."""


@dataclass(frozen=True)
class Step:
    """One call of make, by its targets."""

    targets: str
    minutes: int
    nice: int = 0


@dataclass(frozen=True)
class Ended:
    """What came of a step; times in seconds, the first since CI began."""

    step: Step
    began: float
    took: float
    processors: float
    """Used by the step's own processes, not by its hosts'."""
    wrong: str
    """Empty where it succeeded."""


@dataclass
class Runner:
    """Runs steps until its deadline (by time.monotonic), from several threads at once."""

    began: float
    deadline: float
    folder: Path
    environment: Mapping[str, str]
    ended: list[Ended] = field(default_factory=list)
    _running: set[int] = field(default_factory=set)
    _stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run_all(self, steps: Sequence[Step]) -> None:
        """Run one after the other; one that fails keeps no other from being run."""
        for step in steps:
            self.run(step)

    def run(self, step: Step) -> bool:
        """Run a step and print what it has printed; whether it succeeded."""
        log = self.folder / f"{step.targets.replace(' ', '-')}.log"
        print(f"=== make {step.targets}: begins", flush=True)
        began = time.monotonic()
        wrong, processors = self._run(step, log)
        end = Ended(step, began - self.began, time.monotonic() - began, processors, wrong)
        with self._lock:
            self.ended.append(end)
            print(f"\n=== make {step.targets}", log.read_text(errors="replace"), sep="\n", end="")
            print(f"=== make {step.targets}: {wrong or 'done'} in {end.took:.0f} s\n", flush=True)
        return not wrong

    def stop(self) -> None:
        """Tell all steps to stop, and begin no other one."""
        self._stopped = True
        for group in tuple(self._running):
            _signal(group, signal.SIGTERM)

    def _run(self, step: Step, log: Path) -> tuple[str, float]:
        seconds = min(step.minutes * 60, self.deadline - time.monotonic())
        if self._stopped or seconds <= 0:
            log.touch()
            return "not begun: no time is left", 0
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["nice", "-n", str(step.nice), "make", *step.targets.split()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
        self._running.add(process.pid)
        if self._stopped:  # just now: `stop` may not have seen it
            _signal(process.pid, signal.SIGTERM)
        limits = [
            threading.Timer(seconds, _signal, [process.pid, signal.SIGTERM]),
            threading.Timer(seconds + KILL_SECONDS, _signal, [process.pid, signal.SIGKILL]),
        ]
        began = time.monotonic()
        for limit in limits:
            limit.start()
        _, status, usage = os.wait4(process.pid, 0)
        for limit in limits:
            limit.cancel()
        self._running.discard(process.pid)
        process.returncode = os.waitstatus_to_exitcode(status)
        cut_off = time.monotonic() - began >= seconds
        wrong = f"cut off after {seconds / 60:.0f} minutes" if cut_off else f"failed ({process.returncode})"
        return wrong if process.returncode else "", usage.ru_utime + usage.ru_stime


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # it has just ended
