"""A spool of its own, and a runner with its keeper, for tests of the keeper."""

from __future__ import annotations

import pytest

from tests.integration.keeper_helpers import SpoolOfTests, clear, runner_of


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    yield SpoolOfTests(folder)
    clear(folder)


@pytest.fixture
async def runner(spool):
    runner = runner_of(spool.folder)
    await runner.open()
    yield runner
    await runner.close()
