"""A worker for the tests of this folder that name `scene`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dcron.services.worker import claim_confirmer, executor
from tests.unit.services.worker.scene import Scene


@pytest.fixture
async def scene(tmp_path, monkeypatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(executor, "RECOVER_POLL_SECONDS", 0.001)
    monkeypatch.setattr(claim_confirmer, "TRY_AGAIN_SECONDS", 0.0)
    scene = Scene(tmp_path / "spool")
    scene.node.start()
    scene.node.worker.ready = True
    yield scene
    failures = scene.node.failed()
    await scene.node.crash()
    assert not failures
