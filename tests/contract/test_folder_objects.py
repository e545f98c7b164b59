"""What only the folder store does: files on a disk that fills up, crashes, several processes."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dcron.adapters import folder as folder_module
from dcron.adapters.folder import FolderObjectStore
from dcron.domain.errors import InvalidInput, ObjectsUnreachable, SetupError
from tests.object_stores import collect

MIB = 1024 * 1024
FULL_AFTER_BYTES = 4 * MIB


async def _stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def _eventually_empty(folder: Path) -> None:
    deadline = time.monotonic() + 10
    while list(folder.iterdir()):
        assert time.monotonic() < deadline, f"{folder} still holds files after 10 s"
        await asyncio.sleep(0.01)


async def test_clients_upload_through_a_node(tmp_path: Path) -> None:
    store = FolderObjectStore(tmp_path)
    assert await store.presign_put("scripts/abc", size_bytes=1, expires_seconds=60) is None
    await store.close()


async def test_an_object_is_a_plain_file_that_other_processes_see(tmp_path: Path) -> None:
    first, second = FolderObjectStore(tmp_path / "a" / "b"), FolderObjectStore(tmp_path / "a" / "b")
    await asyncio.gather(first.prepare(), second.prepare())
    await first.put_stream("scripts/abc", _stream(b"body"), max_bytes=4)
    assert (tmp_path / "a" / "b" / "objects" / "scripts" / "abc").read_bytes() == b"body"
    assert await collect(second, "scripts/abc") == b"body"
    await first.close()
    await second.close()


async def test_what_a_crashed_process_left_is_no_object_and_goes_after_a_day(tmp_path: Path) -> None:
    code = """
import asyncio, os, signal, sys
from pathlib import Path
from dcron.adapters.folder import FolderObjectStore

async def crash_midway():
    yield b"half"
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    store = FolderObjectStore(Path(sys.argv[1]))
    await store.prepare()
    await store.put_stream("logs/crashed", crash_midway(), max_bytes=100)

asyncio.run(main())
"""
    root = Path(folder_module.__file__).parents[2]
    command = [sys.executable, "-c", code, str(tmp_path)]
    crashed = await asyncio.to_thread(subprocess.run, command, cwd=root, timeout=30, check=False)
    assert crashed.returncode == -9
    (leftover,) = (tmp_path / "incoming").iterdir()
    store = FolderObjectStore(tmp_path)
    await store.prepare()
    assert await store.size("logs/crashed") is None
    assert leftover.exists(), "it may be another process's, still being written"
    long_ago = time.time() - folder_module.LEFTOVER_SECONDS - 60
    os.utime(leftover, (long_ago, long_ago))
    await store.prepare()
    assert not leftover.exists()
    await store.close()


@pytest.mark.parametrize("ends_by", [ConnectionResetError, asyncio.CancelledError])
async def test_a_write_that_ends_early_leaves_nothing(tmp_path: Path, ends_by: type[BaseException]) -> None:
    store = FolderObjectStore(tmp_path)
    await store.prepare()
    half = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"half"
        half.set()
        if ends_by is ConnectionResetError:
            raise ConnectionResetError
        await asyncio.Event().wait()

    writing = asyncio.create_task(store.put_stream("key", stuck(), max_bytes=100))
    await half.wait()
    writing.cancel()
    with pytest.raises(ends_by):
        await writing
    await _eventually_empty(tmp_path / "incoming")
    assert await store.size("key") is None
    await store.close()


async def test_a_disk_that_takes_no_more_is_unreachable_and_keeps_the_former_object(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(2 * FULL_AFTER_BYTES))
    store = FolderObjectStore(tmp_path / "store")
    await store.prepare()
    await store.put_stream("key", _stream(b"former"), max_bytes=6)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses to write on, as it does when a disk is full; that would take root to arrange.
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_AFTER_BYTES, limits[1]))
    try:
        with pytest.raises(ObjectsUnreachable, match="File too large"):
            await store.put_file("key", source, size_bytes=2 * FULL_AFTER_BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert await collect(store, "key") == b"former"
    await _eventually_empty(tmp_path / "store" / "incoming")
    await store.put_file("key", source, size_bytes=2 * FULL_AFTER_BYTES)
    assert await store.size("key") == 2 * FULL_AFTER_BYTES
    await store.close()


async def test_a_path_that_is_no_folder_is_a_setup_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        store = FolderObjectStore(path)
        with pytest.raises(SetupError, match="must be a folder that this user may write to"):
            await store.prepare()
        await store.close()


async def test_a_folder_that_vanished_is_unreachable(tmp_path: Path) -> None:
    store = FolderObjectStore(tmp_path)
    await store.prepare()
    (tmp_path / "incoming").rmdir()
    with pytest.raises(ObjectsUnreachable, match="No such file"):
        await store.put_stream("key", _stream(b"x"), max_bytes=1)
    await store.close()


async def test_a_name_is_an_object_or_a_folder_of_others_but_not_both(tmp_path: Path) -> None:
    store = FolderObjectStore(tmp_path)
    await store.prepare()
    await store.put_stream("a/b", _stream(b"x"), max_bytes=1)
    for key in ("a", "a/b/c"):
        with pytest.raises(InvalidInput, match="in the way"):
            await store.put_stream(key, _stream(b"x"), max_bytes=1)
        assert await store.size(key) is None
        await store.delete(key)
    assert await collect(store, "a/b") == b"x"
    await store.close()


async def test_a_folder_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    store = FolderObjectStore(tmp_path / "objects")
    assert not await store.is_prepared()
    assert not list(tmp_path.iterdir())
    await store.close()
