"""Nodes of a real CouchDB cluster of three die, hang, come back stale or blank, while jobs fall due.

DCRON_TEST_COUCHDB_URL has to name all three, as processes of ours on this machine.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dcron.adapters.couchdb.http import CouchSettings, parse_couchdb_url
from tests.conftest import COUCHDB_VARIABLE
from tests.couchdb_nodes import LocalCouchNodes, NodesUnavailable
from tests.system.accounting import Ledger
from tests.system.cluster import Cluster, wait_for

pytestmark = [pytest.mark.real_couchdb, pytest.mark.timeout(300)]

JOBS = ("a", "b", "c", "d")
STALE_SECONDS = 15.0
"""How long a node misses what is written."""
MAJORITY_AWAY_SECONDS = 10.0
SYNC_SECONDS = 120.0
REQUEST_SECONDS = 10.0
QUIET_LOOKS = 5
"""So often in a row no internal replication is to be under way."""


class Couch:
    """The three nodes: what is done to them, and what they say of themselves."""

    def __init__(self, settings: CouchSettings) -> None:
        self.addresses = [host.partition("://")[2] for host in settings.hosts]
        self.nodes = LocalCouchNodes(self.addresses)
        credentials = f"{settings.user}:{settings.password}".encode()
        self._headers = {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"}

    def ask(self, i: int, method: str, path: str, value: Any = None) -> Any:
        """An answer of one node, which has to be a good one."""
        connection = http.client.HTTPConnection(self.addresses[i], timeout=REQUEST_SECONDS)
        try:
            body = None if value is None else json.dumps(value)
            connection.request(method, path, body, {**self._headers, "Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == http.client.OK, f"{method} {path} at node {i}: {answer.status} {text!r}"
            return json.loads(text)
        finally:
            connection.close()

    def set_maintenance(self, i: int, *, on: bool) -> None:
        """Whether a node is asked for nothing by the others; it remembers that when it is started again."""
        self.ask(
            i,
            "PUT",
            "/_node/_local/_config/couchdb/maintenance_mode",
            json.loads(json.dumps(str(on).lower())),
        )

    def data_folder(self, i: int) -> Path:
        """Where a node has its databases."""
        return Path(self.ask(i, "GET", "/_node/_local/_config/couchdb/database_dir"))

    def index_folder(self, i: int) -> Path:
        """Where a node has its indexes; the same by default."""
        return Path(self.ask(i, "GET", "/_node/_local/_config/couchdb/view_index_dir"))

    def replicates(self) -> bool:
        """Whether copies are still being brought up to date."""
        return any(
            self.ask(i, "GET", "/_node/_local/_system")["internal_replication_jobs"]
            for i in range(len(self.addresses))
        )


@pytest.fixture
def couch() -> Iterator[Couch]:
    """The nodes of the CouchDB that is given; all of them run afterwards."""
    settings = parse_couchdb_url(os.environ[COUCHDB_VARIABLE])
    if len(settings.hosts) != 3:
        pytest.skip(f"{COUCHDB_VARIABLE} names no CouchDB cluster of three")
    try:
        made = Couch(settings)
    except NodesUnavailable as reason:
        pytest.skip(str(reason))
    with made.nodes:
        yield made
    for i in range(len(made.addresses)):
        made.set_maintenance(i, on=False)


@pytest.fixture
def ledger(couch: Couch, cluster: Cluster, tmp_path: Path) -> Ledger:
    """Jobs that fall due every second or every other, and have run."""
    made = Ledger.open(cluster, tmp_path / "starts", JOBS, period_seconds=1)
    made.goes_on()
    return made


def test_the_schedule_goes_on_without_a_node_that_was_killed(ledger, couch):
    couch.nodes.kill(0)
    ledger.goes_on()
    couch.nodes.start(0)
    ledger.close()


def test_a_node_that_hung_and_is_stale_when_it_goes_on_changes_nothing(ledger, couch):
    couch.nodes.pause(1)
    ledger.goes_on()
    time.sleep(STALE_SECONDS)  # for it to miss something
    ledger.goes_on()
    couch.nodes.resume(1)
    ledger.close()


@pytest.mark.parametrize("away", ["paused", "killed"])
def test_without_a_majority_nothing_starts_and_nothing_is_lost(ledger, couch, away):
    cluster = ledger.cluster
    take_away = couch.nodes.pause if away == "paused" else couch.nodes.kill
    bring_back = couch.nodes.resume if away == "paused" else couch.nodes.start

    leader = cluster.leader()
    for i in (1, 2):
        take_away(i)
    wait_for("the leader stops leading", lambda: "stops leading" in leader.tail(), 30)
    before = ledger.starts()
    time.sleep(MAJORITY_AWAY_SECONDS)  # in which much falls due
    assert ledger.starts() == before

    for i in (1, 2):
        bring_back(i)
    ledger.close()


def test_a_blank_node_that_takes_the_place_of_another_loses_nothing(ledger, couch):
    # Given a node that is gone with all its data,
    folders = {couch.data_folder(2), couch.index_folder(2)}
    couch.set_maintenance(2, on=True)
    couch.nodes.kill(2)
    for folder in folders:
        shutil.rmtree(folder)
        folder.mkdir()

    # when it joins blank, asked for nothing until it has its copies, and then works again,
    couch.nodes.start(2)
    wait_for(
        "it has a copy of everything",
        lambda: has_copies(couch, 2, ledger.cluster.store_url.rpartition("/")[2]),
        SYNC_SECONDS,
    )
    ledger.goes_on()
    couch.set_maintenance(2, on=False)

    # then nothing that was decided before is decided again.
    ledger.close()


def has_copies(couch: Couch, i: int, prefix: str) -> bool:
    """Whether a node has each shard of this cluster's databases, and nothing is on its way to it."""
    have, wanted = (shard_files(couch.data_folder(each), prefix) for each in (i, 0))
    return bool(wanted) and wanted <= have and not any(couch.replicates() for _ in range(QUIET_LOOKS))


def shard_files(folder: Path, prefix: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.glob(f"shards/*/{prefix}-*.couch")}
