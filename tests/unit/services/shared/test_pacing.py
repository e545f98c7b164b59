"""Things done at once fail as one of them would have alone; what comes in quick succession shares a turn."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from dcron.domain.errors import StoreUnreachable
from dcron.services.shared import pacing
from dcron.services.shared.pacing import Pace, together


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


class TestPace:
    """On the event loop's own clock, with pauses made long enough to be seen apart from it."""

    async def test_the_first_turn_is_at_once_and_the_next_ones_are_apart(self, monkeypatch):
        monkeypatch.setattr(pacing, "GATHER_SECONDS", 0.05)
        pace = Pace(by_duration=True)
        began_at = [await self.turn(pace) for _ in range(3)]
        assert began_at[1] - began_at[0] >= 0.05
        assert began_at[2] - began_at[1] >= 0.05

    async def test_after_a_while_a_turn_is_at_once_again(self, monkeypatch):
        monkeypatch.setattr(pacing, "GATHER_SECONDS", 0.02)
        pace = Pace(by_duration=True)
        await self.turn(pace)
        assert pace.left_seconds() > 0
        await asyncio.sleep(0.03)
        assert pace.left_seconds() == 0

    @pytest.mark.parametrize("fails", [False, True])
    async def test_the_pause_grows_with_what_a_turn_takes_up_to_its_bound(self, monkeypatch, fails):
        monkeypatch.setattr(pacing, "MAX_GATHER_SECONDS", 0.3)
        monkeypatch.setattr(pacing, "REST", 1000.0)
        pace = Pace(by_duration=True)
        with suppress(StoreUnreachable):
            async with pace.turn():
                await asyncio.sleep(0.01)
                if fails:
                    raise StoreUnreachable("unplugged")
        assert 0.1 < pace.left_seconds() <= 0.3

    async def test_a_turn_that_only_waited_adds_nothing_where_duration_does_not_count(self, monkeypatch):
        monkeypatch.setattr(pacing, "GATHER_SECONDS", 0.01)
        pace = Pace(by_duration=False)
        async with pace.turn():
            await asyncio.sleep(0.02)
        assert pace.left_seconds() == 0

    @staticmethod
    async def turn(pace: Pace) -> float:
        async with pace.turn():
            return asyncio.get_running_loop().time()
