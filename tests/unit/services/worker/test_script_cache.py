"""What the cache hands out is the script that was registered, whole."""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import suppress

import pytest

from dcron.domain.errors import NotFound, ObjectsUnreachable
from dcron.domain.model import Script
from dcron.services.worker import script_cache
from dcron.services.worker.script_cache import BadScript, ScriptCache
from tests.doubles import until
from tests.service_doubles import REAL_SCRIPT, SCRIPT_TEXT, FaultyObjects


@pytest.fixture
def objects():
    return FaultyObjects()


@pytest.fixture
def cache(tmp_path, objects):
    return ScriptCache(tmp_path, objects)


async def test_a_script_is_fetched_once_and_executable(cache, objects):
    path = await cache.path(REAL_SCRIPT)
    assert path.read_bytes() == SCRIPT_TEXT
    assert path.stat().st_mode & stat.S_IXUSR
    objects.unreachable = True
    assert await cache.path(REAL_SCRIPT) == path


async def test_a_script_that_a_power_cut_emptied_is_fetched_again(cache):
    path = await cache.path(REAL_SCRIPT)
    path.write_bytes(b"")
    assert (await cache.path(REAL_SCRIPT)).read_bytes() == SCRIPT_TEXT


@pytest.mark.parametrize("stored", [b"", SCRIPT_TEXT[:-1], SCRIPT_TEXT + b"#", SCRIPT_TEXT.swapcase()])
async def test_an_object_that_is_not_the_script_is_refused_and_not_kept(cache, objects, stored, tmp_path):
    objects._objects[REAL_SCRIPT.key] = stored
    with pytest.raises(BadScript, match="does not match its digest"):
        await cache.path(REAL_SCRIPT)
    assert list(tmp_path.iterdir()) == []


async def test_a_missing_object_and_a_store_that_is_away_are_told_apart(
    cache, objects, tmp_path, monkeypatch
):
    monkeypatch.setattr(script_cache, "MISSING_SECONDS", 0.0)
    with pytest.raises(NotFound):
        await cache.path(Script("c" * 64, 3))
    objects.unreachable = True
    with pytest.raises(ObjectsUnreachable):
        await cache.path(REAL_SCRIPT)
    assert list(tmp_path.iterdir()) == []


async def test_that_an_object_is_missing_is_believed_only_after_a_while(cache, objects, monkeypatch):
    """A folder may not be mounted on this node, while others have it."""
    monkeypatch.setattr(script_cache, "MISSING_SECONDS", 0.2)
    stored = objects._objects.pop(REAL_SCRIPT.key)
    with pytest.raises(ObjectsUnreachable, match="it is looked for again"):
        await cache.path(REAL_SCRIPT)
    objects._objects[REAL_SCRIPT.key] = stored
    path = await cache.path(REAL_SCRIPT)
    path.unlink()
    del objects._objects[REAL_SCRIPT.key]
    await asyncio.sleep(0.3)
    with pytest.raises(ObjectsUnreachable):
        await cache.path(REAL_SCRIPT)
    await asyncio.sleep(0.3)
    with pytest.raises(NotFound):
        await cache.path(REAL_SCRIPT)


async def test_callers_share_a_transfer_that_survives_them(cache, objects):
    asked, arrived = [], asyncio.Event()

    async def slow() -> None:
        asked.append(1)
        await arrived.wait()

    objects.before_read = slow
    first, second = (asyncio.create_task(cache.path(REAL_SCRIPT)) for _ in range(2))
    await until(lambda: asked)
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    arrived.set()
    assert (await second).read_bytes() == SCRIPT_TEXT
    assert asked == [1]


async def test_the_script_used_longest_ago_goes_first(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(script_cache, "MAX_CACHED", 2)
    for age, name in ((300, "old"), (200, "older-but-used")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    await cache.path(REAL_SCRIPT)
    assert {path.name for path in tmp_path.iterdir()} == {"older-but-used", REAL_SCRIPT.sha256}
