"""Answers to changes: when they are given, and by which time.

The leader launches an occurrence up to AHEAD_SECONDS before its instant. Whoever is answered later than that
may go by the answer: nothing that falls due afterwards starts under the state from before.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from dcron.domain.errors import FailedPrecondition
from dcron.domain.planning import AHEAD_SECONDS
from dcron.ports import Clock

__all__ = ["let_come", "trusted_now"]

LONG_AGO = timedelta(seconds=60)
"""Age of an instant, by this node's clock, at which it has come by the leader's clock too: both are within
seconds of the store's."""


async def let_come(scheduled_at: datetime, now: datetime, ahead_seconds: float) -> None:
    """Wait for as long as an occurrence was launched before its instant, or may have been; not at all when
    that was long ago."""
    if now - scheduled_at < LONG_AGO:
        await asyncio.sleep(min(ahead_seconds, AHEAD_SECONDS))


def trusted_now(clock: Clock, trouble: str) -> datetime:
    """The wall clock; FailedPrecondition when there is `trouble` with it, in words. By a wrong clock a change
    would count from another time."""
    if trouble:
        raise FailedPrecondition(f"this node cannot tell the time: {trouble}; ask another node")
    return clock.now()
