"""Shows that a keeper can be started here and runs a script; the keeper of a running node is left alone."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dcron.adapters.keeper.runner import KeeperRunner
from dcron.domain.errors import DcronError
from dcron.ports import Clock, ProcessStart, StartResult

__all__ = ["KeeperFacts", "probe_keeper"]

EXIT_CODE = 7
"""Something that nothing ends with by chance."""
SCRIPT_SECONDS = 15.0
LOG_BYTES_MAX = 1024


@dataclass(frozen=True, slots=True)
class KeeperFacts:
    """Abilities of a keeper here. `trouble` says in words why no script could be run; empty when one
    could."""

    trouble: str
    has_control_groups: bool = False


async def probe_keeper(near: Path, clock: Clock) -> KeeperFacts:
    """Run a script by a keeper whose spool is in folder `near`."""
    try:
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=near, prefix=".doctor-"))
    except OSError as error:
        return KeeperFacts(f"{near}: {error.strerror}")
    runner = KeeperRunner(folder, clock)
    try:
        async with asyncio.timeout(SCRIPT_SECONDS):
            await runner.open()
            return KeeperFacts(await _run_a_script(runner, folder, clock), runner.has_control_groups)
    except TimeoutError:
        return KeeperFacts(f"a script that ends at once did not end within {SCRIPT_SECONDS:g} s")
    except (DcronError, OSError) as error:
        return KeeperFacts(str(error))
    finally:
        pid = runner.keeper_pid
        await runner.close()
        if pid is not None:
            # It would end by itself; nobody should have to wait for it.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _run_a_script(runner: KeeperRunner, folder: Path, clock: Clock) -> str:
    start = ProcessStart(
        execution_id="doctor",
        token=secrets.token_hex(8),
        folder=folder / "attempt",
        claim={},
        argv=("/bin/sh", "-c", f"exit {EXIT_CODE}"),
        environment={},
        timeout_seconds=SCRIPT_SECONDS,
        grace_seconds=1.0,
        max_log_bytes=LOG_BYTES_MAX,
        not_after_boottime=clock.boottime() + SCRIPT_SECONDS,
    )
    [result] = await runner.start([start])
    if result is not StartResult.STARTED:
        ended = runner.read_exit(start.folder, start.token)
        return f"a script was not started: {ended.error if ended else result.value}"
    while await runner.next_exit() != start.token:
        continue
    ended = runner.read_exit(start.folder, start.token)
    if ended is None or ended.exit_code != EXIT_CODE:
        return f"a script that exits {EXIT_CODE} ended otherwise: {ended}"
    return ""
