"""Stores that go away for a minute while jobs fall due, and come back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.couchdb_server import CouchServer, CouchUnavailable
from tests.object_stores import S3Access
from tests.s3_server import S3Server
from tests.swift_venv import SwiftUnavailable
from tests.system.accounting import Ledger
from tests.system.cluster import Cluster, serving, started, wait_for

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("outages")]  # one minute for both

OUTAGE_SECONDS = 60.0
LONG_SECONDS = 10
PERIOD_SECONDS = 3
JOBS = ("a", "b", "c")


@dataclass
class Outage:
    """A cluster that has just got back a store that was away for a minute."""

    cluster: Cluster
    ledger: Ledger
    long_id: str
    """An execution that began before the outage and ended during it."""
    status: CompletedProcess[bytes]
    """What `dcron cluster status` said during the outage."""
    log: bytes
    """What could be read then of the log of that execution."""
    starts_meanwhile: int


@pytest.fixture(scope="module")
def outages(
    tmp_path_factory: pytest.TempPathFactory, couch_url: str, s3: S3Access
) -> Iterator[dict[str, Outage]]:
    """Two clusters go through their minute at the same time: one without documents, one without objects."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("documents", "objects")}
    with ExitStack() as stack:
        couch = stack.enter_context(own_couch(folders["documents"]))
        objects = stack.enter_context(own_s3(folders["objects"]))
        clusters = {
            "documents": Cluster(folders["documents"], couch.url, s3.url, s3.environment),
            "objects": Cluster(folders["objects"], couch_url, objects.url, objects.environment),
        }
        for cluster in clusters.values():
            stack.enter_context(serving(cluster))
        ledgers = {name: open_ledger(cluster) for name, cluster in clusters.items()}
        for ledger in ledgers.values():
            ledger.goes_on()
        long_ids = {name: start_long(cluster) for name, cluster in clusters.items()}

        couch.pause()
        objects.stop()
        before = {name: sum(ledger.starts().values()) for name, ledger in ledgers.items()}
        time.sleep(OUTAGE_SECONDS)  # the outage itself is what is tested
        statuses = {name: cluster.cli("cluster", "status") for name, cluster in clusters.items()}
        logs = {name: clusters[name].cli("execution", "log", long_ids[name]).stdout for name in clusters}
        starts = {name: sum(ledger.starts().values()) - before[name] for name, ledger in ledgers.items()}
        objects.start()
        couch.resume()
        yield {
            name: Outage(cluster, ledgers[name], long_ids[name], statuses[name], logs[name], starts[name])
            for name, cluster in clusters.items()
        }


def test_a_minute_without_documents_is_made_up_for_and_what_had_begun_is_recorded(outages):
    # Given jobs every third second and a script that outlasts the beginning of the outage, when the
    # document store hangs for a minute, then nothing starts that could not be claimed, and people hear why;
    outage = outages["documents"]
    assert outage.status.returncode == 1
    told = outage.status.stdout.decode()
    assert told.count("cannot reach the document store since") == len(outage.cluster.nodes)
    assert outage.starts_meanwhile <= len(JOBS), "only what was claimed before can have started"

    # and when it is back, all is accounted for, results and logs arrive.
    outage.ledger.close()
    assert_arrived(outage)
    assert any(
        each["skipReason"] == "SKIP_REASON_COALESCED"
        and int(each["occurrenceCount"]) >= OUTAGE_SECONDS / 2 / PERIOD_SECONDS
        for job in JOBS
        for each in outage.cluster.records(job)
    ), "the occurrences of the outage are named"


def test_a_minute_without_objects_delays_logs_only(outages):
    # Given the same, when the object store is gone for a minute, then jobs go on, logs are read from the
    # node that has them, and people hear why they are late;
    outage = outages["objects"]
    assert outage.log == b"ended\n"
    assert outage.status.returncode == 0
    assert b"S3 bucket" in outage.status.stdout
    assert outage.starts_meanwhile >= len(JOBS) * OUTAGE_SECONDS / PERIOD_SECONDS / 2

    # and when it is back, all is accounted for, and every log arrives.
    outage.ledger.close()
    assert_arrived(outage)
    for execution_id in list(outage.ledger.starts())[-10:]:
        assert outage.cluster.do("execution", "log", execution_id) == f"by {execution_id}\n"


@contextmanager
def own_couch(folder: Path) -> Iterator[CouchServer]:
    """A document store that the test may take away, whichever CouchDB the others use."""
    try:
        with CouchServer(folder / "couchdb") as server:
            yield server
    except CouchUnavailable as reason:
        pytest.skip(str(reason))


@contextmanager
def own_s3(folder: Path) -> Iterator[S3Server]:
    """An object store that the test may take away."""
    server = S3Server(folder / "s3")
    try:
        server.start()
    except SwiftUnavailable as reason:
        pytest.skip(str(reason))
    try:
        yield server
    finally:
        server.stop()


def open_ledger(cluster: Cluster) -> Ledger:
    then = 'echo "by $DCRON_EXECUTION_ID"'
    return Ledger.open(cluster, cluster.folder / "starts", JOBS, period_seconds=PERIOD_SECONDS, then=then)


def start_long(cluster: Cluster) -> str:
    """Run a script that ends some seconds from now; its execution id."""
    marks = cluster.folder / "long"
    script = f'echo "$DCRON_EXECUTION_ID" >> {marks}; sleep {LONG_SECONDS}; echo ended; exit 7'
    cluster.create("long", script, "--schedule", "@yearly")
    cluster.do("job", "run", "long")
    [execution_id] = wait_for("the long script runs", lambda: started(marks))
    return execution_id


def assert_arrived(outage: Outage) -> None:
    """What the long script did is known, with its log."""
    [ended] = outage.cluster.settled("long")
    assert (ended["id"], ended["state"], ended["exitCode"]) == (outage.long_id, "EXECUTION_STATE_FAILED", 7)
    assert outage.cluster.cli("execution", "log", ended["id"]).stdout == b"ended\n"
