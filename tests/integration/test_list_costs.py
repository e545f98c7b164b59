"""Costs of a page follow the page: what lists ask of CouchDB with little and with much stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.adapters.system_clock import SystemClock
from dcron.domain.access import Caller
from dcron.domain.audit import AuditQuery, Change
from dcron.domain.job_documents import job_of
from dcron.domain.model import Script, Specification, State
from dcron.domain.queries import ExecutionQuery, JobQuery
from dcron.ports import DocumentStore
from dcron.services.clients.audit import AuditTrail
from dcron.services.clients.executions import Executions
from dcron.services.clients.job_lists import JobLists
from tests.bench.counting_proxy import CountingProxy
from tests.bench.seeding import executions_of, jobs, let_index, open_patient, store_executions, store_jobs
from tests.couchdb_server import with_own_databases
from tests.doubles import FakeNodes
from tests.unit.services.doubles import FakeDirectory

FEW, MANY = 400, 2_000
PAGE = 20
WANTED = Specification("0 0 1 1 *", Script("a" * 64, 10, "job.sh"))

pytestmark = pytest.mark.timeout(300)

Counts = dict[str, tuple[int, int]]
FRUITLESS = "executions on a node that ran none"
"""A page of one execution, looked for in vain: it costs more the more is stored, up to a bound."""


@pytest.fixture(scope="module")
def few_and_many(couch_url: str) -> tuple[Counts, Counts]:
    few, many = (asyncio.run(measure(with_own_databases(couch_url), count)) for count in (FEW, MANY))
    return few, many


def test_a_page_costs_the_same_whatever_is_stored(few_and_many: tuple[Counts, Counts]) -> None:
    few, many = ({name: cost for name, cost in each.items() if name != FRUITLESS} for each in few_and_many)
    assert few == many
    # Every list has asked for something, and for no more than a page can take.
    assert all(0 < requests <= 8 and documents <= 16 * PAGE for requests, documents in few.values())


def test_a_filter_that_matches_nothing_takes_few_requests_whatever_the_page(
    few_and_many: tuple[Counts, Counts],
) -> None:
    # One after the other they would be as many as the executions, and more.
    assert all(0 < counts[FRUITLESS][0] <= 40 for counts in few_and_many)


async def measure(url: str, count: int) -> Counts:
    """Requests, and documents in answers, of each list's second page beside `count` things stored."""
    direct = open_patient(url)
    with CountingProxy(url, 1) as proxy:
        counted = open_patient(proxy.url(0))
        try:
            await direct.prepare()
            await seed(direct, count)
            counts = {}
            for name, ask in lists(counted).items():
                token = await ask("")
                assert token, f"{name} has no second page"
                counts[name] = await cost_of(partial(ask, token), proxy)
            counts[FRUITLESS] = await cost_of(partial(in_vain, counted), proxy)
        finally:
            await direct.close()
            await counted.close()
    return counts


async def cost_of(ask: Callable[[], Awaitable[object]], proxy: CountingProxy) -> tuple[int, int]:
    """Requests, and documents in answers, of what is asked."""
    traffic = proxy.traffic[0]
    traffic.requests.clear()
    traffic.documents.clear()
    await ask()
    return traffic.requests.total(), traffic.documents.total()


async def in_vain(store: DocumentStore) -> None:
    """Ask for a page of one execution that nothing is."""
    executions = Executions(store, MemoryObjectStore(), FakeNodes(), SystemClock(), FakeDirectory())
    assert not (await executions.list(ExecutionQuery(node_id="n9"), 1)).executions


async def seed(store: DocumentStore, count: int) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    documents = list(jobs("listed", count, WANTED))
    await store_jobs(store, documents)
    for each in documents[:2]:
        job = job_of(each.id, each.body)
        await store_executions(store, executions_of(job, count // 2, now + timedelta(minutes=count // 2)))
    trail = AuditTrail(store, SystemClock(), "n1")
    for _ in range(count // 4):
        await asyncio.sleep(0.002)  # what is of one millisecond is read again by the next page
        changes = [Change("PauseJob", "listed-0000000")]
        await trail.results(await trail.request(Caller("c", frozenset(), ""), changes), ["OK"] * len(changes))
    await let_index(store, await store.databases())


def lists(store: DocumentStore) -> dict[str, Callable[[str], Awaitable[str]]]:
    """By name: what asks for a page by its token, and gives the token of the next one."""
    executions = Executions(store, MemoryObjectStore(), FakeNodes(), SystemClock(), FakeDirectory())
    trail = AuditTrail(store, SystemClock(), "n1")

    def found_by(query: ExecutionQuery) -> Callable[[str], Awaitable[str]]:
        async def ask(token: str) -> str:
            page = await executions.list(query, PAGE, token)
            assert len(page.executions) == PAGE
            return page.next_token

        return ask

    async def of_jobs(token: str) -> str:
        async with aclosing(JobLists(store).parts(JobQuery("listed-"), PAGE, token)) as parts:
            return [part.next_token async for part in parts][-1]

    async def of_records(token: str) -> str:
        return (await trail.list(AuditQuery(), PAGE, token)).next_token

    return {
        "jobs": of_jobs,
        "records": of_records,
        "executions": found_by(ExecutionQuery()),
        "executions of one job": found_by(ExecutionQuery("listed-0000000")),
        "oldest of one job": found_by(ExecutionQuery("listed-0000000", oldest_first=True)),
        "ended": found_by(ExecutionQuery(states=(State.SUCCEEDED, State.FAILED))),
    }
