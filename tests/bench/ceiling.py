"""How fast the document store takes what an occurrence leaves there, written in bulk without dcron."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

from dcron.adapters.couchdb.documents import encoded
from dcron.adapters.couchdb.http import CouchHttp, parse_couchdb_url
from dcron.domain.job_documents import job_body, job_of
from dcron.domain.model import Active, LastOutcome, Occurrence, Specification, State
from dcron.ports import JOBS, Document, DocumentStore, executions_database
from tests.bench import seeding
from tests.bench.measuring import with_store
from tests.bench.stores import Stores
from tests.couchdb_server import with_own_databases

__all__ = ["bulk_rate"]

WRITERS = 2
"""Bulk writes under way at once: one is prepared while another is stored."""
WRITE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Occurrence:
    """The documents of one occurrence, in the order in which they are written."""

    intent: Document
    claim: Document
    outcome: Document
    settled: Document


def bulk_rate(stores: Stores, folder: Path, specification: Specification, count: int) -> float:
    """Occurrences each second: intent, claim, outcome and settlement of each, in batches as dcron's.

    Into databases of their own: a leader would take up what looks intended."""
    files = f"sqlite:///{folder}/ceiling{token_hex(4)}.db"
    store_url = files if stores.kind == "sqlite" else with_own_databases(stores.documents)

    async def run(store: DocumentStore) -> float:
        now = datetime.now(UTC).replace(microsecond=0)
        created = list(seeding.jobs("ceiling", count, specification))
        await seeding.store_jobs(store, created)
        occurrences = [_documents(document, now) for document in created]
        # Makes the month's database, if nothing has yet.
        database = executions_database(now)
        await store.write(database, [Document(f"ceiling:{token_hex(8)}", {})])
        bulk = _Bulk(store, store_url)
        try:
            began = time.monotonic()
            await asyncio.gather(*(bulk.write(database, occurrences[n::WRITERS]) for n in range(WRITERS)))
            return count / (time.monotonic() - began)
        finally:
            await bulk.close()

    return with_store(store_url, run)


class _Bulk:
    """Writes batches one after another: by the adapter into SQLite, by bare requests into CouchDB."""

    def __init__(self, store: DocumentStore, url: str) -> None:
        self._store = store
        self._http: CouchHttp | None = None
        if not url.startswith("sqlite:"):
            settings = parse_couchdb_url(url)
            self._prefix = settings.prefix
            self._http = CouchHttp(settings)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def write(self, database: str, occurrences: Sequence[_Occurrence]) -> None:
        for start in range(0, len(occurrences), seeding.BATCH):
            batch = occurrences[start : start + seeding.BATCH]
            # The jobs were created by one write each, so their revisions are the store's to tell.
            present = await self._store.read(JOBS, [each.intent.id for each in batch])
            intents = [
                replace(each.intent, revision=leaves[0].revision)
                for each, leaves in zip(batch, present, strict=True)
            ]
            revisions = await self._put(JOBS, intents)
            await self._put(database, [each.claim for each in batch])
            await self._put(database, [each.outcome for each in batch])
            settled = [
                replace(each.settled, revision=rev) for each, rev in zip(batch, revisions, strict=True)
            ]
            await self._put(JOBS, settled)

    async def _put(self, database: str, documents: Sequence[Document]) -> list[str]:
        """The revisions that the documents got."""
        if self._http is None:
            results = await self._store.write(database, documents)
            assert all(result.done for result in results), results
            return [result.revision or "" for result in results]
        body = b'{"docs":[' + b",".join(item.text for item in encoded(documents, {})) + b"]}"
        async with self._http.deadline(WRITE_SECONDS):
            reply = await self._http.request("POST", f"{self._prefix}-{database}/_bulk_docs", body=body)
        answers = reply.require(201).payload
        assert all(answer.get("ok") for answer in answers), answers
        return [answer["rev"] for answer in answers]


def _documents(created: Document, now: datetime) -> _Occurrence:
    job = job_of(created.id, created.body)
    occurrence = Occurrence.of_schedule(job.uid, now)
    claim, outcome = seeding.execution_documents(job, now)
    intended = replace(job.place, active=Active(occurrence, 1, 1, now))
    settled = replace(job.place, last=LastOutcome(claim.id, State.SUCCEEDED, now))
    return _Occurrence(
        Document(job.name, job_body(replace(job, place=intended))),
        claim,
        outcome,
        Document(job.name, job_body(replace(job, place=settled))),
    )
