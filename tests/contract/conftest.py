from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from aiohttp import web

from dcron.adapters.couchdb.store import CouchDocumentStore, CouchSettings, parse_couchdb_url
from dcron.adapters.memory import MemoryDocumentStore
from dcron.adapters.sqlite.store import SqliteDocumentStore
from dcron.domain.errors import StoreUnreachable
from dcron.ports import DocumentStore
from tests.couchdb_server import CouchServer, CouchUnavailable

SETTLE_SECONDS = 20
POLL_SECONDS = 0.05

T = TypeVar("T")


@dataclass
class Backend:
    """Where stores under test keep their data; each `open` is a store of its own on the same data.

    With several copies, as on a cluster, hints may be old and a race may have no winner."""

    make: Callable[[], DocumentStore]
    one_copy: bool = True
    opened: list[DocumentStore] = field(default_factory=list)

    async def open(self) -> DocumentStore:
        store = self.make()
        self.opened.append(store)
        await self.insist(store.prepare)
        return store

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call as the services do. The nodes of a cluster learn one after the other that a database
        was made or dropped, and give errors until they have."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLE_SECONDS
        while True:
            try:
                return await call()
            except StoreUnreachable:
                if self.one_copy or loop.time() > until:
                    raise
            await asyncio.sleep(POLL_SECONDS)

    async def close(self) -> None:
        for store in self.opened:
            await store.close()


@dataclass
class Couch:
    """A CouchDB under test, and a way into it beside the store's."""

    settings: CouchSettings
    session: aiohttp.ClientSession
    stores: int = 0

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        async with self.session.request(method, f"{self.settings.hosts[0]}/{path}", json=body) as response:
            return await response.json(content_type=None)

    async def nodes(self) -> int:
        members = await self.ask("GET", "_membership")
        return len(members.get("cluster_nodes", [])) or 1

    def store(self) -> CouchDocumentStore:
        """A store of its own; on a cluster, each one asks another node first."""
        hosts = self.settings.hosts
        first = self.stores % len(hosts)
        self.stores += 1
        return CouchDocumentStore(replace(self.settings, hosts=hosts[first:] + hosts[:first]))

    async def remove_databases(self) -> None:
        for name in await self.ask("GET", "_all_dbs"):
            if name.startswith(f"{self.settings.prefix}-"):
                await self.ask("DELETE", name)


@pytest.fixture
def couch_server(tmp_path: Path) -> Iterator[CouchServer]:
    """A server of the test's own, to be paused and stopped."""
    try:
        with CouchServer(tmp_path / "couchdb") as server:
            yield server
    except CouchUnavailable as error:
        pytest.skip(str(error))


@asynccontextmanager
async def opened(couch_url: str) -> AsyncIterator[Couch]:
    """Databases of a prefix of our own, removed in the end."""
    given = parse_couchdb_url(couch_url)
    settings = CouchSettings(given.hosts, f"test-{secrets.token_hex(6)}", given.user, given.password)
    headers = {}
    if given.user is not None:
        headers["Authorization"] = aiohttp.encode_basic_auth(given.user, given.password or "")
    async with aiohttp.ClientSession(headers=headers) as session:
        couch = Couch(settings, session)
        yield couch
        await couch.remove_databases()


@pytest.fixture
async def couch(couch_url: str) -> AsyncIterator[Couch]:
    async with opened(couch_url) as couch:
        yield couch


@pytest.fixture(params=["memory", "sqlite", "couchdb"])
def backend_url(request: pytest.FixtureRequest) -> str:
    """Of CouchDB where the test is to run on it; asked for here, since async fixtures cannot ask."""
    return str(request.getfixturevalue("couch_url")) if request.param == "couchdb" else request.param


@pytest.fixture
async def backend(backend_url: str, tmp_path: Path) -> AsyncIterator[Backend]:
    async with AsyncExitStack() as stack:
        if backend_url == "memory":
            shared = MemoryDocumentStore()
            backend = Backend(lambda: shared)
        elif backend_url == "sqlite":
            backend = Backend(lambda: SqliteDocumentStore(tmp_path / "store.db"))
        else:
            couch = await stack.enter_async_context(opened(backend_url))
            backend = Backend(couch.store, one_copy=await couch.nodes() == 1)
        yield backend
        await backend.close()


@pytest.fixture
async def store(backend: Backend) -> DocumentStore:
    return await backend.open()


@pytest.fixture
async def stores() -> AsyncIterator[Callable[..., CouchDocumentStore]]:
    """Makes stores and closes them."""
    made = []

    def make(settings, **options):
        made.append(CouchDocumentStore(settings, **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()


class Script:
    """Answers as a CouchDB in a bad state does; keeps what it was asked."""

    def __init__(self):
        self.requests = []
        self.answers = deque()

    async def handle(self, request):
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path, dict(request.query), body))
        answer = self.answers.popleft()
        if answer == "break":
            request.transport.abort()
            return web.Response()
        if answer == "hang":
            while request.transport is not None:
                await asyncio.sleep(0.01)
            return web.Response()
        status, payload = answer(body) if callable(answer) else answer
        return web.json_response(payload, status=status)


@pytest.fixture
async def script():
    script = Script()
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", script.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    script.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield script
    await runner.cleanup()


@pytest.fixture
async def scripted(script, stores):
    return stores(CouchSettings((script.host,)))
