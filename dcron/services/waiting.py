"""Waiting for an event, but not for ever, and for several things at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from dcron.domain.errors import StoreUnreachable

__all__ = ["together", "wait_for"]


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """The results of all, which run at once. The first failure ends the rest; StoreUnreachable comes as
    itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as errors:
        unreachable, defects = errors.split(StoreUnreachable)
        if defects is not None or unreachable is None:
            raise
        raise unreachable.exceptions[0] from None
    return [task.result() for task in tasks]


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Until the event or the time, whichever is first; the event is clear afterwards."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
    finally:
        event.clear()
