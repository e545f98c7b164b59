"""Ways through the stored executions, in order of time: one job's by their ids, all jobs' by an index.

A walk tells which executions to look at, by hints alone, and after each where to go on. It ends where
nothing follows, or once its budget is spent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from dcron.domain.changes import merge
from dcron.domain.documents import skip_of
from dcron.domain.execution_id import split_document_id
from dcron.domain.ids import ULID_RANDOMNESS_BYTES, is_ulid, new_ulid
from dcron.domain.instants import format_key, format_precise
from dcron.domain.job_documents import job_of
from dcron.domain.model import State
from dcron.domain.pages import Position
from dcron.domain.queries import SKIPPED, ExecutionQuery
from dcron.domain.views import SkippedView
from dcron.ports import JOBS, Document, DocumentStore
from dcron.services.clients.execution_streams import (
    GROWTH,
    Budget,
    Group,
    IdStream,
    IndexStream,
    Row,
    occurrence_of,
)
from dcron.services.clients.understanding import understood

__all__ = ["Hit", "IdWalk", "IndexWalk", "RunningWalk", "Walk"]

MAX_BATCH = 500
"""Hits in one batch, and active jobs that are read at a time to see what they have running."""
MARGIN = timedelta(hours=1)
"""Time before its instant at which an execution may seem to be claimed or ended, by a wrong clock."""
_SECOND = timedelta(seconds=1)
# A schedule's occurrences are keyed by their year, manual ones by a ULID.
_SCHEDULED = ("2", "3")
_MANUAL = ("0", "1")
_NOTHING = ("", "")


@dataclass(frozen=True, slots=True)
class Hit:
    """An execution to look at, a skip record, or (with neither) a job that was read and has nothing wanted.

    `position` is where the list goes on behind it.
    `ended_by` is the outcome document by which it was found, `skip_id` a record that is still to be read."""

    position: Position
    execution_id: str = ""
    skip: SkippedView | None = None
    skip_id: str = ""
    ended_by: str = ""


class Walk(Protocol):
    """One way through executions."""

    position: Position
    """Token to go on after the last hit; empty when nothing follows."""

    def hits(self, wanted: int) -> AsyncIterator[Sequence[Hit]]:
        """Hits in order, at most `wanted` at first. Each batch is GROWTH times longer, up to MAX_BATCH:
        where few hits are what is asked for, few batches find them."""


class _MonthWalk(ABC):
    """Walks month by month, through several streams of each that are merged by time."""

    def __init__(
        self, store: DocumentStore, query: ExecutionQuery, months: Sequence[str], start: Position
    ) -> None:
        """`months` are databases, oldest first; `start` is a position of an earlier walk of the query."""
        self._store = store
        self._query = query
        in_order = months if query.oldest_first else list(reversed(months))
        self._months = [month for month in in_order if not start or not self._is_behind(month, start[0])]
        self._start = start
        self._budget = Budget()
        self.position: Position = start

    def _is_behind(self, month: str, first: str) -> bool:
        return month < first if self._query.oldest_first else month > first

    @abstractmethod
    def _streams(
        self, month: str, after: tuple[str, ...], wanted: int
    ) -> Sequence[IdStream] | Sequence[IndexStream]: ...

    @abstractmethod
    def _hit(self, head: Group | Row, position: Position) -> Hit | None: ...

    async def hits(self, wanted: int) -> AsyncIterator[Sequence[Hit]]:
        """See `Walk.hits`."""
        wanted = min(wanted, MAX_BATCH)
        for month in self._months:
            resumed = bool(self._start) and self._start[0] == month
            after = self._start[1:] if resumed else _NOTHING
            self.position = (month, *after)
            streams = self._streams(month, after, wanted)
            while batch := await self._batch(month, streams, wanted):
                yield batch
                wanted = _longer(wanted)
            if not all(stream.exhausted for stream in streams):
                return
        self.position = ()

    async def _batch(
        self, month: str, streams: Sequence[IdStream | IndexStream], wanted: int
    ) -> Sequence[Hit]:
        """The next hits of a month; none once it has no more, or the budget is spent."""
        batch: list[Hit] = []
        while len(batch) < wanted:
            heads = [(await stream.head(), stream) for stream in streams]
            ready = [(head, stream) for head, stream in heads if head is not None]
            # While one of them does not say how it goes on, nobody knows which comes next.
            if not ready or any(head is None and not stream.exhausted for head, stream in heads):
                break
            pick = min if self._query.oldest_first else max
            head, stream = pick(ready, key=lambda each: each[0].order)
            stream.pop()
            # A row says where to go on by itself; of ids, each stream has its own place.
            after = head.order if isinstance(head, Row) else _cursors(streams)
            self.position = (month, *after)
            hit = self._hit(head, self.position)
            if hit is not None:
                batch.append(hit)
        return batch


class IdWalk(_MonthWalk):
    """One job's executions and skip records by their occurrences."""

    PARTS = 3

    def __init__(
        self, store: DocumentStore, uid: str, query: ExecutionQuery, months: Sequence[str], start: Position
    ) -> None:
        super().__init__(store, query, months, start)
        self._uid = uid

    def _streams(self, month: str, after: tuple[str, ...], wanted: int) -> Sequence[IdStream]:
        return [
            IdStream(
                self._store,
                month,
                bounds,
                cursor,
                wanted,
                self._budget,
                descending=not self._query.oldest_first,
            )
            for bounds, cursor in zip(self._bounds(), after, strict=True)
        ]

    def _bounds(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The ranges of ids of scheduled and of manual occurrences, as far as the query reaches."""
        query = self._query
        since, until = query.scheduled_from, query.scheduled_until
        keys = [
            format_key(since) if since else _SCHEDULED[0],
            format_key(until + _SECOND) if until else _SCHEDULED[1],
            _first_ulid(since) if since else _MANUAL[0],
            _first_ulid(until) if until else _MANUAL[1],
        ]
        first, last, first_manual, last_manual = (f"{self._uid}:{key}" for key in keys)
        return (
            (first, last) if query.manual is not True else _NOTHING,
            (first_manual, last_manual) if query.manual is not False else _NOTHING,
        )

    def _hit(self, head: Group | Row, position: Position) -> Hit | None:
        """What the query may want of a group, by what the documents let expect."""
        assert isinstance(head, Group)
        query = self._query
        bodies = [document.body for document in head.documents]
        if not query.reaches(head.instant, manual=is_ulid(head.occurrence.key)):
            return None
        if bodies[0]["kind"] == SKIPPED:
            return Hit(position, skip=SkippedView(skip_of(bodies[0]), bodies[0].get("job", "")))
        claimants = {body["node"] for body in bodies if body["kind"] == "claim"}
        if not claimants or (query.node_id and query.node_id not in claimants):
            return None
        # After a split, one claimant may not have started while another runs.
        states = {body["state"] for body in bodies if body["kind"] == "outcome"}
        if not states - {State.NOT_STARTED.value}:
            states.add(State.RUNNING.value)
        wanted = {each.value for each in query.states if isinstance(each, State)}
        return Hit(position, head.id) if not query.states or states & wanted else None


class IndexWalk(_MonthWalk):
    """All jobs' executions by their claims; those that have ended, and skip records, by when that was."""

    PARTS = 3

    def _streams(self, month: str, after: tuple[str, ...], wanted: int) -> Sequence[IndexStream]:
        by_end = self._query.is_of_the_past
        prefixes = [f"{_value(state)} " for state in self._query.states] if by_end else [""]
        since = self._query.scheduled_from
        return [
            IndexStream(
                self._store,
                month,
                "state_at" if by_end else "claimed_at",
                prefix,
                (after[0], after[1]),
                wanted,
                self._budget,
                descending=not self._query.oldest_first,
                first=format_precise(since - MARGIN) if since else "",
            )
            for prefix in prefixes
        ]

    def _hit(self, head: Group | Row, position: Position) -> Hit | None:
        assert isinstance(head, Row)
        occurrence = occurrence_of(head.id)
        if not self._query.reaches(occurrence.instant, manual=is_ulid(occurrence.key)):
            return None
        parts = split_document_id(head.id)
        if parts is None:
            return Hit(position, skip_id=head.id)
        identifier, token = parts
        return Hit(position, identifier.text, ended_by=head.id if token else "")


class RunningWalk:
    """Running executions of active jobs, by when they were decided on. Those of removed jobs are missing."""

    PARTS = 2

    def __init__(self, store: DocumentStore, query: ExecutionQuery, start: Position) -> None:
        self._store = store
        self._query = query
        self._start = start
        self.position: Position = start

    async def hits(self, wanted: int) -> AsyncIterator[Sequence[Hit]]:
        """See `Walk.hits`."""
        wanted = min(wanted, MAX_BATCH)
        after = (self._start[0], self._start[1]) if self._start else _NOTHING
        stream = IndexStream(
            self._store,
            JOBS,
            "active_since",
            "",
            after,
            wanted,
            Budget(),
            descending=not self._query.oldest_first,
        )
        while rows := await self._rows(stream, wanted):
            self.position = rows[-1].order
            yield await self._hits_of(rows)
            wanted = _longer(wanted)
        if stream.exhausted:
            self.position = ()

    @staticmethod
    async def _rows(stream: IndexStream, wanted: int) -> Sequence[Row]:
        rows: list[Row] = []
        while len(rows) < wanted and (row := await stream.head()) is not None:
            stream.pop()
            rows.append(row)
        return rows

    async def _hits_of(self, rows: Sequence[Row]) -> Sequence[Hit]:
        """A hit for each row, for each has cost a read."""
        stored = await self._store.read(JOBS, [row.id for row in rows])
        return [Hit(row.order, self._wanted_of(leaves)) for row, leaves in zip(rows, stored, strict=True)]

    def _wanted_of(self, leaves: Sequence[Document]) -> str:
        """The execution that a job is at work on; empty where it has none that the query reaches."""
        jobs = [job for leaf in leaves if (job := understood(job_of, leaf)) is not None]
        # As for the leader: of a document that is not understood as a whole, nothing is known.
        active = merge(jobs).place.active if jobs and len(jobs) == len(leaves) else None
        if active is None:
            return ""
        occurrence = active.occurrence
        reached = self._query.reaches(occurrence.scheduled_at, manual=occurrence.manual)
        return active.execution_id if reached else ""


def _longer(wanted: int) -> int:
    return min(MAX_BATCH, wanted * GROWTH)


def _cursors(streams: Sequence[IdStream | IndexStream]) -> tuple[str, ...]:
    return tuple(stream.cursor for stream in streams if isinstance(stream, IdStream))


def _first_ulid(instant: datetime) -> str:
    """Sorts before all ULIDs of an instant and after those of earlier ones."""
    return new_ulid(instant, bytes(ULID_RANDOMNESS_BYTES))


def _value(state: State | str) -> str:
    return state.value if isinstance(state, State) else state
