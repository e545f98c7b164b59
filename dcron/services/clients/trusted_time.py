"""Now, where a wrong clock would make a change count from another time."""

from __future__ import annotations

from datetime import datetime

from dcron.domain.errors import FailedPrecondition
from dcron.ports import Clock

__all__ = ["trusted_now"]


def trusted_now(clock: Clock, trouble: str) -> datetime:
    """The wall clock; FailedPrecondition when there is `trouble` with it, in words."""
    if trouble:
        raise FailedPrecondition(f"this node cannot tell the time: {trouble}; ask another node")
    return clock.now()
