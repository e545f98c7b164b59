"""The keeper where disk, descriptors or processes run short, and what it flushes to the disk."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from pathlib import Path

import pytest

from dcron.keeper.launch import LaunchError, launch, prepare_folder
from dcron.keeper.logs import ScriptLog
from dcron.keeper.script import Request
from dcron.ports import StartResult
from tests.integration.keeper_helpers import keeper_pid, kill_keeper, ledger_of, run, runner_of

KIBIBYTE = 1 << 10
MIB = 1 << 20


class TestRoom:
    async def test_keeper_without_descriptors_refuses_and_starts_again_once_there_are_some(
        self, runner, spool
    ):
        keeper = keeper_pid(spool.folder)
        before = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, (len(descriptors(keeper)), before[1]))
        assert await runner.start([spool.sh("exit 0")]) == [StartResult.SPOOL_FULL]
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, before)
        assert (await run(runner, spool.sh("exit 3"))).exit_code == 3

    async def test_keeper_holds_no_descriptor_of_scripts_that_ran(self, runner, spool):
        await run(runner, spool.sh("exit 0"))
        keeper = keeper_pid(spool.folder)
        before = descriptors(keeper)
        for way in ("exit 1", "kill -KILL $$", "sleep 600 & exit 0"):
            await run(runner, spool.sh(way))
        await run(runner, spool.sh("sleep 600", timeout_seconds=0.2))
        assert await runner.start([spool.prepare("no-such-interpreter")]) == [StartResult.FAILED]
        assert descriptors(keeper) == before

    @pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
    def test_want_of_room_for_a_process_is_no_fault_of_the_script(self, spool, monkeypatch, number):
        def no_room(*arguments, **values):
            raise OSError(number, os.strerror(number))

        request = request_of(spool, "sh", {})
        monkeypatch.setattr(os, "posix_spawn", no_room)
        with pytest.raises(OSError) as caught:
            launch(request)
        assert caught.value.errno == number

    @pytest.mark.parametrize("environment", [{"HUGE": "x" * 3 * MIB}, {"NUL": "a\0b"}, {"LONE": "\ud800"}])
    def test_environment_that_no_process_can_have_is_named_as_the_reason(self, spool, environment):
        with pytest.raises(LaunchError, match=r"Argument list too long|cannot be passed on"):
            launch(request_of(spool, "/bin/sh", environment))


def descriptors(pid):
    return sorted(each.name for each in Path(f"/proc/{pid}/fd").iterdir())


def request_of(spool, program, environment):
    start = spool.prepare(program, environment=environment)
    fields = {name: getattr(start, name) for name in start.__dataclass_fields__}
    request = Request({**fields, "folder": str(start.folder), "argv": list(start.argv)})
    prepare_folder(request.folder)
    return request


class TestDisk:
    async def test_power_cut_that_left_only_folders_takes_no_end_and_no_claim(self, spool):
        runner = runner_of(spool.folder)
        await runner.open()
        start = spool.sh("exit 7")
        await run(runner, start)
        await runner.close()
        await kill_keeper(spool.folder)
        (start.folder / "exit.json").write_bytes(b"")
        again = runner_of(spool.folder)
        await again.open()
        assert again.read_exit(start.folder, start.token).exit_code == 7
        assert json.loads((start.folder / "attempt.json").read_text()) == dict(start.claim)
        assert await again.running() == frozenset()
        await again.close()

    async def test_what_was_delivered_is_not_brought_back(self, spool):
        runner = runner_of(spool.folder)
        await runner.open()
        start = spool.sh("exit 7")
        await run(runner, start)
        await runner.close()
        await kill_keeper(spool.folder)
        shutil.rmtree(start.folder)
        again = runner_of(spool.folder)
        await again.open()
        assert not start.folder.exists()
        assert ledger_of(spool.folder).ended_entries() == []
        await again.close()

    def test_log_that_was_truncated_is_kept_within_its_limit_again(self, tmp_path):
        path = tmp_path / "log"
        log = ScriptLog(path, 100 * KIBIBYTE)
        for _ in range(2):
            path.write_bytes(b"x" * MIB)
            assert log.trim() == MIB
            assert path.stat().st_blocks * 512 <= 104 * KIBIBYTE
            os.truncate(path, 0)
            assert log.trim() == 0
