"""Listing executions: which ones by hints, what they are by reads from a quorum."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from dcron.domain.documents import skip_instant, skip_of
from dcron.domain.errors import InvalidInput
from dcron.domain.execution_id import ExecutionId
from dcron.domain.ids import ulid_time
from dcron.domain.model import State
from dcron.domain.pages import page_size, page_token, position_of
from dcron.domain.queries import SKIPPED, ExecutionQuery, Listed
from dcron.domain.views import ExecutionView, SkippedView, execution_view
from dcron.ports import DocumentStore, executions_database
from dcron.services.clients.execution_walks import Hit, IdWalk, IndexWalk, RunningWalk, Walk
from dcron.services.shared.attempts import read_attempts
from dcron.services.shared.months import by_month

__all__ = ["DEFAULT_PAGE", "MAX_PAGE", "ExecutionLists", "ExecutionPage"]

DEFAULT_PAGE = 20
MAX_PAGE = 1_000
"""Executions in one page."""
CLOCK_MARGIN = timedelta(days=1)
"""Time after its first occurrence at which a job may seem to be made, by a wrong clock."""
MAX_LOOKED_AT = 2_000
"""Executions, or active jobs, that are read for one page; where few of them are wanted, it comes short."""


_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ExecutionPage:
    """Executions in order of time; `next_token` is empty where none follow."""

    executions: tuple[Listed, ...]
    next_token: str


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

    async def skips(self, identifiers: Sequence[str]) -> dict[str, SkippedView]:
        """Those of the skip records that are stored, by id; one read for each month they are of."""
        instants = {identifier: skip_instant(identifier) for identifier in identifiers}
        known = {identifier: instant for identifier, instant in instants.items() if instant}
        found = {}
        for database, ids in by_month(known, lambda identifier: known[identifier]).items():
            for leaves in await self._store.read(database, ids):
                if leaves:
                    body = leaves[0].body
                    found[leaves[0].id] = SkippedView(skip_of(body), body.get("job", ""))
        return found

    async def page(self, query: ExecutionQuery, name: str, uid: str, asked: int, token: str) -> ExecutionPage:
        """A page of `query`, of the job with this name and uid, or (with "") of all."""
        size = page_size(asked, DEFAULT_PAGE, MAX_PAGE)
        # A name may come to mean another job between two pages.
        list_id = (query, uid)
        walk = await self._walk(query, uid, token)
        found: list[Listed] = []
        looked_at = 0
        position = walk.position
        async for hits in walk.hits(size):
            listed = await self._listed(hits)
            for hit, each in zip(hits, listed, strict=True):
                position = hit.position
                if each is not None and query.matches(each):
                    found.append(_named(each, name))
                    if len(found) == size:
                        return ExecutionPage(tuple(found), page_token(list_id, position))
            looked_at += len(hits)
            if looked_at >= MAX_LOOKED_AT:
                return ExecutionPage(tuple(found), page_token(list_id, position))
        return ExecutionPage(tuple(found), page_token(list_id, walk.position))

    async def _walk(self, query: ExecutionQuery, uid: str, token: str) -> Walk:
        list_id = (query, uid)
        if uid:
            start = position_of(list_id, token, IdWalk.PARTS)
            return IdWalk(self._store, uid, query, await self._months(query, uid), start)
        if query.states == (State.RUNNING,):
            return RunningWalk(self._store, query, position_of(list_id, token, RunningWalk.PARTS))
        if SKIPPED in query.states and State.RUNNING in query.states:
            raise InvalidInput(
                "states", "skipped records and running executions of all jobs are two lists; ask for each"
            )
        start = position_of(list_id, token, IndexWalk.PARTS)
        return IndexWalk(self._store, query, await self._months(query), start)

    async def _months(self, query: ExecutionQuery, uid: str = "") -> Sequence[str]:
        """Databases that can hold what is asked for, oldest first: nothing is older than its job."""
        since, until = query.scheduled_from, query.scheduled_until
        if uid:
            created_at = ulid_time(uid) - CLOCK_MARGIN
            since = max(since, created_at) if since else created_at
        first = executions_database(since) if since else ""
        last = executions_database(until - _MICROSECOND) if until else "~"
        return [month for month in await self._store.databases() if first <= month <= last]

    async def _listed(self, hits: Sequence[Hit]) -> Sequence[Listed | None]:
        """What the hits are; None for what is not stored, or was not found by the outcome that counts."""
        views = await self.views([hit.execution_id for hit in hits if hit.execution_id])
        skips = await self.skips([hit.skip_id for hit in hits if hit.skip_id])

        def one(hit: Hit) -> Listed | None:
            if not hit.execution_id:
                return hit.skip or skips.get(hit.skip_id)
            view = views.get(hit.execution_id)
            if view is None or (hit.ended_by and (view.outcome is None or view.outcome.id != hit.ended_by)):
                return None
            return view

        return [one(hit) for hit in hits]


def _named(listed: Listed, name: str) -> Listed:
    """A skip record with the name of its job, which older records do not tell."""
    return (
        replace(listed, job=name) if isinstance(listed, SkippedView) and name and not listed.job else listed
    )
