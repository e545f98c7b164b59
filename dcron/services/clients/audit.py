"""The record of what clients change, in a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_bytes

import structlog

from dcron.domain.access import Caller
from dcron.domain.audit import (
    AuditPage,
    AuditQuery,
    AuditRecord,
    Change,
    is_result,
    record_of,
    request_body,
    results_body,
    results_id,
    results_of,
)
from dcron.domain.errors import InvalidInput, SetupError, StoreUnreachable
from dcron.domain.ids import ULID_RANDOMNESS_BYTES, is_ulid, new_ulid, ulid_time
from dcron.domain.pages import Position, page_size, page_token, position_of
from dcron.domain.validation import is_job_name
from dcron.ports import AUDIT, Clock, Document, DocumentStore, WriteKind
from dcron.services.clients.revisions import Revisions, job_documents

__all__ = ["DEFAULT_PAGE", "MAX_PAGE", "AuditTrail"]

DEFAULT_PAGE = 50
MAX_PAGE = 1_000
"""Records in one page."""
RANGE_DOCUMENTS = 500
DOCUMENTS_PER_RECORD = 2
GROWTH = 4
"""Each range of a page is so many times longer than the one before."""
MAX_DOCUMENTS = 20_000
"""Documents that one page looks at; a record has one, and its call one more."""
_AFTER_ALL = "~"
_MILLISECOND = timedelta(milliseconds=1)
_LAST_INSTANT = datetime.max.replace(tzinfo=UTC) - _MILLISECOND

log = structlog.get_logger()


class AuditTrail:
    """Records what is asked of this node, and lists what was asked of all."""

    def __init__(self, store: DocumentStore, clock: Clock, node_id: str) -> None:
        self._store = store
        self._clock = clock
        self._node_id = node_id
        self._jobs = job_documents(store)
        self._revisions = Revisions(store)

    async def request(self, caller: Caller, changes: Sequence[Change]) -> list[str]:
        """Record that changes are asked for by one call, before they are made; the records' ids, in order.

        StoreUnreachable or SetupError: one could not be recorded, and none must be made."""
        now = self._clock.now()
        ids = [new_ulid(now, token_bytes(ULID_RANDOMNESS_BYTES)) for _ in changes]
        documents = [
            Document(record_id, request_body(caller, self._node_id, change, now))
            for record_id, change in zip(ids, changes, strict=True)
        ]
        for result in await self._store.write(AUDIT, documents):
            if result.kind is WriteKind.REJECTED:
                raise SetupError(f"nothing was changed, for the record of it was refused: {result.reason}")
            # On one copy alone (UNSURE) it is recorded as well: nothing is decided by it.
            if result.kind is WriteKind.LOST:
                raise StoreUnreachable("nothing was changed, for it could not be recorded; try again")
        return ids

    async def results(self, ids: Sequence[str], results: Sequence[str]) -> None:
        """Record what came of a call's changes. They are made by then: where this fails, the log has it."""
        if not ids:
            return
        came_of = dict(zip(ids, results, strict=True))
        document = Document(results_id(ids), results_body(came_of, self._clock.now()))
        try:
            [written] = await self._store.write(AUDIT, [document])
        except StoreUnreachable as error:
            trouble = str(error)
        else:
            trouble = written.reason if written.kind is WriteKind.REJECTED else ""
        for record_id, result in came_of.items() if trouble else ():
            log.warning(
                "the result of a change is not in the database of records",
                action="audit",
                record=record_id,
                result=result,
                error=trouble,
            )

    async def list(self, query: AuditQuery, asked: int = 0, token: str = "") -> AuditPage:
        """A page of the newest records that a query asks for; `asked` 0 means DEFAULT_PAGE."""
        size = page_size(asked, DEFAULT_PAGE, MAX_PAGE)
        position = position_of(query, token, 1)
        if position and not is_ulid(position[0]):
            raise InvalidInput("page_token", "is not from an earlier answer; start again without it")
        last_id = position[0] if position else _AFTER_ALL
        uid = await self._uid_of(query.job)
        found: list[AuditRecord] = []
        documents = 0
        results: dict[str, tuple[str, datetime]] = {}
        async for document in self._newest_first(query, position, size):
            documents += 1
            if is_result(document.id):
                results |= results_of(document.body)
                continue
            if document.id >= last_id:
                continue
            record = record_of(document.id, document.body, results.pop(document.id, None))
            if _is_asked_for(record, query, uid):
                found.append(record)
            if len(found) == size or documents >= MAX_DOCUMENTS:
                return AuditPage(tuple(found), page_token(query, (record.id,)))
        return AuditPage(tuple(found))

    async def _uid_of(self, job: str) -> str:
        """The uid of a job, or of the last one that had its name; empty when there is none."""
        if not is_job_name(job):
            return ""
        registered = await self._jobs.read(job)
        return registered.uid if registered else await self._revisions.last_removed(job)

    async def _newest_first(
        self, query: AuditQuery, position: Position, wanted: int
    ) -> AsyncIterator[Document]:
        """Documents from a position on, with those of its millisecond: the results of its call are there."""
        start = _first_id("since", query.since) if query.since else ""
        end = _first_id("until", query.until) if query.until else _AFTER_ALL
        if position and (made_at := ulid_time(position[0])) < _LAST_INSTANT:
            end = min(end, _first_id("page_token", made_at + _MILLISECOND))
        limit = min(RANGE_DOCUMENTS, DOCUMENTS_PER_RECORD * (wanted + 1) + 1)
        while True:
            page = await self._store.range(AUDIT, start, end, limit=limit, descending=True)
            for document in page:
                yield document
            if len(page) < limit:
                return
            end = page[-1].id
            limit = min(RANGE_DOCUMENTS, limit * GROWTH)


def _first_id(field: str, instant: datetime) -> str:
    """Sorts before all records of an instant and after all of earlier ones. `field` is what a client gave."""
    try:
        return new_ulid(instant, bytes(ULID_RANDOMNESS_BYTES))
    except ValueError as error:
        raise InvalidInput(field, str(error)) from error


def _is_asked_for(record: AuditRecord, query: AuditQuery, uid: str) -> bool:
    if query.who and record.who != query.who:
        return False
    subject = record.change.subject
    return not query.job or subject == query.job or bool(uid and subject.startswith(f"{uid}:"))
