"""Listing executions: which ones by indexes and ranges (hints), what they are by reads from a quorum."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final, Literal

from dcron.domain.changes import merge
from dcron.domain.documents import REVISIONS_START, skip_of
from dcron.domain.errors import InvalidInput
from dcron.domain.execution_id import ExecutionId, split_document_id
from dcron.domain.job_documents import job_of
from dcron.domain.model import Skip, State
from dcron.domain.views import ExecutionView, SkippedView, execution_view
from dcron.ports import JOBS, Document, DocumentStore
from dcron.services.shared.attempts import read_attempts
from dcron.services.shared.months import by_month
from dcron.services.shared.pacing import together

__all__ = ["DEFAULT_LIMIT", "MAX_LIMIT", "SKIPPED", "ExecutionLists", "Listed", "StateFilter"]

DEFAULT_LIMIT = 20
MAX_LIMIT = 1_000
"""Executions in one listing."""
MAX_SCANNED = 20_000
"""Documents that one listing looks through at most; older ones are not found by it."""
MAX_PAGE = 2_000
"""Documents in one range."""
DOCUMENTS_PER_EXECUTION = 3
MAX_ACTIVE = 5_000
"""Active jobs among which running executions are looked for, the newest first."""
ACTIVE_BATCH = 500
MAX_NAMED_JOBS = 5_000
"""Jobs whose names are looked up for skipped records."""
MAX_MONTHS = 240

SKIPPED: Final = "skipped"
StateFilter = State | Literal["skipped"]
Listed = ExecutionView | SkippedView

# A schedule's occurrences are keyed by their year, manual ones by a ULID.
_SCHEDULED = ("2", "3")
_MANUAL = ("0", "1")


@dataclass(slots=True)
class _Budget:
    """How many documents a listing may still look at."""

    left: int = MAX_SCANNED


class ExecutionLists:
    """Finds executions; `attention` gives the ids of those that need a person."""

    def __init__(self, store: DocumentStore, attention: Callable[[], Awaitable[frozenset[str]]]) -> None:
        self._store = store
        self._attention = attention

    async def views(self, identifiers: Sequence[str]) -> dict[str, ExecutionView]:
        """Those of the executions that are stored, by id; two reads for each month they are of."""
        parsed = [ExecutionId.parse_or_none(identifier) for identifier in dict.fromkeys(identifiers)]
        by_database = by_month([each for each in parsed if each], lambda identifier: identifier.instant)
        attention = await self._attention() if by_database else frozenset()
        views: dict[str, ExecutionView] = {}
        for database, ids in by_database.items():
            texts = [identifier.text for identifier in ids]
            for identifier, record in (await read_attempts(self._store, database, texts)).items():
                view = execution_view(record.claims, record.outcomes, record.verdict, attention)
                if view is not None:
                    views[identifier] = view
        return views

    async def of_all(self, state: StateFilter | None, limit: int) -> Sequence[Listed]:
        """Executions of all jobs, newest first; skipped records only when asked for by `state`."""
        if state is None:
            return await self._by_index("claimed_at", "", "\uffff", None, limit)
        if state == SKIPPED:
            return await self._skipped(limit)
        if state is State.RUNNING:
            return await self._running(limit)
        return await self._by_index("state_at", f"{state.value} ", f"{state.value}!", state, limit)

    async def of_job(self, uid: str, name: str, state: StateFilter | None, limit: int) -> Sequence[Listed]:
        """Executions and skipped records of one job, newest first."""
        found: list[Listed] = []
        budget = _Budget()
        for database in await self._months():
            wanted = limit - len(found)
            if wanted <= 0 or budget.left <= 0:
                break
            ranges = await together(
                *(
                    self._candidates(database, f"{uid}:{first}", f"{uid}:{last}", state, wanted, budget)
                    for first, last in (_SCHEDULED, _MANUAL)
                )
            )
            candidates = list(chain.from_iterable(ranges))
            ids = [candidate for candidate in candidates if isinstance(candidate, str)]
            skips = [SkippedView(candidate, name) for candidate in candidates if isinstance(candidate, Skip)]
            views = [view for view in (await self.views(ids)).values() if _matches(view, state)]
            of_month: list[Listed] = [*views, *skips]
            found += sorted(of_month, key=_time_order, reverse=True)[:wanted]
        return found

    async def _months(self) -> Sequence[str]:
        """Executions databases, newest first."""
        return list(reversed(await self._store.databases()))[:MAX_MONTHS]

    async def _candidates(
        self, database: str, start: str, end: str, state: StateFilter | None, limit: int, budget: _Budget
    ) -> Sequence[str | Skip]:
        """Ids of executions that a range of documents lets expect in `state`, and skips, newest first."""
        found: dict[str | Skip, None] = {}
        ended: set[str] = set()
        async for document in self._descending(database, start, end, limit, budget):
            candidate = _candidate(document, state, ended)
            if candidate is not None:
                found[candidate] = None
                if len(found) >= limit:
                    break
        return list(found)

    async def _descending(
        self, database: str, start: str, end: str, limit: int, budget: _Budget
    ) -> AsyncIterator[Document]:
        """Documents of a range from its end, page by page, until the budget is spent."""
        page_size = min(MAX_PAGE, limit * DOCUMENTS_PER_EXECUTION + 1)
        while budget.left > 0:
            size = min(page_size, budget.left)
            page = await self._store.range(database, start, end, limit=size, descending=True)
            budget.left -= len(page)
            for document in page:
                yield document
            if len(page) < size:
                return
            end = page[-1].id
            page_size = MAX_PAGE

    async def _by_index(
        self, index: str, start: str, end: str, state: State | None, limit: int
    ) -> Sequence[Listed]:
        found: list[Listed] = []
        for database in await self._months():
            wanted = limit - len(found)
            if wanted <= 0:
                break
            rows = await self._store.find(
                database, index, start=start, end=end, limit=wanted, descending=True
            )
            parts = [split_document_id(row.id) for row in rows]
            ids = list(dict.fromkeys(each[0].text for each in parts if each))
            views = await self.views(ids)
            found += [views[each] for each in ids if each in views and _matches(views[each], state)]
        return found

    async def _running(self, limit: int) -> Sequence[Listed]:
        """What active jobs have running, newest first; what a removed job has running is not found."""
        rows = await self._store.find(JOBS, "active_since", limit=MAX_ACTIVE, descending=True)
        found: list[Listed] = []
        for start in range(0, len(rows), ACTIVE_BATCH):
            names = [row.id for row in rows[start : start + ACTIVE_BATCH]]
            jobs = [
                merge([job_of(name, leaf.body) for leaf in leaves])
                for name, leaves in zip(names, await self._store.read(JOBS, names), strict=True)
                if leaves
            ]
            ids = [job.place.active.execution_id for job in jobs if job.place.active]
            views = await self.views(ids)
            found += [views[each] for each in ids if each in views and views[each].state is State.RUNNING]
            if len(found) >= limit:
                break
        return found[:limit]

    async def _skipped(self, limit: int) -> Sequence[Listed]:
        """Skipped records of all jobs, for which there is no index."""
        skips: list[Skip] = []
        budget = _Budget()
        for database in await self._months():
            of_month = [
                skip_of(document.body)
                async for document in self._descending(database, "", "\uffff", MAX_LIMIT, budget)
                if document.body["kind"] == SKIPPED
            ]
            skips += sorted(of_month, key=lambda skip: skip.scheduled_at, reverse=True)
            if budget.left <= 0:
                raise InvalidInput(
                    "job", "there are too many executions to find the skipped ones of all jobs; name a job"
                )
            if len(skips) >= limit:
                break
        names = await self._names() if skips else {}
        return [SkippedView(skip, names.get(skip.uid, "")) for skip in skips[:limit]]

    async def _names(self) -> dict[str, str]:
        """Names of jobs by uid; a hint, like the listing."""
        documents = await self._store.range(JOBS, "", REVISIONS_START, limit=MAX_NAMED_JOBS)
        return {document.body["uid"]: document.id for document in documents}


def _candidate(document: Document, state: StateFilter | None, ended: set[str]) -> str | Skip | None:
    """What one document of a descending range adds; outcomes come before their claim."""
    kind = document.body["kind"]
    if kind == "skipped":
        return skip_of(document.body) if state in {None, SKIPPED} else None
    if state == SKIPPED:
        return None
    parts = split_document_id(document.id)
    if parts is None:
        return None
    identifier = parts[0].text
    if kind == "claim":
        wanted = state is None or (state is State.RUNNING and identifier not in ended)
        return identifier if wanted else None
    if kind != "outcome":
        return None
    # After a split, one claimant may not have started while another runs.
    if document.body["state"] != State.NOT_STARTED.value:
        ended.add(identifier)
    return identifier if isinstance(state, State) and document.body["state"] == state.value else None


def _matches(view: ExecutionView, state: StateFilter | None) -> bool:
    return state is None or view.state is state


def _time_order(listed: Listed) -> tuple[datetime, int]:
    if isinstance(listed, SkippedView):
        return listed.skip.scheduled_at, 0
    return listed.claim.scheduled_at, listed.claim.id.attempt
