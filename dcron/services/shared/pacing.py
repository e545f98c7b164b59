"""Waiting for an event, but not for ever, for several things at once, and for more of the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from dcron.domain.errors import StoreUnreachable

__all__ = ["Pace", "together", "wait_for"]

GATHER_SECONDS = 0.1
"""Time for which documents in quick succession are gathered for one request. A request for a single document
costs CouchDB as much processor time as one for fifty."""
MAX_GATHER_SECONDS = 0.5
"""The same while the store is slow."""
REST = 2.0
"""Pause before the next request, as a multiple of what the last one took: the slower the store is, the more
each request does."""


class Pace:
    """Turns with a pause between them, so that what has come meanwhile shares one. The first after a while is
    at once. With `by_duration` the pause grows with what a turn has taken."""

    def __init__(self, *, by_duration: bool) -> None:
        self._rest = REST if by_duration else 0.0
        self._next_at = 0.0

    def left_seconds(self) -> float:
        """Seconds until the next turn; 0 for now."""
        return max(0.0, self._next_at - _now())

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and take it for what is done inside."""
        if left_seconds := self.left_seconds():
            await asyncio.sleep(left_seconds)
        began_at = _now()
        try:
            yield
        finally:
            gathered_seconds = min(self._rest * (_now() - began_at), MAX_GATHER_SECONDS)
            self._next_at = max(began_at + GATHER_SECONDS, _now() + gathered_seconds)


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """The results of all, which run at once. The first failure ends the rest; of several failures one that is
    a defect is raised."""
    # Not in a TaskGroup: before Python 3.13 one in which something fails forgets that it is being cancelled
    # from outside, and whoever waits for the end of a loop that goes on after failures waits for ever.
    tasks = [asyncio.create_task(each) for each in work]
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    failures = [each for each in ended if isinstance(each, Exception)]
    if failures:
        raise min(failures, key=lambda failure: isinstance(failure, StoreUnreachable))
    return ended


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event or the time, whichever is first; the event is clear afterwards."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
    finally:
        event.clear()


def _now() -> float:
    return asyncio.get_running_loop().time()
