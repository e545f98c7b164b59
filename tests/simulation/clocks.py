"""Time as one machine has it: its wall clock may be set, and drift; what measures silence does not."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.simulation.history import instant
from tests.simulation.loop import VirtualLoop

__all__ = ["MachineClock"]


class MachineClock:
    """The `Clock` of one machine. `monotonic` and `boottime` begin anywhere."""

    def __init__(self, loop: VirtualLoop, began_seconds: float) -> None:
        self._loop = loop
        self._began_seconds = began_seconds
        self._offset_seconds = 0.0
        self._drift = 0.0
        self._drift_since = 0.0

    @property
    def offset_seconds(self) -> float:
        """How far the wall clock is ahead of the truth."""
        return self._offset_seconds + self._drift * (self._loop.time() - self._drift_since)

    def set(self, offset_seconds: float, drift: float = 0.0) -> None:
        """Step the wall clock, and let it gain `drift` seconds a second from now on."""
        self._offset_seconds, self._drift, self._drift_since = offset_seconds, drift, self._loop.time()

    def now(self) -> datetime:
        """See `Clock.now`."""
        return instant(self._loop.time()) + timedelta(seconds=self.offset_seconds)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._began_seconds + self._loop.time()

    def boottime(self) -> float:
        """See `Clock.boottime`."""
        return self._began_seconds + self._loop.time() + 1.0
