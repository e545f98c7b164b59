"""A daemon to be killed: starts one script through a KeeperRunner, says so, and waits for its end.

`python -m tests.integration.keeper_driver SPOOL TEXT`, TEXT being for `sh -c`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.integration.keeper_helpers import SpoolOfTests, runner_of


async def main(spool: Path, text: str) -> None:
    runner = runner_of(spool)
    await runner.open()
    await runner.start([SpoolOfTests(spool).sh(text)])
    print("started", flush=True)
    await runner.next_exit()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
