"""Fixtures: every object store there is, each behind the same port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from dcron.adapters.folder import FolderObjectStore
from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.adapters.s3.store import S3ObjectStore
from dcron.ports import ObjectStore
from tests.object_stores import S3_KINDS, S3Access, S3Servers

__all__ = ["object_store", "s3", "s3_servers", "s3_store"]


@pytest.fixture(scope="session")
def s3_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Servers]:
    """The S3 servers of this session."""
    servers = S3Servers(tmp_path_factory.mktemp("s3"))
    yield servers
    servers.stop()


@pytest.fixture(params=S3_KINDS)
def s3(request: pytest.FixtureRequest, s3_servers: S3Servers, monkeypatch: pytest.MonkeyPatch) -> S3Access:
    """Each S3 server, with access to it in this process's environment."""
    return _enter(s3_servers.access(request.param), monkeypatch)


@pytest_asyncio.fixture
async def s3_store(s3: S3Access) -> AsyncIterator[S3ObjectStore]:
    """A prepared store on each S3 server."""
    store = S3ObjectStore(s3.settings)
    await store.prepare()
    yield store
    await store.close()


@pytest_asyncio.fixture(params=["memory", "folder", *S3_KINDS])
async def object_store(
    request: pytest.FixtureRequest, s3_servers: S3Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[ObjectStore]:
    """A prepared store of every kind."""
    store: ObjectStore
    if request.param == "memory":
        store = MemoryObjectStore()
    elif request.param == "folder":
        store = FolderObjectStore(tmp_path / "store")
    else:
        store = S3ObjectStore(_enter(s3_servers.access(request.param), monkeypatch).settings)
    await store.prepare()
    yield store
    await store.close()


def _enter(access: S3Access, monkeypatch: pytest.MonkeyPatch) -> S3Access:
    for name, value in access.environment.items():
        monkeypatch.setenv(name, value)
    return access
