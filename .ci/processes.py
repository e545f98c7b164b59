"""Processes of a checkout: what CI leaves behind, which is to be nothing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Set as AbstractSet
from pathlib import Path

POLL_SECONDS = 0.2


def of_checkout(checkout: Path) -> set[int]:
    """Processes that work in the checkout, were started from it or inherited its path; not this one."""
    found = set()
    for folder in Path("/proc").iterdir():
        # Processes end meanwhile.
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and int(folder.name) != os.getpid() and _belongs(folder, checkout):
                found.add(int(folder.name))
    return found


def _belongs(process: Path, checkout: Path) -> bool:
    with contextlib.suppress(OSError):
        if (process / "cwd").readlink().is_relative_to(checkout):
            return True
    name = os.fsencode(checkout)
    return any(name in (process / file).read_bytes() for file in ("cmdline", "environ"))


def left(checkout: Path, before: AbstractSet[int], seconds: float) -> set[int]:
    """Those that were not there before, once what was about to stop has had some seconds for it."""
    deadline = time.monotonic() + seconds
    while (found := of_checkout(checkout) - before) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return found
