"""Uploads by a signed URL as a client does."""

from __future__ import annotations

import asyncio
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

from dcron.ports import UploadTarget

__all__ = ["put_by_url"]

PUT_SECONDS = 15.0


async def put_by_url(target: UploadTarget, body: bytes, *, trusted: ssl.SSLContext | None = None) -> str:
    """Reason why it was not taken, in words; empty when it was. The URL, a secret while valid, is not in it.

    `trusted` is how a certificate is checked; None: by the machine's CAs."""
    return await asyncio.to_thread(_put, target, body, trusted)


def _put(target: UploadTarget, body: bytes, trusted: ssl.SSLContext | None) -> str:
    parts = urlsplit(target.url)
    if parts.scheme not in {"http", "https"}:
        return "the address is not http:// or https://"
    where = f"{parts.scheme}://{parts.netloc}"
    headers = {"Content-Type": "application/octet-stream", **target.headers}
    request = urllib.request.Request(target.url, body, headers, method="PUT")  # noqa: S310 - checked above
    # A proxy of this machine says nothing about how clients reach the store.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
    )
    try:
        with opener.open(request, timeout=PUT_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return f"{where} refused it: {error.code} {error.reason}"
    except urllib.error.URLError as error:
        return f"no connection to {where}: {error.reason}"
    except (HTTPException, OSError) as error:
        return f"{where} broke off: {error}"
