"""The keeper where disk, descriptors or processes run short, and what it flushes to the disk."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from dcron.keeper.launch import LaunchError, launch, prepare_folder
from dcron.keeper.logs import ScriptLog
from dcron.keeper.records import write_end
from dcron.keeper.script import Request
from dcron.ports import StartResult
from tests.integration.keeper_helpers import SpoolOfTests, clear, keeper_pid, run, runner_of

KIBIBYTE = 1 << 10
MIB = 1 << 20


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    yield SpoolOfTests(folder)
    clear(folder)


@pytest.fixture
async def runner(spool):
    runner = runner_of(spool.folder)
    await runner.open()
    yield runner
    await runner.close()


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
    def test_end_is_safe_together_with_the_note_that_says_whose_it_is(self, tmp_path, monkeypatch):
        flushed = []

        def record(descriptor):
            flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

        monkeypatch.setattr(os, "fsync", record)
        (tmp_path / "attempt.json").write_text("{}")
        write_end(tmp_path, {"token": "t"})
        assert flushed == [f"{tmp_path}/attempt.json", f"{tmp_path}/exit.json.new", f"{tmp_path}"]

    def test_log_that_was_truncated_is_kept_within_its_limit_again(self, tmp_path):
        path = tmp_path / "log"
        log = ScriptLog(path, 100 * KIBIBYTE)
        for _ in range(2):
            path.write_bytes(b"x" * MIB)
            assert log.trim() == MIB
            assert path.stat().st_blocks * 512 <= 104 * KIBIBYTE
            os.truncate(path, 0)
            assert log.trim() == 0
