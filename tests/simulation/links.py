"""A node's connection to something else, which can be cut in either direction."""

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import Context
from typing import Any

from tests.simulation.loop import VirtualLoop

__all__ = ["Link"]


class Link:
    """Whether what is sent arrives, and whether answers come back. `name` is the node's."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self._loop = loop
        self.name = name
        self.sends = True
        self.receives = True

    def cut(self, *, sends: bool, receives: bool) -> None:
        """Break one direction or both."""
        self.sends, self.receives = sends, receives

    def mend(self) -> None:
        """Let everything through again."""
        self.sends = self.receives = True

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Carry on at the other end, whatever becomes of this node meanwhile."""
        self._loop.create_task(work, context=Context())
