"""Threads with a deadline, for calls that block."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
import structlog

from dcron.adapters.objects import BoundedThreads
from dcron.domain.errors import ObjectsUnreachable


@pytest.fixture
def threads() -> Iterator[BoundedThreads]:
    threads = BoundedThreads("store", 1)
    yield threads
    threads.close()


async def test_a_call_returns_or_raises_what_its_function_does(threads: BoundedThreads) -> None:
    assert await threads.call(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        await threads.call(5, lambda: 1 // 0)


async def test_a_call_that_takes_too_long_is_unreachable(threads: BoundedThreads) -> None:
    end = threading.Event()
    started = time.monotonic()
    with pytest.raises(ObjectsUnreachable, match=r"store: no answer within 0\.05 s"):
        await threads.call(0.05, end.wait)
    assert time.monotonic() - started < 2
    with pytest.raises(ObjectsUnreachable):  # its thread is still taken
        await threads.call(0.05, lambda: 3)
    end.set()
    assert await threads.call(5, lambda: 3) == 3


async def test_a_time_out_of_the_function_itself_is_unreachable(threads: BoundedThreads) -> None:
    def time_out() -> None:
        raise TimeoutError("the disk is far away")

    with pytest.raises(ObjectsUnreachable, match="the disk is far away"):
        await threads.call(5, time_out)


async def test_cancelling_the_caller_is_not_taken_for_the_deadline(threads: BoundedThreads) -> None:
    end = threading.Event()
    call = asyncio.create_task(threads.call(5, end.wait))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    end.set()


async def test_clean_up_runs_and_its_failure_is_logged(threads: BoundedThreads) -> None:
    with structlog.testing.capture_logs() as logs:
        threads.release(lambda: 1 // 0)
        await threads.call(5, lambda: None)
    assert [(line["action"], line["store"]) for line in logs] == [("objects_clean_up_failed", "store")]


async def test_clean_up_that_waits_is_done_after_closing(threads: BoundedThreads) -> None:
    end, cleaned = threading.Event(), threading.Event()
    threads.release(end.wait)
    threads.release(cleaned.set)
    threads.close()
    end.set()
    assert await asyncio.to_thread(cleaned.wait, 5)
