"""Documents and rows of one database in order of time, read range by range within a call's budget."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dcron.domain.execution_id import ExecutionId, split_document_id
from dcron.ports import Document, DocumentStore

__all__ = ["Budget", "Group", "IdStream", "IndexStream", "Row", "occurrence_of"]

MAX_DOCUMENTS = 10_000
"""Documents and rows of an index that one call looks through; the next page goes on behind them."""
MAX_REQUESTS = 60
"""Ranges that one call asks for."""
MAX_RANGE = 2_000
"""Documents in one range."""
DOCUMENTS_PER_EXECUTION = 3
GROWTH = 4
"""Each range is so many times longer than the one before: few wanted things are found by few requests."""


@dataclass(slots=True)
class Budget:
    """Documents that one call may still ask for."""

    documents: int = MAX_DOCUMENTS
    requests: int = MAX_REQUESTS

    @property
    def spent(self) -> bool:
        """Whether the call is to end with what it has."""
        return self.documents <= 0 or self.requests <= 0

    def take(self, documents: int) -> None:
        """Account for one answer."""
        self.documents -= documents
        self.requests -= 1


@dataclass(frozen=True, slots=True)
class Group:
    """All documents of one execution, or one skip record."""

    id: str
    documents: Sequence[Document]

    @property
    def occurrence(self) -> ExecutionId:
        """The first attempt at its occurrence."""
        return occurrence_of(self.id)

    @property
    def instant(self) -> datetime:
        """The instant of its occurrence."""
        return self.occurrence.instant

    @property
    def order(self) -> tuple[datetime, str]:
        """Place among others."""
        return self.instant, self.id


class IdStream:
    """Whole executions and skip records of one range of ids, in order."""

    def __init__(
        self,
        store: DocumentStore,
        database: str,
        bounds: tuple[str, str],
        cursor: str,
        wanted: int,
        budget: Budget,
        *,
        descending: bool,
    ) -> None:
        """Those within `bounds` (the second one excluded) that come behind `cursor`, if there is one."""
        self._store = store
        self._database = database
        self._descending = descending
        start, end = bounds
        # All documents of an execution begin with its id and ":".
        self._start = start if descending or not cursor else max(start, f"{cursor};")
        self._end = min(end, cursor) if descending and cursor else end
        self._size = min(MAX_RANGE, wanted * DOCUMENTS_PER_EXECUTION + 1)
        self._budget = budget
        self._documents: deque[Document] = deque()
        self._all_read = self._start >= self._end
        self.cursor = cursor
        """The execution or record that was taken last."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left."""
        return self._all_read and not self._documents

    async def head(self) -> Group | None:
        """The next one, which stays; None at the end, or where the budget is spent."""
        while True:
            group = self._whole_group()
            if group is not None or self._all_read or self._budget.spent:
                return group
            await self._read()

    def pop(self) -> None:
        """Take the next one."""
        group = self._whole_group()
        assert group is not None
        for _ in group.documents:
            self._documents.popleft()
        self.cursor = group.id

    def _whole_group(self) -> Group | None:
        """The next one if all its documents are here."""
        if not self._documents:
            return None
        identifier = _owner(self._documents[0].id)
        documents: list[Document] = []
        for document in self._documents:
            if _owner(document.id) != identifier:
                return Group(identifier, documents)
            documents.append(document)
        return Group(identifier, documents) if self._all_read else None

    async def _read(self) -> None:
        page = await self._store.range(
            self._database, self._start, self._end, limit=self._size, descending=self._descending
        )
        self._budget.take(len(page))
        self._documents.extend(page)
        self._all_read = len(page) < self._size
        if page and self._descending:
            self._end = page[-1].id
        elif page:
            # "!" sorts before all that an id can go on with.
            self._start = f"{page[-1].id}!"
        self._size = min(MAX_RANGE, self._size * GROWTH)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an index: its key without the prefix that all have in common, and a document's id."""

    key: str
    id: str

    @property
    def order(self) -> tuple[str, str]:
        """Place among others."""
        return self.key, self.id


class IndexStream:
    """Rows of an index whose keys begin with a prefix, in order."""

    def __init__(
        self,
        store: DocumentStore,
        database: str,
        index: str,
        prefix: str,
        after: tuple[str, str],
        wanted: int,
        budget: Budget,
        *,
        descending: bool,
        first: str = "",
    ) -> None:
        """Those behind the row `after`, if it names one, whose keys are not before `first`."""
        self._store = store
        self._database = database
        self._index = index
        self._prefix = prefix
        self._descending = descending
        self._first = first
        self._after = after
        self._size = min(MAX_RANGE, wanted + 1)
        self._budget = budget
        self._rows: deque[Row] = deque()
        self._all_read = False

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left."""
        return self._all_read and not self._rows

    async def head(self) -> Row | None:
        """The next row, which stays; None at the end, or where the budget is spent."""
        while not self._rows and not self._all_read and not self._budget.spent:
            await self._read()
        return self._rows[0] if self._rows else None

    def pop(self) -> None:
        """Take the next row."""
        self._rows.popleft()

    async def _read(self) -> None:
        after = self._after
        low, high = self._first, "\uffff"
        if after[0] and self._descending:
            # Rows of the same key may still be to come: "!" sorts before all that a key goes on with.
            high = f"{after[0]}!"
        elif after[0]:
            low = max(low, after[0])
        found = await self._store.find(
            self._database,
            self._index,
            start=f"{self._prefix}{low}",
            end=f"{self._prefix}{high}",
            limit=self._size,
            descending=self._descending,
        )
        self._budget.take(len(found))
        rows = [Row(row.key.removeprefix(self._prefix), row.id) for row in found]
        fresh = [row for row in rows if not after[0] or self._is_behind(row, after)]
        self._rows.extend(fresh)
        self._all_read = len(rows) < self._size
        # Of one key there may be more rows than were asked for.
        self._size = min(MAX_RANGE, self._size * GROWTH) if fresh else self._size * GROWTH
        self._after = fresh[-1].order if fresh else after

    def _is_behind(self, row: Row, after: tuple[str, str]) -> bool:
        return row.order < after if self._descending else row.order > after


def _owner(document_id: str) -> str:
    """The execution that a document is of; a skip record's own id."""
    parts = split_document_id(document_id)
    return parts[0].text if parts else document_id


def occurrence_of(document_id: str) -> ExecutionId:
    """The first attempt at the occurrence of a claim, outcome, verdict or skip record."""
    uid, key = document_id.split(":", 2)[:2]
    return ExecutionId(uid, key, 1)
