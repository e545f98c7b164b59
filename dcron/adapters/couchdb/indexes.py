"""CouchDB's Mango indexes: asked for what they hold, and often enough to keep up with what is written."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog

from dcron.adapters.couchdb.documents import to_json
from dcron.adapters.couchdb.http import CouchHttp, Reply
from dcron.adapters.couchdb.setup import DESIGN, CouchSetup
from dcron.adapters.documents import index_fields
from dcron.domain.errors import StoreUnreachable
from dcron.ports import IndexRow

__all__ = ["CouchIndexes"]

UNINDEXED_DOCUMENTS: Final = 200
"""Documents that one process writes before it asks CouchDB to update the database's indexes. Under a steady
load CouchDB does so by itself only once a minute, for the whole minute at once: `ken_server.erl` looks again
after 60,000 ms when documents are written while an index is at work."""
BURST_SECONDS: Final = 5.0
"""Delay before a burst of writes is indexed: scripts that are to start come first."""
INDEX_SECONDS: Final = 30.0
"""Longest wait for such a request. CouchDB goes on with the index all the same."""

log = structlog.get_logger()


class CouchIndexes:
    """The indexes that `setup` makes, through `http`. `close` before the latter is closed."""

    def __init__(self, http: CouchHttp, setup: CouchSetup) -> None:
        self._http = http
        self._setup = setup
        self._unindexed: Counter[str] = Counter()
        self._asking: asyncio.Task[None] | None = None

    async def rows(
        self, name: str, database: str, index: str, start: str, end: str, limit: int, *, descending: bool
    ) -> list[IndexRow]:
        """Rows with start <= key < end of the index of `database`, which CouchDB knows by `name`; none where
        there is no such database. CouchDB brings the index up to date before it answers."""
        query = _query(index, start, end, limit, descending=descending)
        reply = await self._find(name, query)
        if reply.status == HTTPStatus.BAD_REQUEST and "no_usable_index" in reply.reason:
            # Whoever made this month's database died before it made the index.
            self._setup.forget(name)
            await self._setup.ensure(name, index_fields(database))
            reply = await self._find(name, query)
        if reply.status == HTTPStatus.NOT_FOUND:
            return []
        return [IndexRow(row["_id"], row[index]) for row in reply.require(HTTPStatus.OK).payload["docs"]]

    def wrote(self, name: str, database: str, documents: int) -> None:
        """Count documents that were written. After every so many, the indexes are asked a while later, one at
        a time."""
        self._unindexed[name] += documents
        is_free = self._asking is None or self._asking.done()
        if is_free and self._unindexed[name] >= UNINDEXED_DOCUMENTS:
            self._asking = asyncio.create_task(self._bring_up_to_date(name, index_fields(database)[0]))

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _bring_up_to_date(self, name: str, index: str) -> None:
        await asyncio.sleep(BURST_SECONDS)
        del self._unindexed[name]
        # The indexes of a database share a design document, and come up to date together.
        try:
            # No deadline of `http`: a host that takes long over it is not left for that.
            async with asyncio.timeout(INDEX_SECONDS):
                reply = await self._find(name, _query(index, "", "\uffff", 1, descending=False))
            reply.require(HTTPStatus.OK, HTTPStatus.NOT_FOUND)
        except (StoreUnreachable, TimeoutError) as error:
            # It is asked again before long, and CouchDB does it by itself, if later.
            reason = str(error) or f"no answer within {INDEX_SECONDS:g} s"
            log.info("indexes are behind", action="index", database=name, error=reason)

    async def _find(self, name: str, query: Mapping[str, Any]) -> Reply:
        return await self._http.request("POST", f"{name}/_find", body=to_json(query))


def _query(index: str, start: str, end: str, limit: int, *, descending: bool) -> Mapping[str, Any]:
    return {
        "selector": {index: {"$gte": start, "$lt": end}},
        "sort": [{index: "desc" if descending else "asc"}],
        "fields": ["_id", index],  # all of them in the index: no document is opened
        "limit": limit,
        "use_index": [DESIGN, index],
    }
