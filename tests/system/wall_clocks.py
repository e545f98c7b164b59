"""Nodes whose wall clock a test can set, while all other clocks of the machine stay right.

libfaketime is not used: its version of clock_nanosleep makes `time.sleep` fail on Python 3.11 and newer when
the monotonic clock is left alone, as it has to be here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.system.cluster import NodeProcess

__all__ = ["ClockUnavailable", "SettableClock", "build_shim"]

SOURCE = Path(__file__).with_name("wall_clock.c")
SHIFT_BYTES = 8
COMPILE_SECONDS = 60.0
RUN_WITH_OTHER_PYTHON = """
import runpy, sys
sys.executable = sys.argv.pop(1)
runpy.run_module("dcron", run_name="__main__", alter_sys=True)
"""
"""The keeper is started by `sys.executable` without the node's environment: this gives it the same clock."""


class ClockUnavailable(Exception):
    """No clock can be set here; the message is one line that says why."""


def build_shim(folder: Path) -> Path:
    """The library that stands before the system's clock. Raises ClockUnavailable."""
    if shutil.which("cc") is None:
        raise ClockUnavailable("a clock that can be set needs a C compiler (gcc and libc6-dev)")
    library = folder / "wall_clock.so"
    done = subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library), str(SOURCE)],
        capture_output=True,
        text=True,
        timeout=COMPILE_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["the compiler said nothing"])[-1]
        raise ClockUnavailable(f"no clock that can be set: {last}")
    return library


class SettableClock:
    """The wall clock of a node that has not started yet, and of its keeper; right at first."""

    def __init__(self, node: NodeProcess, shim: Path, folder: Path) -> None:
        self._shift = folder / f"{node.id}.shift"
        self.set(0)
        python = folder / f"{node.id}.python"
        python.write_text(
            f'#!/bin/sh\nDCRON_TEST_CLOCK_SHIFT={self._shift} LD_PRELOAD={shim} exec {sys.executable} "$@"\n'
        )
        python.chmod(0o755)
        node.command = [str(python), "-c", RUN_WITH_OTHER_PYTHON, str(python), "serve"]

    def set(self, offset_seconds: int) -> None:
        """Put it that far ahead of this machine's clock; behind it, if negative."""
        # In place: the file is mapped into the node's memory.
        with self._shift.open("r+b" if self._shift.exists() else "wb") as shift:
            shift.write(offset_seconds.to_bytes(SHIFT_BYTES, sys.byteorder, signed=True))
