"""One scene for all tests of the election."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.services.election.scene import Scene


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    for node in scene.made:
        await node.stop()
