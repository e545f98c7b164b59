"""What lists of executions read: no more than a bound, however little they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.domain import changes
from dcron.domain.ids import new_ulid
from dcron.domain.job_documents import job_body
from dcron.domain.model import Active, Job, Occurrence, State
from dcron.domain.queries import ExecutionQuery
from dcron.domain.views import SkippedView
from dcron.ports import JOBS, Document, executions_database
from dcron.services.clients import execution_lists
from dcron.services.clients.executions import Executions
from tests.doubles import FakeNodes, ManualClock
from tests.unit.services.clients.execution_samples import DAY, NAME, UID, claim_at, put
from tests.unit.services.doubles import SPECIFICATION, START, FakeDirectory, SplitStore

MAX_PAGES = 200


@pytest.fixture
async def store() -> SplitStore:
    store = SplitStore()
    await store.prepare()
    job = changes.create(NAME, UID, SPECIFICATION, START, paused=False)
    await store.write(JOBS, [Document(NAME, job_body(job))])
    return store


@pytest.fixture
def history(store: SplitStore) -> Executions:
    return Executions(store, MemoryObjectStore(), FakeNodes(), ManualClock(START), FakeDirectory())


async def whole(history: Executions, query: ExecutionQuery, size: int) -> list[str]:
    """Ids of all pages."""
    found: list[str] = []
    token = ""
    for _ in range(MAX_PAGES):
        page = await history.list(query, size, token)
        found += [view.skip.id if isinstance(view, SkippedView) else view.id for view in page.executions]
        token = page.next_token
        if not token:
            return found
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("job", ["", NAME], ids=["all jobs", "one job"])
async def test_a_filter_that_matches_nothing_takes_few_reads_however_short_the_page_is(
    history: Executions, store: SplitStore, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    await put(store, *(claim_at(START + n * DAY / 48) for n in range(600)))
    monkeypatch.setattr(execution_lists, "MAX_LOOKED_AT", 500)
    reads = count_reads(store, monkeypatch)
    first = await history.list(ExecutionQuery(job, node_id="n8"), 1)
    assert first.executions == ()
    assert len(reads) <= 20
    assert await whole(history, ExecutionQuery(job, node_id="n8"), 1) == []


async def test_active_jobs_of_which_nothing_is_wanted_count_as_looked_at(
    history: Executions, store: SplitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = [new_ulid(START - DAY, bytes([n]) * 10) for n in range(60)]
    for n, uid in enumerate(uids):
        await store.write(JOBS, [Document(f"job-{n:02}", job_body(active_job(f"job-{n:02}", uid)))])
    monkeypatch.setattr(execution_lists, "MAX_LOOKED_AT", 20)
    reads = count_reads(store, monkeypatch)
    query = ExecutionQuery(states=(State.RUNNING,), scheduled_from=START + DAY)
    first = await history.list(query, 1)
    assert first.executions == ()
    assert first.next_token
    assert sum(reads) <= 60
    assert await whole(history, query, 1) == []


async def test_running_ones_are_listed_beside_a_job_that_is_not_understood(
    history: Executions, store: SplitStore
) -> None:
    spoilt, sound = (active_job(name, new_ulid(START - DAY, name.encode() * 10)) for name in "ab")
    await store.write(JOBS, [Document("a", {**job_body(spoilt), "uid": "of a newer version"})])
    await store.write(JOBS, [Document("b", job_body(sound))])
    await put(store, claim_at(START, uid=sound.uid))
    found = await whole(history, ExecutionQuery(states=(State.RUNNING,)), 1)
    assert found == [Occurrence.of_schedule(sound.uid, START).attempt(1).text]


@pytest.mark.parametrize("job", ["", NAME], ids=["all jobs", "one job"])
async def test_the_month_that_begins_where_the_filter_ends_is_not_looked_at(
    history: Executions, store: SplitStore, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    april = START.replace(month=4, day=1, hour=0, minute=0, second=0, microsecond=0)
    march, at_once = claim_at(april - DAY), claim_at(april)
    await put(store, march, at_once)
    looked_at: set[str] = set()
    for method in ("find", "range"):
        found_by = getattr(store, method)

        async def noted(database: str, *rest: Any, _found_by: Any = found_by, **named: Any) -> Any:
            looked_at.add(database)
            return await _found_by(database, *rest, **named)

        monkeypatch.setattr(store, method, noted)
    assert await whole(history, ExecutionQuery(job, scheduled_until=april), 20) == [march.execution_id]
    assert executions_database(april) not in looked_at
    assert executions_database(march.scheduled_at) in looked_at


def count_reads(store: SplitStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many documents each read asks for, from now on."""
    counts: list[int] = []
    read = store.read

    async def counted(database: str, asked: Sequence[str]) -> list[tuple[Document, ...]]:
        counts.append(len(asked))
        return await read(database, asked)

    monkeypatch.setattr(store, "read", counted)
    return counts


def active_job(name: str, uid: str) -> Job:
    """A job that is at work on its occurrence at START."""
    job = changes.create(name, uid, SPECIFICATION, START - DAY, paused=False)
    active = Active(Occurrence.of_schedule(uid, START), 1, 1, START)
    return replace(job, place=replace(job.place, active=active))
