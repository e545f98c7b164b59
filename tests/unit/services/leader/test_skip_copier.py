"""Skip records reach the executions, whatever the store does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from dcron.domain.documents import skip_of
from dcron.domain.model import Skip, SkipReason
from dcron.ports import Document, WriteKind
from dcron.services.leader import skip_copier as module
from dcron.services.leader.skip_copier import SkipCopier
from tests.doubles import START, UID, DoubtfulStore, sample_job, until

DATABASE = "executions-2026-11"
SKIP = Skip(UID, START, START + timedelta(minutes=3), SkipReason.PAUSED, 4)
OTHER_MONTH = Skip(UID, START - timedelta(days=40), START, SkipReason.MISSED, None)


@pytest.fixture
def store() -> DoubtfulStore:
    return DoubtfulStore()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.02)


async def test_records_are_copied_to_the_month_they_begin_in(store: DoubtfulStore) -> None:
    copier = SkipCopier(store)
    copier.add(sample_job("one", skips=(SKIP, OTHER_MONTH)))
    assert not copier.is_copied(SKIP)
    assert await copier.next_copied() == {"one"}
    for database, skip in ((DATABASE, SKIP), ("executions-2026-10", OTHER_MONTH)):
        assert copier.is_copied(skip)
        [[document]] = await store.read(database, [skip.id])
        assert skip_of(document.body) == skip


async def test_with_nothing_to_copy_it_waits_for_something(store: DoubtfulStore) -> None:
    copier = SkipCopier(store)
    waiting = asyncio.create_task(copier.next_copied())
    await asyncio.sleep(0)
    assert not waiting.done()
    copier.add(sample_job("one", skips=(SKIP,)))
    assert await waiting == {"one"}


async def test_a_record_copied_before_is_copied(store: DoubtfulStore) -> None:
    await store.write(DATABASE, [Document(SKIP.id, {"kind": "skipped"})])
    copier = SkipCopier(store)
    copier.add(sample_job("one", skips=(SKIP,)))
    assert await copier.next_copied() == {"one"}
    assert copier.is_copied(SKIP)


async def test_what_is_copied_is_not_copied_again_and_forgotten_with_its_job_document(
    store: DoubtfulStore,
) -> None:
    copier = SkipCopier(store)
    job = sample_job("one", skips=(SKIP,))
    copier.add(job)
    await copier.next_copied()
    copier.add(job)
    assert len(store.writes) == 1
    copier.forget([SKIP])
    assert not copier.is_copied(SKIP)


async def test_an_unreachable_store_is_asked_again(store: DoubtfulStore) -> None:
    copier = SkipCopier(store)
    copier.add(sample_job("one", skips=(SKIP,)))
    store.unreachable = True
    assert await copier.next_copied() == set()
    assert not copier.is_copied(SKIP)
    store.unreachable = False
    assert await copier.next_copied() == {"one"}


async def test_what_has_no_quorum_is_written_until_it_has_but_not_without_pause(
    store: DoubtfulStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 3600.0)
    store.kinds[SKIP.id] = [WriteKind.UNSURE]
    copier = SkipCopier(store)
    copier.add(sample_job("one", skips=(SKIP,)))
    copying = asyncio.create_task(copier.next_copied())
    await until(lambda: store.writes)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not copying.done()
    assert not copier.is_copied(SKIP)
    copying.cancel()
    assert await copier.next_copied() == {"one"}


async def test_one_write_holds_a_bounded_number_of_records(
    store: DoubtfulStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    copier = SkipCopier(store)
    records = tuple(
        Skip(UID, START + timedelta(hours=hour), START + timedelta(hours=hour), SkipReason.FROZEN, 1)
        for hour in range(5)
    )
    copier.add(sample_job("one", skips=records))
    while not all(copier.is_copied(each) for each in records):
        assert await copier.next_copied() == {"one"}
    assert [len(ids) for ids in store.writes] == [2, 2, 1]


async def test_a_record_that_is_on_one_copy_alone_stays_in_its_job_document(store: DoubtfulStore) -> None:
    """An earlier write got 202 there, and the same copy refuses the next one."""
    await store.write(DATABASE, [Document(SKIP.id, {"kind": "skipped"})])
    kept = False

    async def confirm(_: str, documents: Sequence[Document]) -> list[bool]:
        return [kept] * len(documents)

    store.confirm = confirm
    copier = SkipCopier(store)
    copier.add(sample_job("one", skips=(SKIP,)))
    assert await copier.next_copied() == set()
    assert not copier.is_copied(SKIP)
    kept = True
    assert await copier.next_copied() == {"one"}
    assert copier.is_copied(SKIP)
