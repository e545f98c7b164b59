"""Things done at once fail as one of them would have alone."""

from __future__ import annotations

import asyncio

import pytest

from dcron.domain.errors import StoreUnreachable
from dcron.services.waiting import together


async def give(result: int) -> int:
    await asyncio.sleep(0)
    return result


async def fail(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


async def test_results_come_in_the_order_of_the_questions():
    assert await together(give(1), give(2)) == [1, 2]
    assert await together() == []


async def test_an_unreachable_store_is_told_as_itself_and_ends_the_rest():
    rest = asyncio.Event()

    async def others() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            rest.set()

    with pytest.raises(StoreUnreachable, match="unplugged"):
        await together(others(), fail(StoreUnreachable("unplugged")), fail(StoreUnreachable("as well")))
    assert rest.is_set()


async def test_a_defect_is_not_hidden_by_an_unreachable_store():
    with pytest.raises(ZeroDivisionError):
        await together(fail(StoreUnreachable("unplugged")), fail(ZeroDivisionError()))


@pytest.mark.parametrize("steps_before", range(5))
async def test_a_cancellation_that_comes_with_a_failure_is_not_lost(steps_before: int):
    """Whoever cancels waits for the end, to which a loop that goes on after a failure would never come."""

    async def loop() -> None:
        while True:
            try:
                await together(fail(StoreUnreachable("unplugged")), give(1))
            except StoreUnreachable:
                await asyncio.Event().wait()

    task = asyncio.create_task(loop())
    for _ in range(steps_before):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    assert done
    assert task.cancelled()
