"""Loops that outlast a store which cannot be reached: they pause, say the trouble once, and act again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from dcron.domain.errors import ObjectsUnreachable, StoreUnreachable
from dcron.services.shared.trouble import Trouble

__all__ = ["BACKOFF_SECONDS", "every", "growing_backoff_seconds", "repeat", "until_reachable"]

BACKOFF_SECONDS = 0.5
"""The leader's pause after the store could not be reached. It is short, for what is due waits for it."""
GROWING_BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses after one failure, two failures and so on of what can wait; the last one repeats."""


async def repeat(act: Callable[[], Awaitable[float]], trouble: Trouble) -> NoReturn:
    """Act until cancelled. `act` returns the pause before the next time, in seconds.

    StoreUnreachable is met as `trouble`, and BACKOFF_SECONDS pass. Any other error goes on."""
    while True:
        pause_seconds = BACKOFF_SECONDS
        with trouble.of(StoreUnreachable):
            pause_seconds = await act()
        await asyncio.sleep(pause_seconds)


async def every(seconds: float, act: Callable[[], Awaitable[None]], trouble: Trouble) -> NoReturn:
    """Act until cancelled, and pause as long after a failure as after a success. Errors as in `repeat`."""
    while True:
        with trouble.of(StoreUnreachable):
            await act()
        await asyncio.sleep(seconds)


async def until_reachable(act: Callable[[], Awaitable[None]], trouble: Trouble) -> None:
    """Act until a store answers, however long that takes. Any other error goes on."""
    failures = 0
    while True:
        with trouble.of(StoreUnreachable, ObjectsUnreachable):
            await act()
            return
        failures += 1
        await asyncio.sleep(growing_backoff_seconds(failures))


def growing_backoff_seconds(failures: int) -> float:
    """The pause after this many failures, at least 1, in a row."""
    return GROWING_BACKOFF_SECONDS[min(failures, len(GROWING_BACKOFF_SECONDS)) - 1]
