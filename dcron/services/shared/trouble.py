"""Something in the way: said once when it begins and once when it is over, however often it is met."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType

import structlog

from dcron.ports import Clock

__all__ = ["StoreTrouble", "Trouble"]

log = structlog.get_logger()


class Trouble:
    """One kind of trouble; true while there is some. `action` and `about` go with both lines."""

    def __init__(self, action: str, begins: str, ends: str, **about: str) -> None:
        self._about = {"action": action, **about}
        self._begins = begins
        self._ends = ends
        self.reason = ""
        """Trouble as last met, in words; empty when there is none."""

    def __bool__(self) -> bool:
        return bool(self.reason)

    def met(self, reason: str) -> None:
        """There is trouble; `reason` is not empty."""
        if not self.reason:
            log.warning(self._begins, error=reason, **self._about)
        self.reason = reason

    def over(self) -> None:
        """There is none (any more)."""
        if self.reason:
            log.info(self._ends, **self._about)
        self.reason = ""

    def of(self, *errors: type[Exception]) -> _Watched:
        """A context in which each of these errors is the trouble, and ends with its being met. The trouble is
        over when nothing is raised; any other error goes on, and says nothing of it."""
        return _Watched(self, errors)


class _Watched:
    """See `Trouble.of`."""

    def __init__(self, trouble: Trouble, errors: tuple[type[Exception], ...]) -> None:
        self._trouble = trouble
        self._errors = errors

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            self._trouble.over()
            return False
        if not isinstance(error, self._errors):
            return False
        self._trouble.met(str(error) or type(error).__name__)
        return True


class StoreTrouble(Trouble):
    """Note that the document store cannot be reached from here, and since when."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(
            "reach_store",
            "cannot reach the document store; nothing new starts here, scripts that run go on",
            "reaches the document store again",
        )
        self._clock = clock
        self.since: datetime | None = None

    def met(self, reason: str) -> None:
        """See `Trouble.met`."""
        self.since = self.since or self._clock.now()
        super().met(reason)

    def over(self) -> None:
        """See `Trouble.over`."""
        self.since = None
        super().over()
