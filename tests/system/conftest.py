"""Clusters of real processes on real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.couchdb_server import CouchServer, CouchUnavailable
from tests.object_stores import S3_KINDS, S3Access, S3Servers
from tests.system.cluster import Cluster


@pytest.fixture(scope="session")
def couch_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A CouchDB for all tests: the one that DCRON_TEST_COUCHDB_URL names, or the stand-in."""
    given = os.environ.get("DCRON_TEST_COUCHDB_URL")
    if given:
        yield given
        return
    try:
        with CouchServer(tmp_path_factory.mktemp("couchdb")) as server:
            yield server.url
    except CouchUnavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Access]:
    """An S3 server for all tests."""
    servers = S3Servers(tmp_path_factory.mktemp("s3"))
    try:
        yield servers.access(S3_KINDS[0])
    finally:
        servers.stop()


@pytest.fixture
def cluster(tmp_path: Path, couch_url: str, s3: S3Access, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three nodes that serve, with a leader; on failure, the ends of their logs are shown."""
    made = Cluster(tmp_path, couch_url, s3.url, s3.environment)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        for node in made.nodes:
            if node.log.exists():
                print(f"--- {node.id}\n{node.tail()}")
