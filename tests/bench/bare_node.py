"""A node whose scripts take no time: `dcron serve`, but for a runner that starts nothing.

Claims, spool, outcomes and settling are the real ones: this is what dispatching alone costs. Nothing of it is
done ahead of the instant, from which it is timed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import dcron.node
from dcron.config import load_settings
from dcron.ports import ProcessExit, ProcessStart, StartResult
from dcron.services.leader import due_queue

__all__ = ["BARE_NODE"]

BARE_NODE = (sys.executable, "-m", "tests.bench.bare_node")


class BareRunner:
    """`ProcessRunner` that says of every script that it has started and succeeded."""

    def __init__(self, *_spool_and_clock: object) -> None:
        self._ended: dict[str, datetime] = {}
        self._exits: asyncio.Queue[str] = asyncio.Queue()

    async def open(self) -> None:
        """Nothing runs."""

    async def start(self, starts: Sequence[ProcessStart]) -> list[StartResult]:
        """See `ProcessRunner.start`."""
        now = datetime.now(UTC)
        for start in starts:
            self._ended[start.token] = now
            self._exits.put_nowait(start.token)
        return [StartResult.STARTED] * len(starts)

    async def cancel(self, token: str) -> bool:
        """Nothing runs."""
        return False

    async def running(self) -> frozenset[str]:
        """Nothing runs."""
        return frozenset()

    async def next_exit(self) -> str:
        """See `ProcessRunner.next_exit`."""
        return await self._exits.get()

    def read_exit(self, folder: Path, token: str) -> ProcessExit | None:
        """See `ProcessRunner.read_exit`; asked once for each end, so that nothing piles up here."""
        at = self._ended.pop(token, None)
        return None if at is None else ProcessExit(token, exit_code=0, started_at=at, finished_at=at)

    async def close(self) -> None:
        """Nothing runs."""


if __name__ == "__main__":
    with (
        patch.object(dcron.node, "KeeperRunner", BareRunner),
        patch.object(due_queue, "AHEAD_PER_JOB", timedelta(0)),
    ):
        sys.exit(asyncio.run(dcron.node.serve_main(load_settings(None, os.environ))))
