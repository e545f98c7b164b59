"""S3 servers to test with, and what tests of object stores share.

`DCRON_TEST_S3_URL` (the form of `DCRON_OBJECTS`, with AWS_* credentials in the environment) replaces the
S3 servers that are started here by that one; its bucket keeps what the tests store, under random keys.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from dcron.adapters.s3.store import S3Settings, parse_s3_url
from dcron.ports import ObjectStore
from tests.s3_server import Flavour, S3Server, minio_program
from tests.swift_venv import SwiftUnavailable

__all__ = ["S3_KINDS", "STARTED_KINDS", "S3Access", "S3Servers", "collect", "new_key"]

EXTERNAL_URL = os.environ.get("DCRON_TEST_S3_URL", "")
STARTED_KINDS: list[Flavour] = ["swift", "minio"] if minio_program() else ["swift"]
S3_KINDS = ["external"] if EXTERNAL_URL else STARTED_KINDS


@dataclass(frozen=True)
class S3Access:
    """An S3 server to test with: the URL of a bucket there, and the variables that give access."""

    url: str
    environment: Mapping[str, str]

    @property
    def settings(self) -> S3Settings:
        return parse_s3_url(self.url)

    def another_bucket(self) -> S3Settings:
        return replace(self.settings, bucket=f"dcron-test-{secrets.token_hex(6)}")


def new_key(name: str = "object") -> str:
    """A key that no other test uses."""
    return f"test/{secrets.token_hex(8)}/{name}"


async def collect(store: ObjectStore, key: str, offset: int = 0) -> bytes:
    """The whole object from `offset`."""
    return b"".join([chunk async for chunk in store.read(key, offset=offset)])


class S3Servers:
    """Servers by kind, each started when it is first asked for; skips the test where that cannot be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, S3Server] = {}
        self._missing: dict[str, str] = {}

    def access(self, kind: str) -> S3Access:
        if kind == "external":
            return S3Access(EXTERNAL_URL, {})
        if kind not in self._running:
            self._running[kind] = self.start(kind)
        return S3Access(self._running[kind].url, self._running[kind].environment)

    def start(self, kind: str, name: str = "shared") -> S3Server:
        """A server of its own, in a folder of that name; the caller stops it."""
        server = S3Server(self._folder / kind / name, cast("Flavour", kind))
        # Looking in vain for what is to be installed takes long: once is enough.
        if kind not in self._missing:
            try:
                server.start()
            except SwiftUnavailable as error:
                self._missing[kind] = str(error)
        if kind in self._missing:
            pytest.skip(f"no S3 server to test with: {self._missing[kind]}")
        return server

    def stop(self) -> None:
        for server in self._running.values():
            server.stop()
