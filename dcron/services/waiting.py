"""Waiting for an event, but not for ever, and for several things at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from dcron.domain.errors import StoreUnreachable

__all__ = ["together", "wait_for"]


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
    """Until the event or the time, whichever is first; the event is clear afterwards."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
    finally:
        event.clear()
