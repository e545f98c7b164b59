"""Reads documents of CouchDB from a quorum, all leaves of each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import structlog

from dcron.adapters.couchdb.documents import MAX_DOCUMENTS_PER_REQUEST, leaves_of, to_json
from dcron.adapters.couchdb.http import CouchHttp, Reply
from dcron.domain.errors import StoreUnreachable
from dcron.ports import Document

__all__ = ["DatabaseMissing", "LeafReader", "require_database"]

BULK_PATIENCE_SECONDS: Final = 0.5
"""Time that `_bulk_get` has before documents are asked for one by one; a call's deadline leaves time for
both."""
ONE_BY_ONE_SECONDS: Final = 10.0
"""For how long that is done, before `_bulk_get` is tried again."""
ONE_BY_ONE_REQUESTS: Final = 32
"""Requests at a time then."""

log = structlog.get_logger()


class DatabaseMissing(StoreUnreachable):
    """CouchDB answered 404: nothing was read or written."""


def require_database(reply: Reply) -> Reply:
    """This reply, unless it says that there is no such database (DatabaseMissing)."""
    if reply.status == HTTPStatus.NOT_FOUND:
        raise DatabaseMissing(f"CouchDB at {reply.host} has no such database: {reply.reason}")
    return reply


class LeafReader:
    """Reads by `_bulk_get`, and around its one weakness.

    Where a document is missing, `_bulk_get` waits for all nodes that count as up. So one that hangs keeps it
    from answering, on every host, until CouchDB gives that node up after a minute. Asked for a single
    document, CouchDB is content with a quorum that agrees, on its absence as well."""

    def __init__(self, http: CouchHttp) -> None:
        self._http = http
        self._one_by_one_until = float("-inf")
        self._slots = asyncio.Semaphore(ONE_BY_ONE_REQUESTS)

    async def leaves(self, name: str, ids: Sequence[str]) -> dict[str, list[Document]]:
        """The leaves of each document, deleted ones too, within the caller's deadline."""
        leaves: dict[str, list[Document]] = {}
        for first in range(0, len(ids), MAX_DOCUMENTS_PER_REQUEST):
            leaves |= await self._of_batch(name, ids[first : first + MAX_DOCUMENTS_PER_REQUEST])
        return leaves

    async def _of_batch(self, name: str, ids: Sequence[str]) -> dict[str, list[Document]]:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._one_by_one_until:
            try:
                async with asyncio.timeout(BULK_PATIENCE_SECONDS):
                    return await self._in_bulk(name, ids)
            except TimeoutError:
                self._one_by_one_until = loop.time() + ONE_BY_ONE_SECONDS
                log.warning("reads one by one: a CouchDB node may hang", action="read", database=name)
        read = await asyncio.gather(*(self._one(name, document_id) for document_id in ids))
        return dict(zip(ids, read, strict=True))

    async def _in_bulk(self, name: str, ids: Sequence[str]) -> dict[str, list[Document]]:
        wanted = to_json({"docs": [{"id": document_id} for document_id in ids]})
        reply = require_database(await self._http.request("POST", f"{name}/_bulk_get", body=wanted))
        results = reply.require(HTTPStatus.OK).payload["results"]
        return {result["id"]: list(leaves_of(reply.host, result["docs"])) for result in results}

    async def _one(self, name: str, document_id: str) -> list[Document]:
        path = f"{name}/{quote(document_id, safe='')}"
        async with self._slots:
            reply = await self._http.request("GET", path, params={"open_revs": "all"})
        if reply.status == HTTPStatus.NOT_FOUND and reply.payload.get("reason") == "missing":
            return []
        return list(leaves_of(reply.host, require_database(reply).require(HTTPStatus.OK).payload))
