"""Times at which scripts are to be stopped. The next one is known without looking at all of them."""

from __future__ import annotations

import heapq
import math

__all__ = ["Timeouts"]

LEFT_MAX = 1000
"""Entries of scripts that ended before their timeout that are kept, beside as many as there are scripts."""


class Timeouts:
    """Instants of the monotonic clock by token."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def add(self, token: str, at: float) -> None:
        """Stop this script then; infinity is never."""
        if at == math.inf:
            return
        self._at[token] = at
        heapq.heappush(self._heap, (at, token))

    def discard(self, token: str) -> None:
        """There is nothing to be stopped any more."""
        self._at.pop(token, None)
        if len(self._heap) > 2 * len(self._at) + LEFT_MAX:
            self._heap = [(at, each) for each, at in self._at.items()]
            heapq.heapify(self._heap)

    def take_due(self, now: float) -> list[str]:
        """Tokens whose time has come, each once."""
        due = []
        while self.next_at() <= now:
            token = heapq.heappop(self._heap)[1]
            del self._at[token]
            due.append(token)
        return due

    def next_at(self) -> float:
        """The earliest; infinity when there is none."""
        while self._heap:
            at, token = self._heap[0]
            if self._at.get(token) == at:
                return at
            heapq.heappop(self._heap)
        return math.inf
