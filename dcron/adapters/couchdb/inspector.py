"""Looks at a CouchDB as a node's user finds it, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from dcron.adapters.couchdb.documents import to_json
from dcron.adapters.couchdb.http import AccessRefused, CouchHttp, CouchSettings
from dcron.adapters.couchdb.setup import CouchSetup
from dcron.adapters.documents import index_fields
from dcron.domain.checkup import HostFacts, StoreFacts
from dcron.domain.errors import StoreUnreachable
from dcron.ports import AUDIT, CLUSTER, JOBS, executions_database

__all__ = ["CouchInspector"]

HOST_SECONDS: Final = 5.0
"""For one host to answer twice; the first use of a password costs CouchDB some 0.3 s."""
INSPECT_SECONDS: Final = 15.0
"""For all that is asked of one host then."""
MONTH_AHEAD: Final = timedelta(days=31)
ADMIN: Final = "_admin"


@dataclass(frozen=True, slots=True)
class _Entered:
    """A host that let us in; `roles` are those of our user there."""

    http: CouchHttp
    facts: HostFacts
    round_trip_seconds: float
    roles: tuple[str, ...]


class CouchInspector:
    """`StoreInspector` of a CouchDB, each of its hosts by itself."""

    def __init__(self, settings: CouchSettings, tls_context: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._https = [
            CouchHttp(replace(settings, hosts=(host,)), tls_context=tls_context) for host in settings.hosts
        ]

    async def inspect(self) -> StoreFacts:
        """See `StoreInspector.inspect`."""
        found = await asyncio.gather(*map(self._enter, self._https))
        hosts = tuple(each if isinstance(each, HostFacts) else each.facts for each in found)
        entered = next((each for each in found if isinstance(each, _Entered)), None)
        if entered is None:
            return StoreFacts(hosts)
        facts = StoreFacts(
            hosts, may_create=ADMIN in entered.roles, round_trip_seconds=entered.round_trip_seconds
        )
        try:
            async with entered.http.deadline(INSPECT_SECONDS):
                return await self._look_inside(entered.http, facts)
        except StoreUnreachable as error:
            return replace(facts, write_trouble=str(error))

    async def close(self) -> None:
        """See `StoreInspector.close`."""
        await asyncio.gather(*(http.close() for http in self._https))

    async def _enter(self, http: CouchHttp) -> _Entered | HostFacts:
        host = http.host
        loop = asyncio.get_running_loop()
        try:
            async with http.deadline(HOST_SECONDS):
                session = (await http.request("GET", "_session")).require(HTTPStatus.OK).payload
                began_at = loop.time()
                welcome = (await http.request("GET")).require(HTTPStatus.OK).payload
                round_trip_seconds = loop.time() - began_at
        except AccessRefused as error:
            return HostFacts(host, trouble=str(error), refused=True)
        except StoreUnreachable as error:
            return HostFacts(host, trouble=str(error))
        roles = session.get("userCtx", {}).get("roles", ()) if isinstance(session, dict) else ()
        return _Entered(http, HostFacts(host, version=_version(welcome)), round_trip_seconds, tuple(roles))

    async def _look_inside(self, http: CouchHttp, facts: StoreFacts) -> StoreFacts:
        missing = await self._missing(http, everything=not facts.may_create)
        name = self._name(CLUSTER)
        cluster: dict[str, Any] = {}
        write_trouble = ""
        prepared = not {self._name(JOBS), name} & set(missing)
        if prepared:
            reply = (await http.request("GET", name)).require(HTTPStatus.OK)
            cluster = reply.payload.get("cluster", {})
            write_trouble = await self._write(http, name) or await self._list(http)
        members, absent = await self._members(http)
        return replace(
            facts,
            missing=tuple(missing),
            prepared=prepared,
            write_trouble=write_trouble,
            copies=cluster.get("n"),
            write_quorum=cluster.get("w"),
            members=members,
            absent=absent,
        )

    async def _missing(self, http: CouchHttp, *, everything: bool) -> Sequence[str]:
        """Databases and indexes that are missing. `everything` includes the months' databases, which a node
        makes when it needs them, if it may."""
        now = datetime.now(UTC)
        months = (executions_database(now), executions_database(now + MONTH_AHEAD)) if everything else ()
        setup = CouchSetup(http)
        missing: list[str] = []
        for database in (JOBS, CLUSTER, AUDIT, *months):
            missing += await setup.missing(self._name(database), index_fields(database))
        return missing

    async def _write(self, http: CouchHttp, name: str) -> str:
        """Reason why a document cannot be written, in words; empty when it can. A local document is in no
        feed and no listing, and leaves no tombstone when it is deleted."""
        path = f"{name}/_local/dcron-doctor-{secrets.token_hex(8)}"
        try:
            reply = await http.request("PUT", path, body=to_json({"kind": "doctor"}))
            if reply.status not in {HTTPStatus.CREATED, HTTPStatus.ACCEPTED}:
                return f"CouchDB at {reply.host} does not take a document: {reply.status} {reply.reason}"
            await http.request("DELETE", path, params={"rev": reply.payload["rev"]})
        except StoreUnreachable as error:
            return str(error)
        if reply.status == HTTPStatus.ACCEPTED:
            return f"CouchDB at {reply.host} has no majority of copies for a document"
        return ""

    async def _list(self, http: CouchHttp) -> str:
        """Reason why the months' databases cannot be listed, in words."""
        try:
            await http.request("GET", "_all_dbs", params={"limit": "1"})
        except AccessRefused as error:
            return f"{error}; databases have to be listed: set admin_only_all_dbs = false in [chttpd]"
        return ""

    async def _members(self, http: CouchHttp) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Nodes of the CouchDB cluster, and those that are out of reach; only admins are told."""
        with suppress(AccessRefused):
            reply = await http.request("GET", "_membership")
            if reply.status == HTTPStatus.OK:
                members, connected = reply.payload["cluster_nodes"], reply.payload["all_nodes"]
                return tuple(members), tuple(sorted(set(members) - set(connected)))
        return (), ()

    def _name(self, database: str) -> str:
        return f"{self._settings.prefix}-{database}"


def _version(welcome: Any) -> str:
    if not isinstance(welcome, dict) or "couchdb" not in welcome:
        return "speaks CouchDB's protocol"
    return f"CouchDB {welcome.get('version', 'of unknown version')}"
