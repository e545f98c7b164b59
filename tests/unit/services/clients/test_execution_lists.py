"""Lists of executions: filters, order and pages, held against a plain look at everything stored."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

import pytest

from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.domain import changes
from dcron.domain.errors import InvalidInput, NotFound
from dcron.domain.ids import is_ulid, new_ulid
from dcron.domain.job_documents import job_body
from dcron.domain.model import Active, Claim, Occurrence, Outcome, Skip, SkipReason, State
from dcron.domain.queries import SKIPPED, ExecutionQuery, Listed
from dcron.domain.views import ExecutionView, SkippedView
from dcron.ports import JOBS, Document
from dcron.services.clients import execution_lists, execution_streams
from dcron.services.clients.executions import Executions
from dcron.services.clients.revisions import Revisions
from tests.doubles import FakeNodes, ManualClock
from tests.unit.services.clients.execution_samples import (
    DAY,
    NAME,
    OTHER_UID,
    UID,
    claim_at,
    outcome_for,
    put,
)
from tests.unit.services.doubles import SPECIFICATION, START, FakeDirectory, SplitStore

MAX_PAGES = 200


@pytest.fixture
async def store() -> SplitStore:
    store = SplitStore()
    await store.prepare()
    for name, uid in ((NAME, UID), ("other", OTHER_UID)):
        job = changes.create(name, uid, SPECIFICATION, START, paused=False)
        await Revisions(store).keep(job)
        await store.write(JOBS, [Document(name, job_body(job))])
    return store


@pytest.fixture
def history(store: SplitStore) -> Executions:
    return Executions(store, MemoryObjectStore(), FakeNodes(), ManualClock(START), FakeDirectory())


def ids(found: Sequence[Listed]) -> list[str]:
    return [view.skip.id if isinstance(view, SkippedView) else view.id for view in found]


async def listed(history: Executions, job: str = "", *states: State | str, size: int = 0) -> list[str]:
    """Ids of the first page."""
    return ids((await history.list(ExecutionQuery(job, states), size)).executions)


async def whole(history: Executions, query: ExecutionQuery, size: int) -> list[str]:
    """Ids of all pages."""
    found: list[str] = []
    token = ""
    for _ in range(MAX_PAGES):
        page = await history.list(query, size, token)
        assert len(page.executions) <= size
        found += ids(page.executions)
        token = page.next_token
        if not token:
            return found
    raise AssertionError("the pages do not end")


class TestListing:
    async def test_a_job_is_listed_newest_first_over_months_with_skips_and_manual_runs(
        self, history: Executions, store: SplitStore
    ) -> None:
        february = claim_at(datetime(2026, 2, 10, tzinfo=START.tzinfo))
        first = claim_at(START)
        second = claim_at(START, attempt=2)
        manual = claim_at(START + 2 * DAY, request=new_ulid(START + 2 * DAY, b"m" * 10))
        skip = Skip(UID, START + DAY, START + DAY, SkipReason.PAUSED, 1)
        foreign = claim_at(START, uid=OTHER_UID)
        await put(store, february, first, outcome_for(first, State.TIMED_OUT), second, manual, skip, foreign)
        found = (await history.list(ExecutionQuery(NAME))).executions
        assert ids(found) == [
            manual.execution_id,
            skip.id,
            second.execution_id,
            first.execution_id,
            february.execution_id,
        ]
        assert [view.state for view in found if isinstance(view, ExecutionView)] == [
            State.RUNNING,
            State.RUNNING,
            State.TIMED_OUT,
            State.RUNNING,
        ]
        assert await listed(history, NAME, size=2) == [manual.execution_id, skip.id]

    async def test_a_jobs_executions_are_filtered_by_state(
        self, history: Executions, store: SplitStore
    ) -> None:
        claims = [claim_at(START + n * DAY / 48) for n in range(6)]
        skip = Skip(UID, START + DAY, START + DAY, SkipReason.FROZEN, 3)
        states = [State.SUCCEEDED, State.FAILED, State.SUCCEEDED, State.NOT_STARTED]
        await put(store, *claims, skip)
        await put(store, *(outcome_for(claim, state) for claim, state in zip(claims, states, strict=False)))
        assert await listed(history, NAME, State.SUCCEEDED) == [
            claims[2].execution_id,
            claims[0].execution_id,
        ]
        assert await listed(history, NAME, State.RUNNING) == [
            claims[5].execution_id,
            claims[4].execution_id,
        ]
        assert await listed(history, NAME, State.NOT_STARTED) == [claims[3].execution_id]
        assert await listed(history, NAME, "skipped") == [skip.id]

    async def test_all_jobs_are_listed_by_when_they_were_claimed(
        self, history: Executions, store: SplitStore
    ) -> None:
        february = claim_at(datetime(2026, 2, 10, tzinfo=START.tzinfo))
        march = [claim_at(START), claim_at(START + DAY, uid=OTHER_UID)]
        await put(store, february, *march, outcome_for(march[1], State.FAILED))
        expected = [march[1].execution_id, march[0].execution_id, february.execution_id]
        assert await listed(history) == expected
        assert await listed(history, size=1) == expected[:1]
        assert await listed(history, "", State.FAILED) == expected[:1]
        assert await listed(history, "", State.SUCCEEDED) == []

    async def test_running_ones_of_all_jobs_are_found_through_active_jobs(
        self, history: Executions, store: SplitStore
    ) -> None:
        claim = claim_at(START)
        await put(store, claim, claim_at(START - DAY))
        job = changes.create(NAME, UID, SPECIFICATION, START, paused=False)
        active = Active(Occurrence.of_schedule(UID, START), 1, 1, START)
        [[leaf]] = await store.read(JOBS, [NAME])
        body = job_body(replace(job, place=replace(job.place, active=active)))
        await store.write(JOBS, [Document(NAME, body, leaf.revision)])
        assert await listed(history, "", State.RUNNING) == [claim.execution_id]
        await put(store, outcome_for(claim, State.SUCCEEDED))
        assert await listed(history, "", State.RUNNING) == []

    async def test_skipped_ones_of_all_jobs_carry_their_jobs_names(
        self, history: Executions, store: SplitStore
    ) -> None:
        mine = Skip(UID, START, START, SkipReason.MISSED, 1)
        other = Skip(OTHER_UID, START + DAY, START + DAY, SkipReason.PAUSED, None)
        await put(store, mine, other, claim_at(START))
        found = (await history.list(ExecutionQuery(states=(SKIPPED,)))).executions
        assert [(view.skip, view.job) for view in found] == [(other, "other"), (mine, NAME)]

    async def test_a_long_history_is_paged_through(self, history: Executions, store: SplitStore) -> None:
        claims = [claim_at(START + timedelta(minutes=n)) for n in range(40)]
        await put(store, *claims, outcome_for(claims[0], State.LOST))
        assert await listed(history, NAME, State.LOST, size=1) == [claims[0].execution_id]

    async def test_an_unknown_job_and_a_wrong_size_are_refused(self, history: Executions) -> None:
        with pytest.raises(NotFound, match="'absent' not found"):
            await history.list(ExecutionQuery("absent"))
        with pytest.raises(InvalidInput, match="page_size: -1"):
            await history.list(ExecutionQuery(), -1)

    async def test_a_size_beyond_the_most_is_cut(
        self, history: Executions, store: SplitStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(execution_lists, "MAX_PAGE", 2)
        await put(store, *(claim_at(START + n * DAY) for n in range(3)))
        assert len(await listed(history, size=1000)) == 2

    async def test_a_token_is_of_the_job_that_had_the_name_then(
        self, history: Executions, store: SplitStore
    ) -> None:
        await put(store, *(claim_at(START + n * DAY) for n in range(3)))
        token = (await history.list(ExecutionQuery(NAME), 1)).next_token
        [[leaf]] = await store.read(JOBS, [NAME])
        anew = changes.create(NAME, new_ulid(START + DAY, b"n" * 10), SPECIFICATION, START, paused=False)
        await store.write(JOBS, [Document(NAME, job_body(anew), leaf.revision)])
        with pytest.raises(InvalidInput, match="page_token"):
            await history.list(ExecutionQuery(NAME), 1, token)

    async def test_a_token_is_of_its_list_and_filters(self, history: Executions, store: SplitStore) -> None:
        await put(store, *(claim_at(START + n * DAY) for n in range(3)))
        token = (await history.list(ExecutionQuery(NAME), 1)).next_token
        for query in (ExecutionQuery(), ExecutionQuery("other"), ExecutionQuery(NAME, oldest_first=True)):
            with pytest.raises(InvalidInput, match="page_token"):
                await history.list(query, 1, token)
        for broken in ("x", token[:-2], token.swapcase()):
            with pytest.raises(InvalidInput, match="page_token"):
                await history.list(ExecutionQuery(NAME), 1, broken)

    async def test_executions_of_a_removed_job_are_found_by_its_name_and_uid(
        self, history: Executions, store: SplitStore
    ) -> None:
        gone = new_ulid(START - DAY, b"g" * 10)
        claim = replace(claim_at(START, uid=gone), job="gone")
        skip = Skip(gone, START + DAY, START + DAY, SkipReason.PAUSED, 1)
        await put(store, claim, skip)
        for uid in (new_ulid(START - 2 * DAY, b"e" * 10), gone):
            job = changes.create("gone", uid, SPECIFICATION, START, paused=False)
            await Revisions(store).keep_removal(job)
        for named in ("gone", gone):
            assert await listed(history, named) == [skip.id, claim.execution_id]

    async def test_skipped_and_running_ones_of_all_jobs_are_two_lists(self, history: Executions) -> None:
        with pytest.raises(InvalidInput, match=r"states: .* two lists"):
            await history.list(ExecutionQuery(states=(State.RUNNING, SKIPPED)))


Stored = dict[str, tuple[Claim, Outcome | None] | Skip]
ENDS = (State.SUCCEEDED, State.FAILED, State.NOT_STARTED, None)


def random_history(rng: random.Random) -> Stored:
    """Executions and skip records of two jobs in three months."""
    stored: Stored = {}
    for number in range(60):
        uid = rng.choice((UID, OTHER_UID))
        at = START + timedelta(days=rng.randrange(-40, 40), seconds=60 * number)
        if rng.random() < 0.2:
            skip = Skip(uid, at, at, SkipReason.PAUSED, 1)
            stored[skip.id] = skip
            continue
        request = new_ulid(at, rng.randbytes(10)) if rng.random() < 0.3 else ""
        claim = replace(
            claim_at(at, attempt=rng.randrange(1, 3), uid=uid, request=request),
            node_id=rng.choice(("n1", "n2")),
        )
        end = rng.choice(ENDS)
        stored[claim.execution_id] = (claim, outcome_for(claim, end) if end else None)
    return stored


def plainly(stored: Stored, query: ExecutionQuery, uid: str) -> list[str]:
    """What a list is to hold, by a look at each."""
    found = []
    for identifier, item in stored.items():
        owner, key = identifier.split(":")[:2]
        if isinstance(item, Skip):
            at, ordered, state, node = item.scheduled_at, item.scheduled_at, SKIPPED, ""
        else:
            claim, outcome = item
            at = claim.scheduled_at
            state, node = outcome.state if outcome else State.RUNNING, claim.node_id
            by_end = query.states and State.RUNNING not in query.states
            ordered = outcome.finished_at if outcome and by_end else claim.claimed_at
        wanted = state in query.states if query.states else (state != SKIPPED or uid)
        inside = (query.scheduled_from or at) <= at and (
            query.scheduled_until is None or at < query.scheduled_until
        )
        manual = query.manual is None or is_ulid(key) is query.manual
        if wanted and inside and manual and uid in {"", owner} and query.node_id in {"", node}:
            month = f"{at:%Y-%m}"
            found.append(((month, at if uid else ordered, identifier), identifier))
    return [identifier for _, identifier in sorted(found, reverse=not query.oldest_first)]


@pytest.mark.parametrize("seed", range(6))
async def test_pages_hold_what_a_plain_look_finds_in_the_same_order(
    history: Executions, store: SplitStore, seed: int
) -> None:
    rng = random.Random(seed)
    stored = random_history(rng)
    for item in stored.values():
        await put(
            store, *(each for each in (item if isinstance(item, tuple) else (item,)) if each is not None)
        )
    states = [(), (State.FAILED,), (State.SUCCEEDED, SKIPPED), (SKIPPED,), (State.FAILED, State.RUNNING)]
    for job, wanted, oldest_first in product((NAME, ""), states, (False, True)):
        query = ExecutionQuery(
            job,
            wanted,
            node_id=rng.choice(("", "", "n1")),
            scheduled_from=rng.choice((None, START - 10 * DAY)),
            scheduled_until=rng.choice((None, START + 10 * DAY)),
            manual=rng.choice((None, None, True, False)),
            oldest_first=oldest_first,
        )
        expected = plainly(stored, query, UID if job else "")
        for size in (1, 7, 1000):
            assert await whole(history, query, size) == expected, query


@pytest.mark.parametrize("budget", [(5, 60), (10_000, 3)], ids=["documents", "requests"])
async def test_a_call_ends_at_its_bound_and_the_next_one_goes_on(
    history: Executions, store: SplitStore, monkeypatch: pytest.MonkeyPatch, budget: tuple[int, int]
) -> None:
    claims = [claim_at(START + n * DAY / 48) for n in range(60)]
    await put(store, *claims, outcome_for(claims[0], State.LOST))
    monkeypatch.setattr(execution_streams, "MAX_RANGE", 4)
    monkeypatch.setattr(execution_streams.Budget.__init__, "__defaults__", budget)
    query = ExecutionQuery(NAME, (State.LOST,))
    first = await history.list(query, 1)
    assert first.executions == ()
    assert first.next_token
    assert await whole(history, query, 1) == [claims[0].execution_id]


@pytest.mark.parametrize("state", [State.RUNNING, SKIPPED])
async def test_many_of_one_instant_are_paged_through(
    history: Executions, store: SplitStore, state: State | str
) -> None:
    uids = [new_ulid(START - DAY, bytes([n]) * 10) for n in range(40)]
    if state is SKIPPED:
        await put(store, *(Skip(uid, START, START, SkipReason.FROZEN, 1) for uid in uids))
        query = ExecutionQuery(states=(SKIPPED,))
    else:
        await put(store, *(claim_at(START, uid=uid) for uid in uids))
        query = ExecutionQuery()
    for oldest_first in (False, True):
        found = await whole(history, replace(query, oldest_first=oldest_first), 3)
        assert [identifier.split(":")[0] for identifier in found] == sorted(uids, reverse=not oldest_first)
