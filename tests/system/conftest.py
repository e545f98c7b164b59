"""Clusters of real processes on real servers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import COUCHDB_VARIABLE
from tests.couchdb_server import CouchServer, CouchUnavailable
from tests.object_stores import EXTERNAL_URL, S3_KINDS, S3Access, S3Servers
from tests.system.cluster import Cluster, serving
from tests.system.gates import GatedCluster
from tests.system.namespaces import NetworkUnavailable, enter_own_network


def pytest_configure() -> None:
    """Keep processes that run these tests side by side from taking each other's ports.

    Where that cannot be, or servers of this machine are named, all share its network."""
    side_by_side = "PYTEST_XDIST_WORKER" in os.environ
    if side_by_side and not os.environ.get(COUCHDB_VARIABLE) and not EXTERNAL_URL:
        with contextlib.suppress(NetworkUnavailable):
            enter_own_network()


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
    with serving(Cluster(tmp_path, couch_url, s3.url, s3.environment)) as made:
        yield made


@pytest.fixture
def gated(tmp_path: Path, couch_url: str, s3: S3Access) -> Iterator[GatedCluster]:
    """Three nodes that serve, each with a gate before each store; they log each attempt that is accepted."""
    environment = {**s3.environment, "DCRON_LOG_LEVEL": "debug"}
    made = GatedCluster(Cluster(tmp_path, couch_url, s3.url, environment))
    try:
        with serving(made.cluster):
            yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def shared_cluster(
    tmp_path_factory: pytest.TempPathFactory, couch_url: str, s3: S3Access
) -> Iterator[Cluster]:
    """Three nodes for all tests that leave them as they were."""
    folder = tmp_path_factory.mktemp("shared")
    with serving(Cluster(folder, couch_url, s3.url, s3.environment)) as made:
        yield made


@pytest.fixture
def outage_cluster(tmp_path: Path, s3: S3Access) -> Iterator[tuple[Cluster, CouchServer]]:
    """Three nodes on a document store of their own, which the test may take away."""
    try:
        with (
            CouchServer(tmp_path / "couchdb") as server,
            serving(Cluster(tmp_path, server.url, s3.url, s3.environment)) as made,
        ):
            yield made, server
    except CouchUnavailable as reason:
        pytest.skip(str(reason))
