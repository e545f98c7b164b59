"""An event loop without waiting: its time jumps to the next timer, and gates decide whose callbacks run.

All callbacks of a node carry its `Gate` in their context. A paused gate holds callbacks back, as SIGSTOP
does; a dead one never lets them go, so that not even a `finally:` block of a crashed node runs.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, Self

__all__ = ["GATE", "Gate", "Stuck", "VirtualLoop"]

CLOCK_RESOLUTION = 1e-7
"""Timers this close together are due at once: finer than any wait, coarser than errors of rounding."""


class Stuck(Exception):
    """Nothing is ready and no timer is set: the simulation would wait for ever."""


class Gate:
    """Whether the callbacks of one incarnation of a node run now."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_open = True
        self.dead = False
        self._held: list[events.Handle] = []

    def pause(self) -> None:
        """Hold all callbacks back from now on."""
        self.is_open = False

    def resume(self, loop: VirtualLoop) -> None:
        """Let the callbacks that were held back run, oldest first; a dead gate stays as it is."""
        if not self.dead:
            self._open(loop)

    def kill(self) -> None:
        """Let no callback run any more."""
        self.is_open = False
        self.dead = True

    def bury(self, loop: VirtualLoop) -> None:
        """After the run: let what is left of the node be cancelled. Its adapters must be shut by then."""
        self._open(loop)

    def hold(self, handle: events.Handle) -> None:
        """Keep a callback. Letting go of it would close its coroutine, which runs clean-up."""
        self._held.append(handle)

    def _open(self, loop: VirtualLoop) -> None:
        self.is_open = True
        held, self._held = self._held, []
        loop.run_again(held)


GATE: ContextVar[Gate | None] = ContextVar("gate", default=None)


class _Handle(events.Handle):
    def _run(self) -> None:
        gate = self._context.get(GATE)
        if gate is None or gate.is_open:
            super()._run()
        else:
            gate.hold(self)


class _TimerHandle(events.TimerHandle):
    def _run(self) -> None:
        gate = self._context.get(GATE)
        if gate is None or gate.is_open:
            super()._run()
        else:
            gate.hold(self)


class _NumberedTask(asyncio.Task):
    """A task whose hash is its number: task groups keep sets, whose order must not follow addresses."""

    _numbers = itertools.count()

    def __new__(cls, *_args: Any, **_options: Any) -> Self:
        task = super().__new__(cls)
        task.number = next(cls._numbers)
        return task

    def __hash__(self) -> int:
        return self.number


class _JumpingSelector:
    """Stands where the loop would wait for sockets: moves its time on instead."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck
        self.seconds += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop of one simulation. What would run in a thread runs at once, in a later callback."""

    def __init__(self) -> None:
        super().__init__()
        _NumberedTask._numbers = itertools.count()
        self._selector = _JumpingSelector()
        self._clock_resolution = CLOCK_RESOLUTION
        self.set_task_factory(_new_task)

    def time(self) -> float:
        """Virtual seconds since the simulation began."""
        return self._selector.seconds

    def run_again(self, handles: list[events.Handle]) -> None:
        """Make callbacks ready that a gate held back."""
        self._ready.extend(handles)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        """As in asyncio, through the gate of the context."""
        timer = _TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def _call_soon(self, callback: Callable[..., Any], args: Any, context: Context | None) -> events.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Call the function now; the caller goes on in a later callback, as it would with a thread."""
        future: asyncio.Future[Any] = self.create_future()
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
            self.call_soon(_unless_done, future.set_exception, future, error)
        else:
            self.call_soon(_unless_done, future.set_result, future, result)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        return

    def _write_to_self(self) -> None:
        return


def _new_task(loop: VirtualLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> _NumberedTask:
    return _NumberedTask(coroutine, loop=loop, **options)


def _unless_done(act: Callable[[Any], None], future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        act(value)
