"""CouchDB's HTTP: addresses, credentials, which host to ask, and what counts as unreachable."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import aiohttp
import orjson
import structlog

from dcron.domain.errors import SetupError, StoreUnreachable

__all__ = [
    "AS_A_WHOLE",
    "AccessRefused",
    "CouchHttp",
    "CouchSettings",
    "DeadlinePassed",
    "Reply",
    "parse_couchdb_url",
]

DEFAULT_PREFIX: Final = "dcron"
DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 5984, "https": 6984}
MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
MAX_CONNECTIONS: Final = 64
MAX_REASON_CHARACTERS: Final = 300
AS_A_WHOLE: Final[Mapping[str, str]] = {"buffer_response": "true"}
"""Parameter that asks for an answer of many rows as a whole. Otherwise CouchDB sends a few rows at a time, at
a price for each time on both sides, and a fault on the way shows only as an answer that breaks off."""

_PREFIX = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_SCHEMES = {"couchdb": "http", "couchdbs": "https"}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CouchSettings:
    """Addresses and credentials of a CouchDB. `hosts` are base URLs without credentials."""

    hosts: tuple[str, ...]
    prefix: str = DEFAULT_PREFIX
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def parse_couchdb_url(url: str) -> CouchSettings:
    """Read `couchdb://user:password@host:5984,host2:port2/prefix`, or `couchdbs://` for TLS.

    User and password are percent-decoded. SetupError never quotes the URL: in a mistyped one the
    password may be anywhere."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise SetupError(
            "store URL: expected couchdb://user:password@host:5984/prefix, or couchdbs:// for TLS"
        )
    if "?" in rest or "#" in rest:
        raise SetupError("store URL: ? and # have no meaning here; percent-encode them in a password")
    authority, _, prefix = rest.partition("/")
    credentials, at, addresses = authority.rpartition("@")
    user, colon, password = credentials.partition(":")
    if at and not (user and colon and password):
        raise SetupError("store URL: expected user:password before the @")
    prefix = prefix.rstrip("/") or DEFAULT_PREFIX
    if not _PREFIX.fullmatch(prefix):
        raise SetupError(
            "store URL: the path, a prefix of database names, is to be lower-case letters, digits, - and _,"
            " beginning with a letter (percent-encode a / in a password)"
        )
    http = _SCHEMES[scheme]
    return CouchSettings(
        hosts=tuple(_base_url(http, address) for address in addresses.split(",")),
        prefix=prefix,
        user=unquote(user) if at else None,
        password=unquote(password) if at else None,
    )


def _base_url(scheme: str, address: str) -> str:
    try:
        parts = urlsplit(f"{scheme}://{address}")
        host, port = parts.hostname, parts.port or DEFAULT_PORTS[scheme]
    except ValueError:
        # Without the cause: it would quote what stands in the place of the port.
        raise SetupError(
            "store URL: expected host:port with a port from 1 to 65535 (percent-encode / and @ in a password)"
        ) from None
    if not host or not re.fullmatch(r"[A-Za-z0-9._:-]+", host):
        raise SetupError("store URL: expected host:port[,host:port…] after the @")
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class AccessRefused(StoreUnreachable):
    """CouchDB answered 401 or 403: a wrong password, or a right that the user lacks."""


class DeadlinePassed(StoreUnreachable):
    """CouchDB was silent for longer than the caller wanted to wait."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of CouchDB: `payload` is the parsed JSON."""

    host: str
    status: int
    headers: Mapping[str, str]
    payload: Any

    @property
    def reason(self) -> str:
        """CouchDB's own words for an error, cut to a line's length."""
        if not isinstance(self.payload, dict):
            return ""
        words = f"{self.payload.get('error', '')}: {self.payload.get('reason', '')}"
        return words[:MAX_REASON_CHARACTERS]

    def require(self, *statuses: int) -> Reply:
        """This reply, if its status is one of those expected; StoreUnreachable otherwise."""
        if self.status not in statuses:
            raise StoreUnreachable(f"CouchDB at {self.host} answered {self.status} {self.reason}".rstrip())
        return self


class CouchHttp:
    """Requests to whichever host answers.

    A host is left for the next one, with the next request, once it breaks, is silent past a deadline
    or answers 5xx. No request is sent twice, except to hosts to which there is no connection."""

    def __init__(self, settings: CouchSettings, *, tls_context: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._tls_context = tls_context
        self._position = 0
        self._session: aiohttp.ClientSession | None = None

    @property
    def host(self) -> str:
        """The host that is asked next."""
        return self._settings.hosts[self._position]

    @property
    def user(self) -> str:
        """Name of our CouchDB user, for messages."""
        return self._settings.user or "(anonymous)"

    @asynccontextmanager
    async def deadline(self, seconds: float) -> AsyncIterator[None]:
        """Let all that is inside take at most so long together; DeadlinePassed beyond."""
        host = self.host
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            self._leave(host)
            raise DeadlinePassed(f"CouchDB at {host} did not answer within {seconds:g} s") from None

    async def request(
        self,
        method: str,
        path: str = "",
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """Ask, without a deadline of its own; any answer but 401 and 403 (AccessRefused) is returned.

        aiohttp sends PUT and DELETE again after a broken connection, POST never: whatever must not
        be repeated has to be a POST."""
        reason = ""
        for _ in self._settings.hosts:
            host = self.host
            try:
                reply = await self._ask(host, method, path, params, body)
            except aiohttp.ClientConnectorError as error:
                # No connection, so nothing was sent: even a write may go to the next host at once.
                self._leave(host)
                reason = f"{host}: {_words(error.os_error)}"
                continue
            if reply.status in {401, 403}:
                raise AccessRefused(f"CouchDB at {host} refuses user {self.user}: {reply.reason}")
            return reply
        raise StoreUnreachable(f"no connection to CouchDB: {reason}")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(
        self, host: str, method: str, path: str, params: Mapping[str, str] | None, body: bytes | None
    ) -> Reply:
        headers = {"Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = io.BytesIO(body)  # which aiohttp sends piece by piece, letting others run in between
        try:
            async with self._opened().request(
                method, f"{host}/{path}", params=params, data=data, headers=headers, allow_redirects=False
            ) as response:
                payload = orjson.loads(await _read(response))
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            self._leave(host)
            raise StoreUnreachable(f"the connection to CouchDB at {host} broke: {error!r}") from error
        except ValueError as error:
            self._leave(host)
            raise StoreUnreachable(f"the answer of CouchDB at {host} is no JSON") from error
        if response.status >= 500:  # noqa: PLR2004 - HTTP's own boundary
            self._leave(host)
        return Reply(host, response.status, response.headers, payload)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._authorization(),
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=self._tls_context or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Deadlines are the caller's: one for all requests of a call.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            )
        return self._session

    def _authorization(self) -> dict[str, str]:
        if self._settings.user is None:
            return {}
        credentials = f"{self._settings.user}:{self._settings.password or ''}".encode()
        return {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"}

    def _leave(self, host: str) -> None:
        hosts = self._settings.hosts
        if len(hosts) > 1 and hosts[self._position] == host:
            self._position = (self._position + 1) % len(hosts)
            log.warning("leaving a CouchDB host", action="store_host_left", host=host, next_host=self.host)


def _words(error: OSError) -> str:
    """Reason for a missing connection. asyncio gives the address in place of it, which the message tells
    already."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    # Errors of name look-ups have numbers of their own, below zero.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError(f"more than {MAX_ANSWER_BYTES} bytes")
    return bytes(data)
