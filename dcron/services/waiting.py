"""Waiting for an event, but not for ever."""

from __future__ import annotations

import asyncio

__all__ = ["wait_for"]


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Until the event or the time, whichever is first; the event is clear afterwards."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
    finally:
        event.clear()
