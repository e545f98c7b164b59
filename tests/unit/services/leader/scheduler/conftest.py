"""One scene for all tests of the scheduler, in which nothing waits for long."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dcron.services.leader import decider, dispatcher, scheduler
from dcron.services.shared import loops
from dcron.services.worker import executor
from tests.unit.services.leader.scheduler.scene import FAR, Scene


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    for name in ("LOOK_SECONDS", "DOUBT_SECONDS", "STALE_SECONDS"):
        for module in (scheduler, decider):
            monkeypatch.setattr(module, name, 0.005, raising=False)
    monkeypatch.setattr(scheduler, "POLL_SECONDS", FAR)
    monkeypatch.setattr(dispatcher, "SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(loops, "BACKOFF_SECONDS", 0.005)
    monkeypatch.setattr(executor, "RECOVER_POLL_SECONDS", 0.001)


@pytest.fixture
async def scene(tmp_path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path / "spool")
    await scene.add_node()
    yield scene
    failure = await scene.end()
    failures = scene.worker.failed()
    await scene.worker.crash()
    assert failure is None
    assert not failures
