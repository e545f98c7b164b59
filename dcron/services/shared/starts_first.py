"""Traffic light for what waits while much is being started: processor and stores are for the starts then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["StartsFirst"]

BURST_STARTS = 10
"""Executions that are being started at once, from which on that goes before the rest."""
STARTS_FIRST_SECONDS = 0.25
"""Time after such starts for which the rest is put off, since more starts may follow."""
MAX_PUT_OFF_SECONDS = 2.0
"""Longest time for which starts can put off the rest."""
SHORT_SECONDS = 2.0
"""Time for which nothing is put off after a slot was missing; the leader asks again sooner than that."""
LOOK_SECONDS = 0.05
"""Period of looking whether the starts are over."""


class StartsFirst:
    """The executions that a node is starting, or intends and offers as the leader."""

    def __init__(self) -> None:
        self._starting = 0
        self._until = 0.0
        self._short_until = 0.0

    @contextmanager
    def of(self, count: int) -> Iterator[None]:
        """Count so many more executions as being started meanwhile."""
        self._starting += count
        try:
            yield
        finally:
            self._look()
            self._starting -= count

    def slots_are_short(self) -> None:
        """More can only start once something has ended and that is known: nothing is put off for now."""
        self._short_until = _now() + SHORT_SECONDS

    async def over(self, since: float | None = None) -> None:
        """Wait until the burst is over, at most MAX_PUT_OFF_SECONDS after `since`, a moment of the event
        loop's time (by default now)."""
        latest = (_now() if since is None else since) + MAX_PUT_OFF_SECONDS
        while True:
            left_seconds = self._left_seconds(latest)
            if left_seconds <= 0:
                return
            await asyncio.sleep(min(left_seconds, LOOK_SECONDS))

    def _left_seconds(self, latest: float) -> float:
        self._look()
        now = _now()
        return 0.0 if now < self._short_until else min(self._until, latest) - now

    def _look(self) -> None:
        if self._starting >= BURST_STARTS:
            self._until = _now() + STARTS_FIRST_SECONDS


def _now() -> float:
    return asyncio.get_running_loop().time()
