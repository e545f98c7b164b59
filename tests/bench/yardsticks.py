"""What dcron is measured against: the same work by the plainest means, in the same run."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import aiohttp

from dcron.domain.instants import format_key
from dcron.ports import ObjectStore
from dcron.stores import open_objects
from tests.bench.measuring import Marks, due_after, sleep_until
from tests.bench.stores import Stores

__all__ = ["put_rate", "spawn_loop"]

PUTS = 300
PUTS_AT_ONCE = 32
PUT_BODY = b"has started\n"


def spawn_loop(marks: Marks, count: int) -> list[float]:
    """Seconds from the begin of a loop of posix_spawn to the first line of each script it starts."""
    began_at = due_after(0)
    sleep_until(began_at)
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    running = []
    for number in range(count):
        environment = {**os.environ, "DCRON_EXECUTION_ID": f"spawned{number}:{format_key(began_at)}:001"}
        command = ["sh", str(marks.script)]
        running.append(os.posix_spawn("/bin/sh", command, environment, file_actions=quiet))
    for pid in running:
        os.waitpid(pid, 0)
    started = marks.lateness_at(began_at, count)
    marks.clear()
    return started


def put_rate(stores: Stores, folder: Path, puts: int = PUTS) -> float:
    """Objects of a log's size that the object store takes each second, many at once."""
    return asyncio.run(_put_rate(stores, folder, puts))


async def _put_rate(stores: Stores, folder: Path, puts: int) -> float:
    body = folder / "put-body"
    body.write_bytes(PUT_BODY)
    with patch.dict(os.environ, stores.environment):
        objects = open_objects(stores.objects)
        await objects.prepare()
        try:
            async with aiohttp.ClientSession() as session:
                began = time.monotonic()
                numbers = iter(range(puts))
                writers = [_put_some(objects, session, body, numbers) for _ in range(PUTS_AT_ONCE)]
                await asyncio.gather(*writers)
                return puts / (time.monotonic() - began)
        finally:
            await objects.close()


async def _put_some(
    objects: ObjectStore, session: aiohttp.ClientSession, body: Path, numbers: Iterator[int]
) -> None:
    for number in numbers:
        key = f"bench/{number}"
        # By the plainest client there is, where the store speaks HTTP: its rate, not that of boto3.
        target = await objects.presign_put(key, size_bytes=len(PUT_BODY), expires_seconds=300)
        if target is None:
            await objects.put_file(key, body, size_bytes=len(PUT_BODY))
            continue
        async with session.put(target.url, headers=target.headers, data=PUT_BODY) as answer:
            answer.raise_for_status()
