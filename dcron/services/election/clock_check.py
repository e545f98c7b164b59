"""Whether this node's wall clock can be relied on: it is compared with the document store's."""

from __future__ import annotations

from datetime import datetime

import structlog

from dcron.ports import Clock, DocumentStore

__all__ = ["ClockCheck"]

MAX_OFFSET_SECONDS = 5.0
"""A node whose wall clock is further than this from the store's does not lead."""
CHECK_SECONDS = 60.0
"""Between two comparisons of a clock that goes as it should."""
MAX_STEP_SECONDS = 1.0
"""A wall clock that has gone on by this much more or less than the time that passed was set."""

log = structlog.get_logger()


class ClockCheck:
    """The comparisons of one node. `hindrance` says in words why it may not lead; empty when it may."""

    def __init__(self, store: DocumentStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._compared_wall: datetime = clock.now()
        self._compared_boottime = float("-inf")
        self.hindrance = ""

    async def compare(self) -> None:
        """Compare with the store, if it is time or the clock was set. Raises StoreUnreachable."""
        now = self._clock.boottime()
        if now - self._compared_boottime < CHECK_SECONDS and self.is_steady():
            return
        before = self._clock.now()
        theirs = await self._store.wall_clock()
        self._compared_boottime, self._compared_wall = now, before
        offset_seconds = (before - theirs).total_seconds()
        hindrance = ""
        if abs(offset_seconds) > MAX_OFFSET_SECONDS:
            hindrance = f"its clock is {offset_seconds:+.0f} s off the store's; set it (chrony, ntp)"
        if hindrance != self.hindrance:
            log.warning(hindrance or "the clock agrees with the store's", action="check_clock")
            self.hindrance = hindrance

    def is_steady(self) -> bool:
        """Whether nobody has set the wall clock since it was compared with the store's."""
        by_wall_seconds = (self._clock.now() - self._compared_wall).total_seconds()
        passed_seconds = self._clock.boottime() - self._compared_boottime
        return abs(by_wall_seconds - passed_seconds) <= MAX_STEP_SECONDS

    def trouble(self) -> str:
        """Reason why the wall clock cannot be relied on, in words; empty when it can."""
        if self.hindrance or self.is_steady():
            return self.hindrance
        return "its clock was set a moment ago, and is being compared with the store's"
