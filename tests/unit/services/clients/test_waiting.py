"""Waiting for the end of an execution: soon told, and no burden however many wait."""

from __future__ import annotations

import asyncio

import pytest

from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.domain.model import State
from dcron.domain.views import ExecutionView
from dcron.services.clients import executions as module
from dcron.services.clients.executions import Executions
from tests.doubles import FakeNodes, ManualClock
from tests.unit.services.clients.execution_samples import claim_at, outcome_for, put
from tests.unit.services.doubles import START, FakeDirectory, SplitStore


@pytest.fixture
def history(store: SplitStore) -> Executions:
    return Executions(store, MemoryObjectStore(), FakeNodes(), ManualClock(START), FakeDirectory())


async def test_many_who_wait_look_less_often_each(
    history: Executions, store: SplitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claim_at(START)
    await put(store, claim)
    monkeypatch.setattr(module, "MAX_LOOKS_PER_SECOND", 10)
    looks: list[str] = []
    get = history.get

    async def counted(identifier: str) -> ExecutionView:
        looks.append(identifier)
        return await get(identifier)

    monkeypatch.setattr(history, "get", counted)
    await asyncio.gather(*(history.wait(claim.execution_id, 1.0) for _ in range(20)))
    # One at first and one at the end; a few of those who came first look once more.
    assert len(looks) <= 3 * 20


async def test_one_who_waits_looks_often(
    history: Executions, store: SplitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claim_at(START)
    await put(store, claim)
    waiting = asyncio.create_task(history.wait(claim.execution_id, 20.0))
    await asyncio.sleep(0.15)
    await put(store, outcome_for(claim, State.SUCCEEDED))
    async with asyncio.timeout(2.0):
        assert (await waiting).state is State.SUCCEEDED
