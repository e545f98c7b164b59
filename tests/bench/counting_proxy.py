"""Stands between nodes and CouchDB, and counts requests and the documents that come back."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Event, Thread
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from aiohttp import web

from tests.system.cluster import free_ports

__all__ = ["CountingProxy", "Traffic"]

READY_SECONDS = 10.0
MAX_BODY_BYTES = 1 << 30
# Those of one connection, those that aiohttp writes by itself; and what is compressed cannot be counted.
_NOT_PASSED_ON: Final = {
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "transfer-encoding",
}
_ROWS: Final = {"_find": "docs", "_bulk_get": "results", "_all_docs": "rows", "_changes": "results"}
"""Under which name the documents are in an answer, by the last part of the path."""


@dataclass(slots=True)
class Traffic:
    """What has passed so far: requests, and documents in answers, by database and kind of request."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    documents: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note(self, path: str, status: int, payload: bytes) -> None:
        database, _, rest = path.strip("/").partition("/")
        key = (database, rest.rpartition("/")[2])
        self.requests[key] += 1
        rows = _ROWS.get(key[1])
        if rows is not None and status == HTTPStatus.OK:
            self.documents[key] += len(json.loads(payload)[rows])


class CountingProxy:
    """One port for each node, all to one CouchDB, from `with` on; `traffic` is in the order of the ports."""

    def __init__(self, url: str, ports: int) -> None:
        """`url` is a DCRON_STORE; of several hosts the first is used."""
        self.traffic = [Traffic() for _ in range(ports)]
        self._url = urlsplit(url)
        self._ports = free_ports(ports)
        self._ready = Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def url(self, number: int) -> str:
        """The store's URL through a port."""
        credentials, at, _ = self._url.netloc.rpartition("@")
        return urlunsplit(self._url._replace(netloc=f"{credentials}{at}127.0.0.1:{self._ports[number]}"))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(READY_SECONDS), "the proxy does not listen"
        return self

    def __exit__(self, *_exception: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        host = self._url.netloc.rpartition("@")[2].split(",")[0]
        async with aiohttp.ClientSession(
            f"http://{host}",
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(),
            skip_auto_headers=["Accept-Encoding"],
        ) as session:
            runners = []
            for port, traffic in zip(self._ports, self.traffic, strict=True):
                application = web.Application(client_max_size=MAX_BODY_BYTES)
                application.router.add_route("*", "/{path:.*}", _passing_on(session, traffic))
                # A node that hangs up on a long poll ends it at the server, too.
                runner = web.AppRunner(application, handler_cancellation=True, access_log=None)
                await runner.setup()
                await web.TCPSite(runner, "127.0.0.1", port).start()
                runners.append(runner)
            self._ready.set()
            await self._over.wait()
            for runner in runners:
                await runner.cleanup()


def _passing_on(
    session: aiohttp.ClientSession, traffic: Traffic
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def pass_on(request: web.Request) -> web.Response:
        headers = [
            (name, value) for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON
        ]
        async with session.request(
            request.method, request.raw_path, headers=headers, data=await request.read() or None
        ) as answer:
            payload = await answer.read()
            traffic.note(request.path, answer.status, payload)
            kept = [
                (name, value) for name, value in answer.headers.items() if name.lower() not in _NOT_PASSED_ON
            ]
            return web.Response(status=answer.status, body=payload, headers=kept)

    return pass_on


def _kept(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON]
