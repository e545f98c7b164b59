"""Clusters of real processes on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.couchdb_server import CouchServer, CouchUnavailable
from tests.object_stores import S3_KINDS, S3Access, S3Servers
from tests.s3_server import S3Server
from tests.swift_venv import SwiftUnavailable
from tests.system.cluster import Cluster


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Access]:
    """An S3 server for all tests."""
    servers = S3Servers(tmp_path_factory.mktemp("s3"))
    try:
        yield servers.access(S3_KINDS[0])
    finally:
        servers.stop()


@pytest.fixture
def cluster(tmp_path: Path, couch_url: str, s3: S3Access) -> Iterator[Cluster]:
    """Three nodes that serve, with a leader."""
    yield from serving(Cluster(tmp_path, couch_url, s3.url, s3.environment))


@pytest.fixture(scope="session")
def shared_cluster(
    tmp_path_factory: pytest.TempPathFactory, couch_url: str, s3: S3Access
) -> Iterator[Cluster]:
    """Three nodes for all tests that leave them as they were."""
    yield from serving(Cluster(tmp_path_factory.mktemp("shared"), couch_url, s3.url, s3.environment))


@pytest.fixture
def outage_cluster(tmp_path: Path, s3: S3Access) -> Iterator[tuple[Cluster, CouchServer]]:
    """Three nodes on a document store of their own, which the test may take away."""
    try:
        with CouchServer(tmp_path / "couchdb") as server:
            for cluster in serving(Cluster(tmp_path, server.url, s3.url, s3.environment)):
                yield cluster, server
    except CouchUnavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def object_outage_cluster(tmp_path: Path, couch_url: str) -> Iterator[tuple[Cluster, S3Server]]:
    """Three nodes on an object store of their own, which the test may take away."""
    server = S3Server(tmp_path / "s3")
    try:
        server.start()
    except SwiftUnavailable as reason:
        pytest.skip(str(reason))
    try:
        for cluster in serving(Cluster(tmp_path, couch_url, server.url, server.environment)):
            yield cluster, server
    finally:
        server.stop()


def serving(made: Cluster) -> Iterator[Cluster]:
    """A cluster while it runs; on failure, the ends of its logs are shown."""
    try:
        made.start()
        yield made
    finally:
        made.stop()
        for node in made.nodes:
            if node.log.exists():
                print(f"--- {node.id}\n{node.tail()}")
