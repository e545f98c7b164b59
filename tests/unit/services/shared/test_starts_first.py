"""Tests of what goes first: while many executions are being started, the rest waits, but not for ever."""

import asyncio

import pytest

from dcron.adapters.memory import MemoryDocumentStore
from dcron.ports import JOBS, ChangeBatch, Document
from dcron.services.leader.feeds import Feeds
from dcron.services.shared import starts_first as module
from dcron.services.shared.starts_first import BURST_STARTS, StartsFirst


@pytest.fixture(autouse=True)
def short_time(monkeypatch):
    monkeypatch.setattr(module, "STARTS_FIRST_SECONDS", 0.3)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.005)


async def is_over(burst: StartsFirst, since: float | None = None) -> bool:
    """Whether nothing has to wait, or not for longer than a moment."""
    try:
        async with asyncio.timeout(0.03):
            await burst.over(since)
    except TimeoutError:
        return False
    return True


async def test_a_burst_lasts_until_a_moment_after_its_starts():
    burst = StartsFirst()
    with burst.of(BURST_STARTS):
        assert not await is_over(burst)
    assert not await is_over(burst)
    await burst.over()
    assert await is_over(burst)


async def test_starts_of_several_origins_count_together():
    burst = StartsFirst()
    with burst.of(BURST_STARTS - 1):
        assert await is_over(burst)
        with burst.of(1):
            assert not await is_over(burst)


async def test_what_has_waited_long_goes_on_beside_the_starts(monkeypatch):
    monkeypatch.setattr(module, "MAX_PUT_OFF_SECONDS", 10.0)
    burst = StartsFirst()
    with burst.of(BURST_STARTS):
        assert await is_over(burst, asyncio.get_running_loop().time() - 10.0)
        assert not await is_over(burst, asyncio.get_running_loop().time() - 9.0)


async def test_nothing_is_put_off_for_a_while_after_a_slot_was_missing(monkeypatch):
    monkeypatch.setattr(module, "SHORT_SECONDS", 0.3)
    burst = StartsFirst()
    with burst.of(BURST_STARTS):
        burst.slots_are_short()
        assert await is_over(burst)
        await asyncio.sleep(module.SHORT_SECONDS)
        assert not await is_over(burst)


async def test_a_failed_start_is_over_too():
    burst = StartsFirst()
    with pytest.raises(OSError, match="no room"), burst.of(BURST_STARTS):
        raise OSError("no room")
    await burst.over()
    assert await is_over(burst)


async def test_a_leader_reads_no_news_before_the_starts_are_over():
    store, burst = MemoryDocumentStore(), StartsFirst()
    learnt: list[ChangeBatch] = []
    feeds = Feeds(store, lambda _, batch: learnt.append(batch), {}, burst)
    async with asyncio.TaskGroup() as group:
        with burst.of(BURST_STARTS):
            await feeds.follow(JOBS, group)
            await store.write(JOBS, [Document("job", {})])
            await asyncio.sleep(0.05)
            assert not learnt
        async with asyncio.timeout(5):
            while not learnt:
                await asyncio.sleep(0.005)
        feeds.keep_only([])
    assert [document.id for document in learnt[0].documents] == ["job"]
