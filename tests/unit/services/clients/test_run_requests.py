"""A text names one run, whatever a split store, a frozen cluster, or a month's turn makes of the asking."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dcron.domain.documents import SETTINGS_ID, claim_body, settings_body
from dcron.domain.errors import FailedPrecondition, StoreUnreachable
from dcron.domain.execution_id import ExecutionId
from dcron.domain.ids import new_ulid
from dcron.domain.job_documents import job_body, job_of
from dcron.domain.model import Claim, ClusterSettings, Job
from dcron.ports import CLUSTER, JOBS, Document, DocumentStore, WriteKind, executions_database
from dcron.services.clients.catalogue import Catalogue
from dcron.services.clients.registrar import Registrar, Registration
from dcron.services.clients.run_requests import MEMORY, RunRequests
from dcron.services.clients.scripts import Scripts
from tests.doubles import ManualClock
from tests.unit.services.doubles import SCRIPT, SPECIFICATION, START, SplitStore

NAME = "report"
MONTH = executions_database(START)
TURN = datetime(2026, 4, 1, tzinfo=UTC)


class CutOffStore(SplitStore):
    """A store of which this node sees a copy that is cut off, while `cut_off`: nothing is confirmed.

    While `slow`, readings let others go on before they answer."""

    cut_off = False
    slow = False

    async def read(self, database: str, ids: Sequence[str]) -> list[tuple[Document, ...]]:
        found = await super().read(database, ids)
        if self.slow:
            await asyncio.sleep(0)
        return found

    async def confirm(self, database: str, documents: Sequence[Document]) -> list[bool]:
        sure = await super().confirm(database, documents)
        return [each and not self.cut_off for each in sure]


@pytest.fixture
def store() -> CutOffStore:
    return CutOffStore()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def catalogue(store: CutOffStore, scripts: Scripts, clock: ManualClock) -> Catalogue:
    return Catalogue(store, scripts, clock, clock_trouble=str)


@pytest.fixture
async def job(registrar: Registrar) -> Job:
    return await registrar.create(Registration(NAME, SPECIFICATION, paused=False))


async def stored(store: DocumentStore) -> Job:
    [[leaf]] = await store.read(JOBS, [NAME])
    return job_of(NAME, leaf.body)


async def requests_kept(store: DocumentStore, month: str = MONTH) -> list[Document]:
    return await store.range(month, "request:", "request;", limit=10)


async def let_it_run(store: DocumentStore, identifier: str) -> None:
    """As the leader and a worker do it: nothing waits any more, and the claim is there."""
    claim = Claim(identifier, "t", "n2", NAME, 1, 1, SCRIPT, START, True, START, 0.0)
    month = executions_database(ExecutionId.parse(identifier).instant)
    await store.write(month, [Document(identifier, claim_body(claim))])
    [[leaf]] = await store.read(JOBS, [NAME])
    present = job_of(NAME, leaf.body)
    idle = replace(present, place=replace(present.place, waiting=()))
    await store.write(JOBS, [Document(NAME, job_body(idle), leaf.revision)])


async def test_what_no_quorum_keeps_does_not_touch_the_job(
    catalogue: Catalogue, store: CutOffStore, job: Job
) -> None:
    store.cut_off = True
    identifier = await request_id_of(catalogue, store)
    store.faults[identifier] = [WriteKind.UNSURE]
    for _ in range(2):
        with pytest.raises(StoreUnreachable, match="nothing was asked for"):
            await catalogue.run(NAME, "once")
    assert await stored(store) == job, "the job has no run that another copy's request does not know"
    store.cut_off = False
    run = await catalogue.run(NAME, "once")
    assert [waiting.request_id for waiting in (await stored(store)).place.waiting] == [
        ExecutionId.parse(run).key
    ]


async def request_id_of(catalogue: Catalogue, store: CutOffStore) -> str:
    """The id of the document that keeps "once", found by asking a store that only this asking sees."""
    twin = SplitStore()
    await RunRequests(twin).keep((await stored(store)).uid, "once", START)
    [document] = await requests_kept(twin)
    return document.id


@pytest.mark.parametrize("settled", [True, False])
async def test_of_two_keys_of_a_text_the_one_that_is_known_to_have_run_counts(
    catalogue: Catalogue, store: CutOffStore, job: Job, settled: bool
) -> None:
    run = await catalogue.run(NAME, "once")
    if settled:
        await let_it_run(store, run)
    [document] = await requests_kept(store)
    older = new_ulid(START - timedelta(seconds=9), b"r" * 10)
    store.branches[document.id] = [Document(document.id, {"kind": "request", "key": older}, "1-other")]
    store.confirm = confirm_all  # type: ignore[method-assign]
    before = (await stored(store)).place.waiting
    assert await catalogue.run(NAME, "once") == run
    assert (await stored(store)).place.waiting == before


async def confirm_all(database: str, documents: Sequence[Document]) -> list[bool]:
    return [True] * len(documents)


async def test_a_run_that_ends_while_it_is_asked_for_again_under_another_key_is_that_run(
    catalogue: Catalogue, store: CutOffStore, job: Job
) -> None:
    run = await catalogue.run(NAME, "once")
    [document] = await requests_kept(store)
    older = new_ulid(START - timedelta(seconds=9), b"r" * 10)
    store.branches[document.id] = [Document(document.id, {"kind": "request", "key": older}, "1-other")]

    async def confirm(database: str, documents: Sequence[Document]) -> list[bool]:
        if (await stored(store)).place.waiting:
            await let_it_run(store, run)
        return [True] * len(documents)

    store.confirm = confirm  # type: ignore[method-assign]
    assert await catalogue.run(NAME, "once") == run
    assert (await stored(store)).place.waiting == ()


async def test_a_frozen_cluster_keeps_nothing_of_what_it_refuses(
    catalogue: Catalogue, store: CutOffStore, job: Job
) -> None:
    frozen = ClusterSettings(1, START, frozen=True, frozen_at=START)
    await store.write(CLUSTER, [Document(SETTINGS_ID, settings_body(frozen))])
    with pytest.raises(FailedPrecondition, match="dcron cluster thaw"):
        await catalogue.run(NAME, "once")
    assert await requests_kept(store) == []


async def test_a_frozen_cluster_tells_of_a_run_that_has_been(
    catalogue: Catalogue, store: CutOffStore, job: Job
) -> None:
    run = await catalogue.run(NAME, "once")
    await let_it_run(store, run)
    frozen = ClusterSettings(1, START, frozen=True, frozen_at=START)
    await store.write(CLUSTER, [Document(SETTINGS_ID, settings_body(frozen))])
    assert await catalogue.run(NAME, "once") == run


async def test_two_ulids_are_two_runs_whatever_they_have_in_common(
    catalogue: Catalogue, store: CutOffStore, job: Job
) -> None:
    one, other = (new_ulid(START + timedelta(seconds=n), b"\0" * 10) for n in range(2))
    assert await catalogue.run(NAME, one) != await catalogue.run(NAME, other)
    assert [run.request_id for run in (await stored(store)).place.waiting] == [one, other]


@pytest.mark.parametrize("first", [-1, 1])
@pytest.mark.parametrize("seconds", [1, 120, 299, 301])
async def test_nodes_whose_clocks_differ_know_a_text_across_a_months_turn(
    store: CutOffStore, job: Job, first: int, seconds: int
) -> None:
    requests = RunRequests(store)
    apart = timedelta(seconds=seconds / 2)
    keys = await requests.keep(job.uid, "once", TURN + first * apart)
    assert await requests.keep(job.uid, "once", TURN - first * apart) == keys
    assert await requests.known(job.uid, "once", TURN - first * apart) == keys


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("seconds", [(-100, 0, 100), (295, 299, 310), (-310, -299, -295)])
async def test_nodes_that_are_asked_at_once_at_a_months_turn_keep_one_key(
    store: CutOffStore, job: Job, seconds: tuple[int, ...], order: tuple[int, ...]
) -> None:
    store.slow = True
    requests = RunRequests(store)
    clocks = [TURN + timedelta(seconds=seconds[each]) for each in order]
    keys = await asyncio.gather(*(requests.keep(job.uid, "once", clock) for clock in clocks))
    assert len(set(keys)) == 1


async def test_a_text_is_remembered_for_a_day_and_forgotten_after_a_month_and_a_day(
    store: CutOffStore, job: Job
) -> None:
    requests = RunRequests(store)
    asked_at = TURN + timedelta(hours=1)
    keys = await requests.keep(job.uid, "once", asked_at)
    assert await requests.known(job.uid, "once", asked_at + MEMORY) == keys
    assert await requests.known(job.uid, "once", asked_at + timedelta(days=31) + MEMORY) == ()
