"""Making the databases and indexes that dcron needs in CouchDB, by whichever node comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import structlog

from dcron.adapters.couchdb.documents import to_json
from dcron.adapters.couchdb.http import AccessRefused, CouchHttp, Reply

__all__ = ["DESIGN", "CouchSetup"]

REVISIONS_KEPT: Final = 100
"""Revisions of history kept of jobs and nodes: CouchDB's default of 1000 makes each update write some
20 KB. A copy that was away for more updates than this comes back with a leaf that seems to conflict;
at a renewal each 2 s this is three minutes, a server's restart."""
DESIGN: Final = "dcron"
"""The design document of a database's indexes. They share one, so that CouchDB reads what has changed once
for all of them; a further index would have the others of its database built anew."""
LOOKS_AT_HALF_GONE: Final = 10
HALF_GONE_SECONDS: Final = 0.1

log = structlog.get_logger()


class CouchSetup:
    """Idempotent set-up through `http`; needs the rights of an admin only for what is missing."""

    def __init__(self, http: CouchHttp) -> None:
        self._http = http
        self._one_at_a_time = asyncio.Lock()
        self._ensured: set[str] = set()

    async def ensure(self, name: str, fields: Sequence[str]) -> None:
        """Make a database with its indexes, as far as they are missing; asks only once for each."""
        async with self._one_at_a_time:
            if name in self._ensured:
                return
            reply = await self._look(name)
            if reply.status == HTTPStatus.NOT_FOUND:
                await self._create(name)
            existing = await self._indexes(name) if fields else set()
            for field in fields:
                if field not in existing:
                    await self._create_index(name, field)
            self._ensured.add(name)

    async def missing(self, name: str, fields: Sequence[str]) -> list[str]:
        """The database's name if it is not there, else its indexes that are not, in words."""
        if (await self._look(name)).status == HTTPStatus.NOT_FOUND:
            return [name]
        existing = await self._indexes(name) if fields else set()
        return [f"index {field} of {name}" for field in fields if field not in existing]

    def forget(self, name: str) -> None:
        """Look again at the next `ensure`: the database, or what is in it, has turned out to be gone."""
        self._ensured.discard(name)

    async def shorten_history(self, name: str) -> None:
        """Lower the number of revisions that CouchDB remembers; kept as it is where that is refused."""
        path = f"{name}/_revs_limit"
        try:
            reply = await self._http.request("GET", path)
            if reply.status == HTTPStatus.OK and reply.payload != REVISIONS_KEPT:
                reply = await self._http.request("PUT", path, body=to_json(REVISIONS_KEPT))
            refusal = "" if reply.status == HTTPStatus.OK else f"{reply.status} {reply.reason}"
        except AccessRefused as error:
            refusal = str(error)
        if refusal:
            log.info("kept the limit of revisions", action="revs_limit_kept", database=name, reason=refusal)

    async def _look(self, name: str) -> Reply:
        """200 or 404. A database that was dropped just now is for a moment neither there nor gone."""
        reply = await self._http.request("GET", name)
        for _ in range(LOOKS_AT_HALF_GONE):
            if reply.status != HTTPStatus.INTERNAL_SERVER_ERROR:
                break
            await asyncio.sleep(HALF_GONE_SECONDS)
            reply = await self._http.request("GET", name)
        return reply.require(HTTPStatus.OK, HTTPStatus.NOT_FOUND)

    async def _create(self, name: str) -> None:
        try:
            reply = await self._http.request("PUT", name)
        except AccessRefused as error:
            raise AccessRefused(f"database {name} is missing, and an admin has to make it: {error}") from None
        # 412 when another node was quicker, or when aiohttp asked twice.
        reply.require(HTTPStatus.CREATED, HTTPStatus.ACCEPTED, HTTPStatus.PRECONDITION_FAILED)
        if reply.status != HTTPStatus.PRECONDITION_FAILED:
            log.info("made a database", action="database_made", database=name, status=reply.status)

    async def _create_index(self, name: str, field: str) -> None:
        definition = {"index": {"fields": [field]}, "ddoc": DESIGN, "name": field, "type": "json"}
        try:
            reply = await self._http.request("POST", f"{name}/_index", body=to_json(definition))
        except AccessRefused as error:
            raise AccessRefused(
                f"index {field} of database {name} is missing, and an admin has to make it: {error}"
            ) from None
        # When nodes race, the slower ones get a 500 that speaks of a conflict.
        if reply.status != HTTPStatus.OK and field not in await self._indexes(name):
            reply.require(HTTPStatus.OK)

    async def _indexes(self, name: str) -> set[str]:
        reply = (await self._http.request("GET", f"{name}/_index")).require(HTTPStatus.OK)
        return {index["name"] for index in reply.payload["indexes"] if index["ddoc"] == f"_design/{DESIGN}"}
