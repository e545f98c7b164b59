"""An event loop without waiting: its time jumps to the next timer, and gates decide whose callbacks run.

All callbacks of a node carry its `Gate` in their context. A paused gate holds callbacks back, as SIGSTOP
does; a dead one never lets them go, so that not even a `finally:` block of a crashed node runs. What lies
between two callbacks is an `await`, and a gate's fuse acts at any one of them.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, Self

__all__ = ["GATE", "Gate", "Handle", "Stuck", "VirtualLoop"]

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
        self.passed = 0
        """How many callbacks have run."""
        self._held: list[Handle] = []
        self._fuse: tuple[int, Callable[[], None]] | None = None

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
        self._fuse = None
        self._open(loop)

    def light(self, callbacks: int, then: Callable[[], None]) -> None:
        """Call `then` once so many more callbacks have run, and before the next one does."""
        self._fuse = (self.passed + callbacks, then)

    def admits(self, handle: Handle) -> bool:
        """Whether a callback may run now; if not, it is kept: letting go of it would close its coroutine,
        which runs clean-up."""
        if self.is_open and self._fuse is not None and self.passed >= self._fuse[0]:
            then, self._fuse = self._fuse[1], None
            then()
        if self.is_open:
            self.passed += 1
            return True
        self._held.append(handle)
        return False

    def _open(self, loop: VirtualLoop) -> None:
        self.is_open = True
        held, self._held = self._held, []
        loop.run_again(held)


GATE: ContextVar[Gate | None] = ContextVar("gate", default=None)


class Handle:
    """A callback that waits; what asyncio's own handles do, without what the simulation does not need."""

    __slots__ = ("args", "callback", "context", "is_cancelled", "when")

    def __init__(self, callback: Callable[..., Any], args: Any, context: Context | None, when: float) -> None:
        self.callback = callback
        self.args = args
        self.context = copy_context() if context is None else context
        self.when = when
        self.is_cancelled = False

    def cancel(self) -> None:
        """Do not run it."""
        self.is_cancelled = True
        self.callback = self.args = None

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.is_cancelled


class _NumberedTask(asyncio.Task):
    """A task whose hash is its number: task groups keep sets, whose order must not follow addresses."""

    _numbers = itertools.count()

    def __new__(cls, *_args: Any, **_options: Any) -> Self:
        task = super().__new__(cls)
        task.number = next(cls._numbers)
        return task

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop of one simulation. What would run in a thread runs at once, in a later callback."""

    def __init__(self) -> None:
        super().__init__()
        _NumberedTask._numbers = itertools.count()
        self._seconds = 0.0
        self._timers: list[tuple[float, int, Handle]] = []
        self._timer_numbers = itertools.count()
        self.set_task_factory(_new_task)

    def time(self) -> float:
        """Virtual seconds since the simulation began."""
        return self._seconds

    def run_again(self, handles: list[Handle]) -> None:
        """Make callbacks ready that a gate held back."""
        self._ready.extend(handles)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        """As in asyncio, through the gate of the context. Timers of one instant run in their order."""
        handle = Handle(callback, args, context, when)
        heapq.heappush(self._timers, (when, next(self._timer_numbers), handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        """As in asyncio."""
        return self.call_at(self._seconds + delay, callback, *args, context=context)

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Handle:
        """As in asyncio, through the gate of the context."""
        handle = Handle(callback, args, context, self._seconds)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def _run_once(self) -> None:
        """Move on to the next timer if nothing is ready, and run what is."""
        ready, timers = self._ready, self._timers
        if not ready and not self._stopping:
            self._jump()
        due_at = self._seconds + CLOCK_RESOLUTION
        while timers and timers[0][0] < due_at:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.is_cancelled:
                self._run_handle(handle)

    def _jump(self) -> None:
        timers = self._timers
        while timers and timers[0][2].is_cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Stuck
        self._seconds = max(self._seconds, timers[0][0])

    def _run_handle(self, handle: Handle) -> None:
        gate = handle.context.get(GATE)
        if gate is not None and not gate.admits(handle):
            return
        try:
            handle.context.run(handle.callback, *handle.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio does: it is reported, and the loop goes on
            self.call_exception_handler({"message": f"in callback {handle.callback!r}", "exception": error})

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


def _new_task(loop: VirtualLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> _NumberedTask:
    return _NumberedTask(coroutine, loop=loop, **options)


def _unless_done(act: Callable[[Any], None], future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        act(value)
