"""The jobs that wait for the clock, by the instants at which they fall due; no store and no document."""

from __future__ import annotations

import heapq
from collections import Counter
from datetime import datetime, timedelta

from dcron.domain.planning import AHEAD_SECONDS

__all__ = ["DueQueue"]

AHEAD_PER_JOB = timedelta(milliseconds=4)
"""Time ahead of an instant for each job that is due at it and launched early: more than intent, offer and
claim of one take on CouchDB while many are launched."""


class DueQueue:
    """Names of jobs with their instants. An entry whose job has another instant by now is passed over."""

    def __init__(self) -> None:
        self._due_at: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._left: list[tuple[datetime, str]] = []
        """Jobs that cannot be decided on ahead of their instant."""
        self._due_at_once: Counter[datetime] = Counter()
        """Entries of the heap by their instants."""

    def put(self, name: str, due_at: datetime | None, *, by_clock: bool) -> None:
        """Note when a job falls due next, and have it taken then; not if it waits `by_clock` no more, but for
        the end of an attempt."""
        if due_at is None:
            self._due_at.pop(name, None)
            return
        self._due_at[name] = due_at
        if by_clock:
            heapq.heappush(self._heap, (due_at, name))
            self._due_at_once[due_at] += 1

    def remove(self, name: str) -> None:
        """Take a job out of the queue."""
        self._due_at.pop(name, None)

    def clear(self) -> None:
        """Remove all; each job that is put leaves an entry behind, so this is done now and then."""
        assert self._due_at_once.total() == len(self._heap), (
            "an instant has another number of jobs than counted"
        )
        self._due_at.clear()
        self._heap.clear()
        self._left.clear()
        self._due_at_once.clear()

    def next_due_at(self, *, early: bool = False) -> datetime | None:
        """Instant at which `take_due` has something next."""
        at_instant, ahead = self._first_of(self._left), self._first_of(self._heap)
        if ahead is not None and early:
            ahead -= self._early(ahead)
        return min((due_at for due_at in (at_instant, ahead) if due_at is not None), default=None)

    def take_due(self, now: datetime, limit: int, *, early: bool = False) -> list[str]:
        """Names of at most `limit` jobs that are due, each once; they come back when they are put again. With
        `early` also those that are due before long, unless they were left for their instant."""
        taken: dict[str, None] = {}
        for heap in (self._left, self._heap):
            until = now
            while len(taken) < limit and (due_at := self._first_of(heap)) is not None:
                if early and heap is self._heap and due_at > until and due_at <= now + self._early(due_at):
                    until = due_at
                if due_at > until:
                    break
                taken[self._pop(heap)] = None
        assert len(taken) <= limit
        return list(taken)

    def leave(self, name: str, now: datetime) -> None:
        """Put a job that was taken ahead of its instant back, for that instant."""
        due_at = self._due_at.get(name)
        if due_at is not None and due_at > now:
            heapq.heappush(self._left, (due_at, name))

    def _early(self, due_at: datetime) -> timedelta:
        """Time ahead of an instant at which its jobs may be taken: about as long as launching those that are
        left. It is short, since a worker that claims early and dies before the start holds the attempt up."""
        return min(AHEAD_PER_JOB * self._due_at_once[due_at], timedelta(seconds=AHEAD_SECONDS))

    def _first_of(self, heap: list[tuple[datetime, str]]) -> datetime | None:
        while heap:
            due_at, name = heap[0]
            if self._due_at.get(name) == due_at:
                return due_at
            self._pop(heap)
        return None

    def _pop(self, heap: list[tuple[datetime, str]]) -> str:
        due_at, name = heapq.heappop(heap)
        if heap is self._heap:
            assert self._due_at_once[due_at] > 0, "more jobs left an instant than came to it"
            self._due_at_once[due_at] -= 1
            if not self._due_at_once[due_at]:
                del self._due_at_once[due_at]
        return name
