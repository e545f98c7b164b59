"""Jobs and executions written straight into the store, as dcron itself would write them.

Registering through a node is a figure of its own; the other scenarios begin after it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from secrets import token_bytes, token_hex
from typing import TypeVar

from dcron.adapters.couchdb.store import CouchDocumentStore, parse_couchdb_url
from dcron.adapters.documents import index_fields
from dcron.adapters.sqlite.store import SqliteDocumentStore, parse_sqlite_url
from dcron.domain.changes import create
from dcron.domain.documents import claim_body, outcome_body
from dcron.domain.errors import StoreUnreachable
from dcron.domain.ids import ULID_RANDOMNESS_BYTES, new_ulid
from dcron.domain.job_documents import job_body
from dcron.domain.model import Claim, Job, Occurrence, Outcome, Specification, State
from dcron.ports import JOBS, Document, DocumentStore, executions_database

__all__ = [
    "at_instant",
    "execution_documents",
    "executions_of",
    "jobs",
    "let_index",
    "open_patient",
    "store_executions",
    "store_jobs",
]

BATCH = 500
"""Documents in one write."""
CALL_SECONDS = 120.0
"""The deadline of a call here: nobody's lease hangs on it."""
INDEX_MINUTES = 15
"""How long an index of a million documents may take."""

_Item = TypeVar("_Item")


def open_patient(url: str) -> DocumentStore:
    """The document store of a URL, with deadlines for bulk work."""
    if url.startswith("sqlite:"):
        return SqliteDocumentStore(parse_sqlite_url(url), call_seconds=CALL_SECONDS)
    return CouchDocumentStore(parse_couchdb_url(url), call_seconds=CALL_SECONDS)


def at_instant(instant: datetime) -> str:
    """A schedule that comes once a day, at this second."""
    return f"{instant.second} {instant.minute} {instant.hour} * * *"


def jobs(prefix: str, count: int, specification: Specification) -> Iterator[Document]:
    """Documents of new jobs that differ in name and uid only."""
    now = datetime.now(UTC)
    body = job_body(create(prefix, _uid(now), specification, now, paused=False))
    for number in range(count):
        yield Document(f"{prefix}-{number:07}", {**body, "uid": _uid(now)})


async def store_jobs(store: DocumentStore, documents: Iterable[Document]) -> None:
    """Create all of them; fails when one is not stored."""
    await _store(store, JOBS, documents)


def executions_of(job: Job, count: int, until: datetime) -> Iterator[tuple[str, Document]]:
    """Claims and outcomes of one job, a minute apart, the last of them due at `until`; with the database."""
    for number in range(count):
        scheduled_at = until - timedelta(minutes=number)
        claim, outcome = execution_documents(job, scheduled_at)
        database = executions_database(scheduled_at)
        yield database, claim
        yield database, outcome


def execution_documents(job: Job, scheduled_at: datetime) -> tuple[Document, Document]:
    """Claim and outcome of an execution that succeeded within a second."""
    identifier = Occurrence.of_schedule(job.uid, scheduled_at).attempt(1).text
    claim = Claim(
        execution_id=identifier,
        token=token_hex(16),
        node_id="n1",
        job=job.name,
        term=1,
        revision=job.revision,
        script=job.specification.script,
        scheduled_at=scheduled_at,
        manual=False,
        claimed_at=scheduled_at,
        timeout_seconds=0.0,
    )
    outcome = Outcome(
        execution_id=identifier,
        token=claim.token,
        node_id=claim.node_id,
        state=State.SUCCEEDED,
        finished_at=scheduled_at + timedelta(seconds=1),
        started_at=scheduled_at,
        exit_code=0,
    )
    return Document(identifier, claim_body(claim)), Document(outcome.id, outcome_body(outcome))


async def store_executions(store: DocumentStore, documents: Iterable[tuple[str, Document]]) -> None:
    """Create all of them; documents of one month follow each other."""
    for database, group in itertools.groupby(documents, key=lambda each: each[0]):
        await _store(store, database, (document for _, document in group))


async def let_index(store: DocumentStore, databases: Iterable[str]) -> None:
    """Wait until the indexes hold what these databases do: what was written past all nodes keeps CouchDB busy
    with them for a while, and is not what a scenario measures."""
    for database in databases:
        for index in index_fields(database):
            await _indexed(store, database, index)


async def _indexed(store: DocumentStore, database: str, index: str) -> None:
    """CouchDB gives a request up after a minute, and goes on indexing."""
    for minutes_left in reversed(range(INDEX_MINUTES)):
        try:
            await store.find(database, index, limit=1)
        except StoreUnreachable:
            if not minutes_left:
                raise
        else:
            return


async def _store(store: DocumentStore, database: str, documents: Iterable[Document]) -> None:
    for batch in _batches(documents, BATCH):
        results = await store.write(database, batch)
        lost = [result for result in results if not result.done]
        assert not lost, f"{len(lost)} documents were not stored in {database}, such as {lost[0]}"


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _uid(now: datetime) -> str:
    return new_ulid(now, token_bytes(ULID_RANDOMNESS_BYTES))
