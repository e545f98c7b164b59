"""Nothing of a script is left when it has been stopped, with control groups and without."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dcron.keeper.cgroups import group_folders
from dcron.ports import StartResult
from tests.integration.keeper_helpers import (
    alive,
    amend_ledger,
    end_of,
    keeper_pid,
    kill_keeper,
    log_of,
    open_keeper_without_cgroups,
    run,
    runner_of,
    script_groups,
    started_pid,
    until,
)
from tests.strays import CHILDREN, DAEMON, FORKING, HEADLESS, NAMELESS, left_pids

GRACE_SECONDS = 0.5
STOP_SECONDS = GRACE_SECONDS + 1.0
"""The promise: after this, nothing of it is left."""
SUPERVISED = "control groups"
ALONE = "other signs"


async def opened(spool, kind):
    if kind == ALONE:
        if os.geteuid() != 0:
            pytest.skip("only root can take the cgroup v2 hierarchy away from a keeper")
        open_keeper_without_cgroups(spool.folder)
    runner = runner_of(spool.folder)
    await runner.open()
    if kind == SUPERVISED and "no_cgroups" in (spool.folder / "keeper.log").read_text():
        await runner.close()
        pytest.skip("no cgroup v2 hierarchy that this user may write to")
    return runner


@pytest.fixture(params=[SUPERVISED, ALONE])
async def any_runner(request, spool):
    runner = await opened(spool, request.param)
    yield runner
    await runner.close()


@pytest.fixture
async def runner(spool):
    runner = await opened(spool, SUPERVISED)
    yield runner
    await runner.close()


async def started(runner, spool, code, *, processes, **values):
    """The script once all its processes have said that they run, and their pids."""
    start = spool.prepare(sys.executable, "-c", code, grace_seconds=GRACE_SECONDS, **values)
    assert await runner.start([start]) == [StartResult.STARTED]
    await until(lambda: len(left_pids(log_of(start))) == processes)
    return start, left_pids(log_of(start))


async def seconds_to_end(runner, start):
    loop = asyncio.get_running_loop()
    before = loop.time()
    end = await end_of(runner, start)
    return end, loop.time() - before


STRAYS = pytest.mark.parametrize(
    ("code", "processes"), [(DAEMON, 2), (CHILDREN, 4), (HEADLESS, 1)], ids=["daemon", "children", "headless"]
)


class TestStopped:
    @STRAYS
    async def test_nothing_is_left_after_a_cancel(self, any_runner, spool, code, processes):
        start, pids = await started(any_runner, spool, code, processes=processes)
        await any_runner.cancel(start.token)
        end, seconds = await seconds_to_end(any_runner, start)
        assert end.cancelled
        assert seconds <= STOP_SECONDS
        assert [pid for pid in pids if alive(pid)] == []

    @STRAYS
    async def test_nothing_is_left_after_the_timeout(self, any_runner, spool, code, processes):
        start, pids = await started(any_runner, spool, code, processes=processes, timeout_seconds=2)
        end = await end_of(any_runner, start)
        assert end.timed_out
        assert (end.finished_at - end.started_at).total_seconds() <= 2 + STOP_SECONDS
        assert [pid for pid in pids if alive(pid)] == []

    async def test_process_that_nothing_tells_apart_goes_with_its_group(self, runner, spool):
        start, pids = await started(runner, spool, NAMELESS, processes=2)
        await runner.cancel(start.token)
        _, seconds = await seconds_to_end(runner, start)
        assert seconds <= STOP_SECONDS
        assert [pid for pid in pids if alive(pid)] == []
        assert script_groups(spool.folder) == []

    async def test_what_forks_all_the_time_cannot_outrun_the_kill(self, runner, spool):
        start, _ = await started(runner, spool, FORKING, processes=1)
        await runner.cancel(start.token)
        _, seconds = await seconds_to_end(runner, start)
        assert seconds <= STOP_SECONDS
        assert script_groups(spool.folder) == []

    async def test_group_that_the_script_made_below_its_own_goes_too(self, runner, spool):
        [folder] = group_folders(spool.folder)
        start = spool.sh(
            f"inner={folder}/$DCRON_TOKEN/inner; mkdir $inner; echo 0 > $inner/cgroup.procs; "
            "setsid env -i sh -c 'trap \"\" TERM; echo left $$; sleep 600' & sleep 600",
            grace_seconds=GRACE_SECONDS,
        )
        await runner.start([start])
        await until(lambda: left_pids(log_of(start)))
        await runner.cancel(start.token)
        await end_of(runner, start)
        assert [pid for pid in left_pids(log_of(start)) if alive(pid)] == []
        assert script_groups(spool.folder) == []

    async def test_process_that_left_the_group_is_found_by_its_token(self, runner, spool):
        [folder] = group_folders(spool.folder)
        start = spool.sh(
            f"setsid sh -c 'trap \"\" TERM; echo 0 > {folder.parent}/cgroup.procs; echo left $$; sleep 600' "
            "& sleep 600",
            grace_seconds=GRACE_SECONDS,
        )
        await runner.start([start])
        await until(lambda: left_pids(log_of(start)))
        await runner.cancel(start.token)
        await end_of(runner, start)
        assert [pid for pid in left_pids(log_of(start)) if alive(pid)] == []


class TestGroups:
    async def test_script_is_in_its_group_from_its_first_instruction(self, runner, spool):
        start = spool.prepare("cat", "/proc/self/cgroup")
        await run(runner, start)
        [group] = [line for line in log_of(start).splitlines() if line.startswith("0::")]
        assert group.endswith(f"/{start.token}")

    async def test_keeper_stays_in_its_own_group(self, runner, spool):
        await runner.start([spool.sh("sleep 600"), spool.prepare("no-such-interpreter")])
        keeper = keeper_pid(spool.folder)
        assert Path(f"/proc/{keeper}/cgroup").read_text() == Path("/proc/self/cgroup").read_text()

    async def test_group_goes_when_what_a_script_left_running_has_ended(self, runner, spool):
        start = spool.sh("sleep 600 & echo left $!")
        await run(runner, start)
        watcher = spool.sh("sleep 600")
        await runner.start([watcher])
        [pid] = left_pids(log_of(start))
        assert alive(pid)
        assert {group.name for group in script_groups(spool.folder)} == {start.token, watcher.token}
        os.kill(pid, signal.SIGKILL)
        await until(lambda: {group.name for group in script_groups(spool.folder)} == {watcher.token})

    async def test_keeper_that_ends_leaves_no_group(self, runner, spool):
        await run(runner, spool.sh("exit 0"))
        keeper = keeper_pid(spool.folder)
        await runner.close()
        os.kill(keeper, signal.SIGTERM)
        await until(lambda: not alive(keeper))
        assert [folder for folder in group_folders(spool.folder) if folder.exists()] == []

    async def test_next_keeper_removes_the_groups_of_one_that_was_killed(self, runner, spool):
        start = spool.sh("sleep 600 & echo left $!")
        await run(runner, start)
        await runner.close()
        await kill_keeper(spool.folder)
        [pid] = left_pids(log_of(start))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid))
        assert script_groups(spool.folder) != []
        successor = runner_of(spool.folder)
        await successor.open()
        assert script_groups(spool.folder) == []
        await successor.close()

    async def test_script_starts_without_a_group_where_none_can_be_made(self, runner, spool):
        [folder] = group_folders(spool.folder)
        (folder / "cgroup.max.descendants").write_text("0")
        start = spool.sh("grep ^0:: /proc/self/cgroup; exit 3")
        assert (await run(runner, start)).exit_code == 3
        assert start.token not in log_of(start)
        assert "cgroup_refused" in (spool.folder / "keeper.log").read_text()


class TestKeeperDies:
    async def test_next_keeper_finds_what_nothing_tells_apart_by_its_group(self, runner, spool):
        start, pids = await started(runner, spool, NAMELESS, processes=2)
        await kill_keeper(spool.folder)
        assert await runner.cancel(start.token)
        end = await end_of(runner, start)
        assert (end.lost, end.cancelled) == (True, True)
        assert [pid for pid in pids if alive(pid)] == []
        assert script_groups(spool.folder) == []

    async def test_start_whose_pid_was_not_written_is_found_by_its_group(self, runner, spool):
        start = spool.prepare("env", "-i", "sleep", "600")
        await runner.start([start])
        pid = started_pid(start)
        await until(lambda: Path(f"/proc/{pid}/environ").read_bytes() == b"")
        await runner.close()
        await kill_keeper(spool.folder)
        amend_ledger(start, pid=0, start_ticks=0)
        successor = runner_of(spool.folder)
        await successor.open()
        assert await successor.running() == {start.token}
        assert started_pid(start) == 0
        os.kill(pid, signal.SIGKILL)
        assert (await end_of(successor, start)).lost
        await successor.close()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a pid namespace and choose pids in it")
    def test_script_whose_pid_another_process_has_by_now_is_lost_and_that_one_left_alone(self, spool):
        done = subprocess.run(
            [
                *("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"),
                *(sys.executable, "-m", "tests.integration.keeper_reuse", str(spool.folder)),
            ],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told == {"same_pid": True, "lost": True, "bystander_runs": True}
