"""Short objects sent to S3 by a URL that boto3 has signed: a third of the processor time of its own PUT.

Whatever is not plainly stored is left to boto3, which knows redirects, certificates and what refusals mean.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING
from urllib.request import getproxies

from dcron.domain.errors import ObjectsUnreachable

if TYPE_CHECKING:
    import aiohttp

__all__ = ["ShortPuts"]


class ShortPuts:
    """PUTs over connections that are used again; `deadline_seconds` is for each."""

    def __init__(
        self, name: str, connections: int, deadline_seconds: float, tls_context: ssl.SSLContext | None
    ) -> None:
        self._name = name
        self._connections = connections
        self._deadline_seconds = deadline_seconds
        self._tls_context = tls_context
        self._session: aiohttp.ClientSession | None = None
        # How to go through a proxy is boto3's business.
        self.possible = getproxies().keys().isdisjoint({"http", "https", "all"})

    async def put(self, url: str, headers: dict[str, str], body: bytes) -> bool:
        """Whether it is stored for certain; ObjectsUnreachable when there is no answer in time."""
        import aiohttp

        try:
            async with asyncio.timeout(self._deadline_seconds):
                async with self._opened().put(
                    url, data=body, headers=headers, allow_redirects=False
                ) as answer:
                    await answer.read()
                    return answer.ok
        except TimeoutError:
            reason = f"no answer within {self._deadline_seconds:g} s"
            raise ObjectsUnreachable(f"{self._name}: put_object: {reason}") from None
        except (aiohttp.ClientError, OSError):
            return False

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        # Imported here: a node without such a store need not have it in memory.
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=self._tls_context or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            )
        return self._session
