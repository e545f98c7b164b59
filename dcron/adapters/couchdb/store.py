"""The document store on CouchDB, one node or a cluster.

Documents are written by POST to `_bulk_docs` only, which nothing on the way repeats. Facts about CouchDB
that the code leans on are in docs/decisions/0001-couchdb-client.md.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from dcron.adapters.couchdb.documents import (
    MAX_DOCUMENTS_PER_REQUEST,
    Outgoing,
    as_replicated,
    batches,
    change_batch,
    document_of,
    encoded,
    is_known,
    live_leaves,
    position_of,
    tells_all,
    to_json,
    write_result,
)
from dcron.adapters.couchdb.http import (
    AS_A_WHOLE,
    AccessRefused,
    CouchHttp,
    CouchSettings,
    DeadlinePassed,
    Reply,
    parse_couchdb_url,
)
from dcron.adapters.couchdb.indexes import CouchIndexes
from dcron.adapters.couchdb.leaf_reader import DatabaseMissing, LeafReader, require_database
from dcron.adapters.couchdb.own_writes import OwnWrites
from dcron.adapters.couchdb.quorum import probes
from dcron.adapters.couchdb.setup import CouchSetup
from dcron.adapters.documents import (
    index_fields,
    is_executions_database,
    require_executions_database,
    require_index,
)
from dcron.domain.errors import SetupError, StoreUnreachable
from dcron.ports import AUDIT, CLUSTER, JOBS, ChangeBatch, Document, IndexRow, Known, WriteKind, WriteResult

__all__ = ["CouchDocumentStore", "CouchSettings", "parse_couchdb_url"]

CALL_SECONDS: Final = 1.5
"""Shorter than the renewal of the shortest sensible lease, so that a leader still has time to step down."""
PREPARE_SECONDS: Final = 10.0
"""The first use of a password costs CouchDB some 0.3 s, databases and indexes are made one by one."""
MISSING_DATABASE_POLL_SECONDS: Final = 0.5
LONGPOLL_GRACE_SECONDS: Final = 0.5
"""Time after `wait_seconds` in which CouchDB may still end a longpoll by itself."""

_BEGINNING = "0"
_STORED = (HTTPStatus.CREATED, HTTPStatus.ACCEPTED)


class CouchDocumentStore:
    """`DocumentStore` on CouchDB 3. `call_seconds` is the deadline of each call, for all its requests."""

    def __init__(
        self,
        settings: CouchSettings,
        *,
        call_seconds: float = CALL_SECONDS,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        self._prefix = settings.prefix
        self._call_seconds = call_seconds
        self._http = CouchHttp(settings, tls_context=tls_context)
        self._setup = CouchSetup(self._http)
        self._reader = LeafReader(self._http)
        self._indexes = CouchIndexes(self._http, self._setup)
        self._own_writes = OwnWrites()

    async def prepare(self) -> None:
        """Make the databases and indexes that are missing; a user without rights may find them made."""
        try:
            async with self._http.deadline(PREPARE_SECONDS):
                (await self._http.request("GET", "_session")).require(HTTPStatus.OK)
                for database in (JOBS, CLUSTER, AUDIT):
                    name = self._name(database)
                    self._setup.forget(name)
                    await self._setup.ensure(name, index_fields(database))
                    await self._setup.shorten_history(name)
        except AccessRefused as error:
            raise SetupError(str(error)) from None

    async def write(self, database: str, documents: Sequence[Document]) -> list[WriteResult]:
        """See `DocumentStore.write`. More than fit into one request are written one request after
        another: when StoreUnreachable comes, the first of them may be stored. Making a month's database
        has a deadline of its own, so the first write to one may take twice as long."""
        name = self._name(database)
        results: dict[int, WriteResult] = {}
        outgoing = list(encoded(documents, results))
        monthly = is_executions_database(database)
        if monthly:
            await self._ensure(database)
        try:
            await self._write(name, outgoing, results)
        except DatabaseMissing:
            if not monthly:
                raise
            # Another node has dropped it. A 404 wrote nothing, so this repeats nothing.
            self._setup.forget(name)
            await self._ensure(database)
            await self._write(name, [item for item in outgoing if item.position not in results], results)
        if monthly:
            self._indexes.wrote(name, database, len(documents))
        return [results[position] for position in range(len(documents))]

    async def read(self, database: str, ids: Sequence[str]) -> list[tuple[Document, ...]]:
        """See `DocumentStore.read`. With a majority of CouchDB's nodes known to be down, it answers
        from the copies that are left; with a majority that hangs, StoreUnreachable comes instead."""
        name = self._name(database)
        leaves: dict[str, list[Document]] = {}
        try:
            async with self._http.deadline(self._call_seconds):
                leaves = await self._reader.leaves(name, list(dict.fromkeys(ids)))
        except DatabaseMissing:
            # Jobs and leadership are always there: whoever says otherwise (a blank CouchDB node, a wrong
            # address) does not know, and must not be believed.
            if not is_executions_database(database):
                raise
        return [live_leaves(leaves.get(document_id, [])) for document_id in ids]

    async def confirm(self, database: str, documents: Sequence[Document]) -> list[bool]:
        """See `DocumentStore.confirm`. Written as replication writes, a revision that a copy has counts as
        stored there. One copy alone says 201 to that, so a quorum has to take another write right after."""
        name = self._name(database)
        confirmed: list[bool] = []
        async with self._http.deadline(self._call_seconds):
            for first in range(0, len(documents), MAX_DOCUMENTS_PER_REQUEST):
                batch = documents[first : first + MAX_DOCUMENTS_PER_REQUEST]
                body = b'{"new_edits":false,"docs":[' + b",".join(map(as_replicated, batch)) + b"]}"
                reply = require_database(await self._http.request("POST", f"{name}/_bulk_docs", body=body))
                refused = {each.get("id") for each in reply.require(*_STORED).payload}
                probe = await self._http.request("POST", f"{name}/_bulk_docs", body=probes(batch))
                probe.require(*_STORED)
                done = reply.status == probe.status == HTTPStatus.CREATED
                confirmed += [done and document.id not in refused for document in batch]
        return confirmed

    async def range(
        self, database: str, start: str, end: str, *, limit: int, descending: bool = False
    ) -> list[Document]:
        """See `DocumentStore.range`."""
        name = self._name(database)
        # Design documents live among the others, at "_design/", and must not use up the limit.
        spans = [(start, min(end, "_")), (max(start, "`"), end)]
        found: list[Document] = []
        async with self._http.deadline(self._call_seconds):
            for low, high in reversed(spans) if descending else spans:
                if low < high and len(found) < limit:
                    found += await self._span(name, low, high, limit - len(found), descending=descending)
        return found

    async def find(
        self,
        database: str,
        index: str,
        *,
        start: str = "",
        end: str = "\uffff",
        limit: int,
        descending: bool = False,
    ) -> list[IndexRow]:
        """See `DocumentStore.find`. CouchDB brings the index up to date before it answers."""
        require_index(database, index)
        async with self._http.deadline(self._call_seconds):
            return await self._indexes.rows(
                self._name(database), database, index, start, end, limit, descending=descending
            )

    async def changes(
        self,
        database: str,
        since: str | None,
        *,
        wait_seconds: float,
        limit: int = 1000,
        known: Known | None = None,
    ) -> ChangeBatch:
        """See `DocumentStore.changes`; waiting counts beside the deadline of the call."""
        name = self._name(database)
        if since is None:
            return ChangeBatch((), await self._position_now(name))
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_seconds
        while True:
            remaining = max(0.0, until - loop.time())
            batch = await self._look(name, since, remaining, limit, known)
            if batch is None:
                await asyncio.sleep(min(remaining, MISSING_DATABASE_POLL_SECONDS))
                batch = ChangeBatch((), since)
            # Known changes are no news, but do not restart the wait for each of them.
            is_over = batch.documents or (known is not None and batch.since != since)
            if is_over or loop.time() >= until:
                return batch
            since = batch.since

    async def _look(
        self, name: str, since: str, wait_seconds: float, limit: int, known: Known | None
    ) -> ChangeBatch | None:
        """Changes that came within `wait_seconds`; None where there is no such database."""
        bodies = known is None
        reply = await self._poll(name, since, wait_seconds, limit, bodies=bodies)
        if reply is not None and known is not None and reply.status == HTTPStatus.OK:
            rows = reply.payload["results"]
            position = position_of(reply.payload["last_seq"])
            news = [row for row in rows if not is_known(row, known)]
            if not news:
                return ChangeBatch((), position)
            # The same again, as its copy has it: a reading from a quorum may be behind what it tells.
            if len(news) < len(rows):
                batch = await self._look_at(name, since, [row["id"] for row in news])
                if tells_all(batch, news):
                    return replace(batch, since=position)
            reply = await self._poll(name, since, 0, len(rows), bodies=True)
        if reply is None:
            return ChangeBatch((), since)
        if reply.status == HTTPStatus.NOT_FOUND:
            return None
        return change_batch(reply.require(HTTPStatus.OK).payload)

    def _with_bodies(self, name: str) -> dict[str, str]:
        """Further parameters of `_changes` where bodies are wanted."""
        if is_executions_database(name.removeprefix(f"{self._prefix}-")):
            # Executions are created and never updated: whoever cares for branches of one reads its leaves.
            return {"include_docs": "true"}
        return {"include_docs": "true", "conflicts": "true"}

    async def _look_at(self, name: str, since: str, ids: Sequence[str]) -> ChangeBatch:
        """Some of what changed. Its position tells nothing about the rest."""
        params = {
            "since": since,
            "filter": "_doc_ids",
            "limit": str(len(ids)),
            **self._with_bodies(name),
            **AS_A_WHOLE,
        }
        body = to_json({"doc_ids": ids})
        async with self._http.deadline(self._call_seconds):
            reply = await self._http.request("POST", f"{name}/_changes", params=params, body=body)
        return change_batch(require_database(reply).require(HTTPStatus.OK).payload)

    async def databases(self) -> list[str]:
        """See `DocumentStore.databases`. A user who is no admin needs `admin_only_all_dbs = false`."""
        start = f"{self._prefix}-executions-"
        params = {"startkey": json.dumps(start), "endkey": json.dumps(f"{start}\uffff")}
        async with self._http.deadline(self._call_seconds):
            reply = await self._http.request("GET", "_all_dbs", params=params)
        names = (name.removeprefix(f"{self._prefix}-") for name in reply.require(HTTPStatus.OK).payload)
        return sorted(name for name in names if is_executions_database(name))

    async def make_ready(self, database: str) -> None:
        """See `DocumentStore.make_ready`; asks once for each database that is there."""
        require_executions_database(database)
        await self._ensure(database)

    async def drop(self, database: str) -> None:
        """See `DocumentStore.drop`; ValueError for any other database."""
        require_executions_database(database)
        name = self._name(database)
        self._setup.forget(name)
        async with self._http.deadline(self._call_seconds):
            reply = await self._http.request("DELETE", name)
        reply.require(HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NOT_FOUND)

    async def wall_clock(self) -> datetime:
        """See `DocumentStore.wall_clock`."""
        async with self._http.deadline(self._call_seconds):
            reply = await self._http.request("GET")
        try:
            return parsedate_to_datetime(reply.headers["Date"]).astimezone(UTC)
        except (KeyError, ValueError) as error:
            raise StoreUnreachable(f"CouchDB at {reply.host} did not say what time it is") from error

    async def close(self) -> None:
        """See `DocumentStore.close`."""
        await self._indexes.close()
        await self._http.close()

    def _name(self, database: str) -> str:
        index_fields(database)  # only databases that dcron knows
        return f"{self._prefix}-{database}"

    async def _ensure(self, database: str) -> None:
        async with self._http.deadline(self._call_seconds):
            await self._setup.ensure(self._name(database), index_fields(database))

    async def _write(self, name: str, outgoing: Sequence[Outgoing], results: dict[int, WriteResult]) -> None:
        async with self._http.deadline(self._call_seconds):
            for batch in batches(outgoing):
                absent = await self._absent(name, [item.document for item in batch])
                present = []
                for item in batch:
                    if item.document.revision is not None and item.document.id in absent:
                        results[item.position] = WriteResult(WriteKind.LOST)
                    else:
                        present.append(item)
                stored = await self._store(name, present)
                self._own_writes.note(name, zip((item.document for item in present), stored, strict=True))
                results.update(zip((item.position for item in present), stored, strict=True))

    async def _absent(self, name: str, documents: Sequence[Document]) -> set[str]:
        """Ids of updated documents that never existed: CouchDB would take the update and store a stray.

        `_revs_diff` costs a fifth of the write but asks one copy, which may be behind; only what that
        one does not know is asked of a quorum. A document that existed once keeps its tombstone, so it
        cannot vanish between this and the write; nor since this very process wrote it, a moment ago."""
        revisions: dict[str, list[str]] = {}
        for document in documents:
            if document.revision is not None and not self._own_writes.has(name, document):
                revisions.setdefault(document.id, []).append(document.revision)
        if not revisions:
            return set()
        reply = await self._http.request("POST", f"{name}/_revs_diff", body=to_json(revisions))
        unknown = list(require_database(reply).require(HTTPStatus.OK).payload)
        leaves = await self._reader.leaves(name, unknown) if unknown else {}
        return {document_id for document_id in unknown if not leaves.get(document_id)}

    async def _store(self, name: str, batch: Sequence[Outgoing]) -> list[WriteResult]:
        if not batch:
            return []
        body = b'{"docs":[' + b",".join(item.text for item in batch) + b"]}"
        reply = require_database(await self._http.request("POST", f"{name}/_bulk_docs", body=body))
        if reply.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}:
            # One bad document fails the whole request before anything is stored.
            if len(batch) == 1:
                return [WriteResult(WriteKind.REJECTED, reason=reply.reason)]
            middle = len(batch) // 2
            return [*await self._store(name, batch[:middle]), *await self._store(name, batch[middle:])]
        answers = reply.require(*_STORED).payload
        if [answer.get("id") for answer in answers] != [item.document.id for item in batch]:
            raise StoreUnreachable(f"CouchDB at {reply.host} did not answer for each document")
        # A 202 that does not say which of them lack a quorum speaks of all.
        vague = reply.status == HTTPStatus.ACCEPTED and not any(answer.get("accepted") for answer in answers)
        return [write_result(reply.host, answer, quorum=not vague) for answer in answers]

    async def _span(self, name: str, low: str, high: str, limit: int, *, descending: bool) -> list[Document]:
        params = {"include_docs": "true", "limit": str(limit), **AS_A_WHOLE}
        if descending:
            # The first key is always included; `high` is not wanted, so ask for one more than fits.
            params |= {"startkey": json.dumps(high), "endkey": json.dumps(low), "descending": "true"}
            params["limit"] = str(limit + 1)
        else:
            params |= {"startkey": json.dumps(low), "endkey": json.dumps(high), "inclusive_end": "false"}
        reply = await self._http.request("GET", f"{name}/_all_docs", params=params)
        if reply.status == HTTPStatus.NOT_FOUND:
            return []
        rows = reply.require(HTTPStatus.OK).payload["rows"]
        return [document_of(row["doc"]) for row in rows if row.get("doc") and row["id"] != high][:limit]

    async def _position_now(self, name: str) -> str:
        async with self._http.deadline(self._call_seconds):
            reply = await self._http.request("GET", f"{name}/_changes", params={"since": "now", "limit": "1"})
        return (
            _BEGINNING
            if reply.status == HTTPStatus.NOT_FOUND
            else position_of(reply.require(HTTPStatus.OK).payload["last_seq"])
        )

    async def _poll(
        self, name: str, since: str, wait_seconds: float, limit: int, *, bodies: bool
    ) -> Reply | None:
        """One request for changes, with bodies or with the revisions of all leaves; None when the server did
        not end it in time by itself."""
        params = {"since": since, "limit": str(limit), **AS_A_WHOLE}
        params |= self._with_bodies(name) if bodies else {"style": "all_docs"}
        if wait_seconds <= 0:
            async with self._http.deadline(self._call_seconds):
                return await self._http.request("GET", f"{name}/_changes", params=params)
        params |= {"feed": "longpoll", "timeout": str(int(wait_seconds * 1000))}
        try:
            async with self._http.deadline(wait_seconds + LONGPOLL_GRACE_SECONDS):
                return await self._http.request("GET", f"{name}/_changes", params=params)
        except DeadlinePassed:
            # Nothing came, or the host is dead; if so, the deadline has made us leave it.
            return None
