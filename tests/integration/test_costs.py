"""Costs grow only with what is due: what leading asks of CouchDB with few and with many jobs stored.

The stand-in takes 20,000 jobs in as long as a test may last; a real CouchDB is given 100,000."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dcron.adapters.folder import FolderObjectStore
from dcron.domain.model import Active, Job, Occurrence, Script, Specification
from dcron.ports import CLUSTER, DocumentStore
from dcron.services.leader.due_queue import DueQueue
from dcron.services.leader.job_book import JobBook
from dcron.services.leader.scheduler import HORIZON
from tests.bench.bare_node import BARE_NODE
from tests.bench.counting_proxy import CountingProxy, Traffic
from tests.bench.seeding import jobs, open_patient, store_jobs
from tests.conftest import COUCHDB_VARIABLE
from tests.system.cluster import Cluster, wait_for

FEW = 1_000
MANY = 100_000 if COUCHDB_VARIABLE in os.environ else 20_000
DUE = 10
LED_SECONDS = 8.0
"""For which a node leads while its jobs come due every second."""
SCRIPT_TEXT = b"true\n"
"""Nodes here start nothing; but a worker claims no attempt before it has the script."""
SCRIPT = Script(hashlib.sha256(SCRIPT_TEXT).hexdigest(), len(SCRIPT_TEXT), "job.sh")
FAR = Specification("0 0 1 1 *", SCRIPT)
EACH_SECOND = replace(FAR, schedule="* * * * * *")

pytestmark = pytest.mark.timeout(300)

Counts = dict[tuple[str, str], int]


@dataclass(frozen=True)
class Costs:
    """Requests, and documents in answers, by database and kind of request."""

    requests: Counts
    documents: Counts


@dataclass(frozen=True)
class Stored:
    """What leading costs beside a number of jobs that are not due."""

    tick: Costs
    node: Costs


@pytest.fixture(scope="module")
def few_and_many(couch_url: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Stored, Stored]:
    """The same work beside FEW and beside MANY jobs."""
    few, many = (measure(couch_url, tmp_path_factory.mktemp("costs"), count) for count in (FEW, MANY))
    return few, many


def test_a_tick_asks_for_and_reads_the_same_whatever_is_stored(few_and_many: tuple[Stored, Stored]):
    few, many = few_and_many
    assert many.tick == few.tick
    # The rows of the index, and the jobs that they name: that anything was counted at all.
    assert sum(few.tick.documents.values()) == 2 * DUE


def test_a_node_that_leads_asks_for_and_reads_no_more_whatever_is_stored(
    few_and_many: tuple[Stored, Stored],
):
    few, many = few_and_many
    # How requests fall together is a matter of milliseconds; who looks through all jobs reads thousands.
    assert DUE <= sum(many.node.documents.values()) <= 2 * sum(few.node.documents.values())
    assert 0 < sum(many.node.requests.values()) <= 2 * sum(few.node.requests.values())


def measure(couch_url: str, folder: Path, count: int) -> Stored:
    """Store jobs under a prefix of their own; what a tick and what a node costs then."""
    cluster = Cluster(folder, couch_url, f"file://{folder}/objects", {}, nodes=1)
    prefix = cluster.store_url.rpartition("/")[2]
    asyncio.run(store_script(folder))
    with CountingProxy(cluster.store_url, 2) as proxy:
        asyncio.run(seed_and_tick(cluster.store_url, proxy.url(0), count))
        [node] = cluster.nodes
        node.command = list(BARE_NODE)
        node.environment["DCRON_STORE"] = proxy.url(1)
        try:
            cluster.start()
            time.sleep(LED_SECONDS)
            wait_for("executions", lambda: len(cluster.executions(f"seconds-{0:07}")) > 1)
        finally:
            cluster.stop()
    return Stored(*(costs(traffic, prefix) for traffic in proxy.traffic))


async def store_script(folder: Path) -> None:
    """Bring the jobs' script into the object store of a cluster in this folder."""
    script = folder / "job.sh"
    script.write_bytes(SCRIPT_TEXT)
    objects = FolderObjectStore(folder / "objects")
    await objects.prepare()
    await objects.put_file(f"scripts/{SCRIPT.sha256}", script, size_bytes=SCRIPT.size_bytes)
    await objects.close()


def costs(traffic: Traffic, prefix: str) -> Costs:
    """Without what is asked for by the clock, whatever is due: feeds, leases, and the making of databases."""
    kinds = {"_find", "_bulk_get", "_all_docs", "_bulk_docs", "_revs_diff"}
    counted = [
        {
            (database.removeprefix(f"{prefix}-"), kind): number
            for (database, kind), number in counter.items()
            if kind in kinds and database != f"{prefix}-{CLUSTER}"
        }
        for counter in (traffic.requests, traffic.documents)
    ]
    return Costs(*counted)


async def seed_and_tick(direct_url: str, counted_url: str, count: int) -> None:
    """Store jobs, have them indexed, then do what a leader does at a tick through the counting proxy."""
    now = datetime.now(UTC).replace(microsecond=0)
    due_at = now + timedelta(minutes=1)
    at_minute = replace(FAR, schedule=f"{due_at.second} {due_at.minute} {due_at.hour} * * *")
    direct = open_patient(direct_url)
    counted = open_patient(counted_url)
    try:
        await direct.prepare()
        await store_jobs(direct, jobs("far", count, FAR))
        await store_jobs(direct, jobs("minute", DUE, at_minute))
        # A real CouchDB and the stand-in index what is new when they are asked.
        await tick(direct, now, due_at, launches=False)
        await tick(counted, now, due_at, launches=True)
        await store_jobs(direct, jobs("seconds", DUE, EACH_SECOND))
    finally:
        await direct.close()
        await counted.close()


async def tick(store: DocumentStore, now: datetime, due_at: datetime, *, launches: bool) -> None:
    """Look for what is active and what falls due, and write the intents of that."""
    due = DueQueue()
    book = JobBook(store, due, {})
    await book.load_active()
    await book.poll(now + HORIZON)
    names = due.take_due(due_at, 2 * DUE)
    assert len(names) == DUE
    if launches:
        assert all(await book.write([launched(book.get(name), due_at) for name in names]))


def launched(job: Job | None, due_at: datetime) -> Job:
    assert job is not None
    active = Active(Occurrence.of_schedule(job.uid, due_at), 1, 1, due_at)
    sequence = job.place.sequence + 1
    place = replace(job.place, sequence=sequence, active=active, next_at=due_at + timedelta(days=1))
    return replace(job, place=place)
