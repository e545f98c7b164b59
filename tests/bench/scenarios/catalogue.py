"""Registering and listing many jobs through one node, and the history of one job among many executions."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import UTC, datetime

import grpc

from dcron.domain.job_documents import job_of
from dcron.domain.model import Specification
from dcron.ports import JOBS, DocumentStore
from dcron.rpc import dcron_pb2 as pb
from dcron.rpc.dcron_pb2_grpc import PublicStub
from dcron.services.clients.registrar import MAX_REGISTRATIONS
from dcron.wire import specification_message
from tests.bench import seeding
from tests.bench.figures import Bound, Figure, Measured
from tests.bench.measuring import Bench, Marks, cluster_on, serving, uploaded, with_store
from tests.bench.stores import OpenStores, pairs
from tests.system.cluster import Cluster

__all__ = ["run"]

NAME = "catalogue"
CALLS_AT_ONCE = 2
CALL_SECONDS = 60.0
JOBS_WITH_HISTORY = 10
ASKED = 20
"""Times that the history is asked for."""
LEAST_CREATED = 2_000.0
MOST_LIST_SECONDS = 1.0
MOST_HISTORY_MS = 50.0
_LISTED_IN_TARGET = 10_000


def run(bench: Bench) -> None:
    """Measure every pair of stores."""
    for open_stores in pairs(bench.scale.kinds):
        _measure(bench, open_stores)


def _measure(bench: Bench, open_stores: OpenStores) -> None:
    with bench.opened(open_stores) as (stores, folder):
        # One node: the others would only wait for their turn to lead.
        cluster = cluster_on(folder, stores, nodes=1)
        wanted = uploaded(stores, Marks(folder).script)
        with serving(cluster):
            created = [
                asyncio.run(_created_per_second(cluster, wanted, f"new{number}", bench.scale.created_jobs))
                for number in range(bench.scale.runs)
            ]
            written = _written_per_second(cluster, wanted, bench.scale.listed_jobs)
            listed = [_list_seconds(cluster, bench.scale.listed_jobs) for _ in range(bench.scale.runs)]
            count = bench.scale.executions[stores.kind]
            with_store(cluster.store_url, lambda store: _store_history(store, count))
            history = _history_milliseconds(cluster)
    figures = bench.results.figures
    bulk = Measured("bulk writes of the job documents", "/s", (written,))
    rate = Measured(f"jobs created, {MAX_REGISTRATIONS} a call", "/s", tuple(created))
    figures.append(Figure(NAME, stores.name, rate, (bulk,), (Bound("", LEAST_CREATED, at_most=False),)))
    pages = Measured(f"listing {bench.scale.listed_jobs:,} jobs", "s", tuple(listed))
    limit = MOST_LIST_SECONDS * bench.scale.listed_jobs / _LISTED_IN_TARGET
    figures.append(Figure(NAME, stores.name, pages, (), (Bound("", limit),)))
    asked = Measured(f"history of a job among {count:,} executions", "ms", tuple(history))
    figures.append(Figure(NAME, stores.name, asked, (), (Bound("", MOST_HISTORY_MS),)))


async def _created_per_second(cluster: Cluster, wanted: Specification, prefix: str, count: int) -> float:
    """Through CreateJobs, MAX_REGISTRATIONS a call."""
    specification = specification_message(wanted)
    names = (f"{prefix}-{number}" for number in range(count))
    async with grpc.aio.insecure_channel(cluster.nodes[0].address) as channel:
        stub = PublicStub(channel)

        async def create_some() -> None:
            while batch := list(itertools.islice(names, MAX_REGISTRATIONS)):
                jobs = [pb.CreateJobRequest(name=name, specification=specification) for name in batch]
                answer = await stub.CreateJobs(pb.CreateJobsRequest(jobs=jobs), timeout=CALL_SECONDS)
                refused = [result.refusal for result in answer.results if result.HasField("refusal")]
                assert not refused, refused[0]

        began = time.monotonic()
        await asyncio.gather(*(create_some() for _ in range(CALLS_AT_ONCE)))
        return count / (time.monotonic() - began)


def _written_per_second(cluster: Cluster, wanted: Specification, count: int) -> float:
    """Job documents without dcron, as many as are then listed; they are indexed afterwards."""
    documents = list(seeding.jobs("listed", count, wanted))

    async def write(store: DocumentStore) -> float:
        began = time.monotonic()
        await seeding.store_jobs(store, documents)
        seconds = time.monotonic() - began
        await seeding.let_index(store, (JOBS,))
        return count / seconds

    return with_store(cluster.store_url, write)


def _list_seconds(cluster: Cluster, count: int) -> float:
    """Page after page, until as many as there are at least."""
    stub = cluster.stub()
    began = time.monotonic()
    found, token = 0, ""
    while found < count:
        answer = stub.ListJobs(pb.ListJobsRequest(page_token=token), timeout=CALL_SECONDS)
        found, token = found + len(answer.jobs), answer.next_page_token
        assert token or found >= count, f"{found} jobs are listed of {count}"
    return time.monotonic() - began


async def _store_history(store: DocumentStore, count: int) -> None:
    """As many executions, of ten of the jobs, up to this minute; indexed."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    documents = await store.range(JOBS, "listed-", "listed-~", limit=JOBS_WITH_HISTORY)
    for document in documents:
        job = job_of(document.id, document.body)
        each = count // JOBS_WITH_HISTORY
        await seeding.store_executions(store, seeding.executions_of(job, each, now))
    await seeding.let_index(store, await store.databases())


def _history_milliseconds(cluster: Cluster) -> list[float]:
    stub = cluster.stub()
    request = pb.ListExecutionsRequest(job="listed-0000000")
    milliseconds = []
    for _ in range(ASKED):
        began = time.monotonic()
        answer = stub.ListExecutions(request, timeout=CALL_SECONDS)
        milliseconds.append(1000 * (time.monotonic() - began))
        assert len(answer.executions) > 1, "the job has no history"
    return milliseconds
