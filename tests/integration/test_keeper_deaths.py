"""The keeper when a daemon or a keeper dies, comes twice, or cannot begin; with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from dcron.adapters.keeper.link import KeeperUnreachable
from dcron.domain.errors import SetupError
from dcron.keeper.protocol import encode
from tests.integration.keeper_helpers import (
    SpoolOfTests,
    alive,
    amend_ledger,
    clear,
    end_of,
    keeper_pid,
    kill_keeper,
    run,
    runner_of,
    started_pid,
    until,
    waits_for,
)

ROOT = Path(__file__).parents[2]


class TestDaemonDies:
    async def kill_a_daemon_that_runs(self, spool, text):
        daemon = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.keeper_driver", str(spool.folder), text),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert await daemon.stdout.readline() == b"started\n"
        daemon.kill()
        await daemon.wait()
        return spool.sh(text)

    async def test_next_daemon_adopts_the_script_and_learns_its_true_end(self, spool):
        go = spool.folder / "go"
        start = await self.kill_a_daemon_that_runs(spool, f"{waits_for(go)}; exit 7")
        assert alive(started_pid(start))
        runner = runner_of(spool.folder)
        await runner.open()
        assert await runner.running() == {start.token}
        assert runner.read_exit(start.folder, start.token) is None
        go.touch()
        assert (await end_of(runner, start)).exit_code == 7
        await runner.close()

    async def test_end_that_no_daemon_saw_waits_in_the_spool(self, spool):
        go = spool.folder / "go"
        start = await self.kill_a_daemon_that_runs(spool, f"{waits_for(go)}; exit 7")
        go.touch()
        await until((start.folder / "exit.json").exists)
        runner = runner_of(spool.folder)
        await runner.open()
        assert await runner.running() == frozenset()
        assert runner.read_exit(start.folder, start.token).exit_code == 7
        await runner.close()

    async def test_timeout_holds_while_no_daemon_is_there(self, spool):
        runner = runner_of(spool.folder)
        await runner.open()
        start = spool.sh("sleep 600", timeout_seconds=1)
        await runner.start([start])
        await runner.close()
        await until((start.folder / "exit.json").exists)
        end = runner.read_exit(start.folder, start.token)
        assert (end.signal, end.timed_out) == (signal.SIGTERM, True)


class TestKeeperDies:
    async def test_script_counts_as_running_until_it_is_gone_and_then_as_lost(self, runner, spool):
        go = spool.folder / "go"
        start = spool.sh(f"{waits_for(go)}; exit 7")
        await runner.start([start])
        await kill_keeper(spool.folder)
        assert await runner.running() == {start.token}
        assert runner.read_exit(start.folder, start.token) is None
        go.touch()
        end = await end_of(runner, start)
        assert end.lost
        assert (end.exit_code, end.signal, end.error) == (None, None, "")
        assert end.started_at <= end.finished_at

    async def test_script_that_ended_with_its_keeper_is_told_as_lost(self, runner, spool):
        start = spool.sh("sleep 600")
        await runner.start([start])
        script = started_pid(start)
        keeper = keeper_pid(spool.folder)
        os.kill(keeper, signal.SIGSTOP)
        os.kill(script, signal.SIGKILL)
        os.kill(keeper, signal.SIGKILL)
        assert (await end_of(runner, start)).lost

    async def test_next_keeper_enforces_the_timeout(self, runner, spool):
        start = spool.sh("trap '' TERM; while :; do sleep 1; done", timeout_seconds=2, grace_seconds=0.5)
        await runner.start([start])
        await kill_keeper(spool.folder)
        end = await end_of(runner, start)
        assert (end.lost, end.timed_out) == (True, True)
        assert not alive(started_pid(start))

    async def test_next_keeper_stops_what_it_adopted(self, runner, spool):
        start = spool.sh("sleep 600 & wait")
        await runner.start([start])
        await kill_keeper(spool.folder)
        assert await runner.cancel(start.token)
        end = await end_of(runner, start)
        assert (end.lost, end.cancelled) == (True, True)

    async def test_start_whose_pid_was_not_written_yet_is_found_by_its_token(self, runner, spool):
        start = spool.sh("sleep 600")
        await runner.start([start])
        pid = started_pid(start)
        await runner.close()
        await kill_keeper(spool.folder)
        amend_ledger(start, pid=0, start_ticks=0)
        successor = runner_of(spool.folder)
        await successor.open()
        assert await successor.running() == {start.token}
        os.kill(pid, signal.SIGKILL)
        assert (await end_of(successor, start)).lost
        await successor.close()

    async def test_later_process_with_the_same_pid_is_not_taken_for_the_script(self, runner, spool):
        start = spool.sh("sleep 600")
        await runner.start([start])
        await runner.close()
        await kill_keeper(spool.folder)
        os.kill(started_pid(start), signal.SIGKILL)
        bystander = await asyncio.create_subprocess_exec("sleep", "600")
        amend_ledger(start, pid=bystander.pid, start_ticks=1)
        successor = runner_of(spool.folder)
        await successor.open()
        await until((start.folder / "exit.json").exists)
        assert successor.read_exit(start.folder, start.token).lost
        assert bystander.returncode is None
        bystander.kill()
        await bystander.wait()
        await successor.close()

    async def test_runner_starts_another_keeper_for_the_next_script(self, runner, spool):
        await kill_keeper(spool.folder)
        assert (await run(runner, spool.sh("exit 9"))).exit_code == 9


class TestKeeperLife:
    async def test_keeper_without_scripts_and_daemon_ends_by_itself(self, spool):
        runner = runner_of(spool.folder)
        await runner.open()
        pid = keeper_pid(spool.folder)
        assert pid is not None
        await runner.close()
        await until(lambda: not alive(pid))
        assert not (spool.folder / "keeper.sock").exists()

    async def test_keeper_told_to_end_does_so_when_its_scripts_have(self, runner, spool):
        go = spool.folder / "go"
        start = spool.sh(f"{waits_for(go)}; exit 7")
        await runner.start([start])
        await runner.close()
        pid = keeper_pid(spool.folder)
        os.kill(pid, signal.SIGTERM)
        successor = runner_of(spool.folder)
        await successor.open()
        assert await successor.running() == {start.token}
        go.touch()
        assert (await end_of(successor, start)).exit_code == 7
        await until(lambda: not alive(pid))
        await successor.close()

    async def test_keeper_is_no_child_of_the_daemon(self, runner, spool):
        stat = Path(f"/proc/{keeper_pid(spool.folder)}/stat").read_text()
        assert int(stat.rpartition(")")[2].split()[1]) != os.getpid()

    async def test_path_of_the_spool_may_be_longer_than_a_socket_address(self, tmp_path):
        folder = tmp_path / ("long-" * 30) / ("longer-" * 20)
        folder.mkdir(parents=True)
        runner = runner_of(folder)
        await runner.open()
        try:
            assert (await run(runner, SpoolOfTests(folder).sh("exit 6"))).exit_code == 6
        finally:
            await runner.close()
            clear(folder)

    async def test_newer_runner_takes_the_spool_over_and_the_older_is_told(self, runner, spool):
        start = spool.sh("sleep 600")
        await runner.start([start])
        newer = runner_of(spool.folder)
        await newer.open()
        for _ in range(2):
            with pytest.raises(KeeperUnreachable, match="another daemon"):
                await asyncio.wait_for(runner.next_exit(), 10)
        with pytest.raises(KeeperUnreachable, match="another daemon"):
            await runner.running()
        assert await newer.running() == {start.token}
        await newer.close()

    async def test_runners_that_open_at_once_share_one_keeper(self, spool):
        runners = [runner_of(spool.folder) for _ in range(3)]
        await asyncio.gather(*(each.open() for each in runners))
        journal = (spool.folder / "keeper.log").read_text()
        assert "keeper_error" not in journal
        assert keeper_pid(spool.folder) is not None
        for each in runners:
            await each.close()

    async def test_end_that_the_disk_refuses_is_kept_and_written_later(self, runner, spool):
        go = spool.folder / "go"
        start = spool.sh(f"{waits_for(go)}; exit 7")
        await runner.start([start])
        obstacle = start.folder / "exit.json.new"
        obstacle.mkdir()
        go.touch()
        await until(lambda: "exit_unwritten" in (spool.folder / "keeper.log").read_text())
        assert await runner.running() == {start.token}
        obstacle.rmdir()
        assert (await end_of(runner, start)).exit_code == 7


class TestSetup:
    async def test_missing_spool_is_a_setup_error(self, tmp_path):
        with pytest.raises(SetupError, match="No such file"):
            await runner_of(tmp_path / "nowhere").open()

    async def test_keepers_own_reason_is_passed_on(self, tmp_path):
        (tmp_path / "keeper.lock").mkdir()
        with pytest.raises(SetupError, match="Is a directory"):
            await runner_of(tmp_path).open()
        assert keeper_pid(tmp_path) is None

    async def test_keeper_of_another_version_is_refused_by_name(self, tmp_path, monkeypatch):
        async def greet(reader, writer):
            writer.write(encode({"hello": {"version": 99, "pid": 4711, "running": []}}))
            await reader.read()
            writer.close()

        monkeypatch.chdir(tmp_path)
        server = await asyncio.start_unix_server(greet, "keeper.sock")
        with pytest.raises(SetupError, match=r"process 4711\) speaks version 99"):
            await runner_of(tmp_path).open()
        server.close()
        await server.wait_closed()

    async def test_damaged_record_of_an_end_counts_as_lost(self, tmp_path):
        (tmp_path / "exit.json").write_text('{"token": "t", "exit_code"')
        end = runner_of(tmp_path).read_exit(tmp_path, "t")
        assert end.lost
        assert end.exit_code is None
