"""What the tests of document stores ask again and again. Hints may be seconds old: these wait for them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from dcron.ports import JOBS, Document, WriteKind, executions_database

MONTH = executions_database(datetime(2026, 11, 3, tzinfo=UTC))
HINT_SECONDS = 20
POLL_SECONDS = 0.05
UNKNOWN_REVISION = "3-" + "9" * 32


async def create(store, database, document_id, **body):
    """Store a new document; its revision."""
    [result] = await store.write(database, [Document(document_id, body)])
    assert result.kind is WriteKind.DONE
    return result.revision


async def read_one(store, database, document_id):
    [leaves] = await store.read(database, [document_id])
    return leaves


def refused(result, backend):
    """Whether somebody else was first. A copy of a cluster that has not heard of it yet takes the late
    document, as a leaf without a quorum."""
    expected = {WriteKind.LOST} if backend.one_copy else {WriteKind.LOST, WriteKind.UNSURE}
    return result.kind in expected


async def settles(ask, expected):
    """Whether a hint comes to say what is expected: those of a cluster may be seconds old."""
    loop = asyncio.get_running_loop()
    until = loop.time() + HINT_SECONDS
    while (told := await ask()) != expected and loop.time() < until:
        await asyncio.sleep(POLL_SECONDS)
    assert told == expected
    return True


async def follow(store, database, since, ids):
    """Changes from a position until each of the ids has come: the last word on each document."""
    seen = {}
    async with asyncio.timeout(HINT_SECONDS):
        while not set(ids) <= set(seen):
            batch = await store.changes(database, since, wait_seconds=5)
            seen |= {document.id: document for document in batch.documents}
            since = batch.since
    return seen, since


async def keys(store, index="next_at", database=JOBS, **arguments):
    return [row.key for row in await store.find(database, index, **{"limit": 100, **arguments})]


async def range_ids(store, start, end, **arguments):
    return [document.id for document in await store.range(JOBS, start, end, **{"limit": 100, **arguments})]
