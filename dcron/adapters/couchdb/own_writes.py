"""Documents that this process has just written to CouchDB. An update need not look for them first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from dcron.ports import Document, WriteResult

__all__ = ["OwnWrites"]

REMEMBERED_SECONDS: Final = 10.0
"""Longer than a renewal of the lease, and shorter than anybody takes to make a database anew."""
MAX_REMEMBERED: Final = 20_000


class OwnWrites:
    """Revisions that got a plain success a moment ago, by database and document."""

    def __init__(self) -> None:
        self._revisions: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()
        """Ids with the time at which each is forgotten, the oldest first."""

    def note(self, name: str, results: Iterable[tuple[Document, WriteResult]]) -> None:
        """Remember what was stored."""
        now = _now()
        for document, result in results:
            if result.done and result.revision is not None:
                key = (name, document.id)
                self._revisions[key] = (result.revision, now + REMEMBERED_SECONDS)
                self._revisions.move_to_end(key)
        self._forget(now)

    def has(self, name: str, document: Document) -> bool:
        """Whether an update follows a revision that was stored from here, so that the document is there."""
        revision, until = self._revisions.get((name, document.id), ("", 0.0))
        return revision == document.revision and _now() < until

    def _forget(self, now: float) -> None:
        while self._revisions:
            _, until = next(iter(self._revisions.values()))
            if until > now and len(self._revisions) <= MAX_REMEMBERED:
                break
            self._revisions.popitem(last=False)


def _now() -> float:
    return asyncio.get_running_loop().time()
