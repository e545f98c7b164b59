"""The keeper and its runner, with real processes that live, print, misbehave and are killed."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import pytest

from dcron.ports import StartResult
from tests.integration.keeper_helpers import (
    MachineClock,
    alive,
    end_of,
    environment_of,
    keeper_pid,
    ledger_of,
    log_of,
    run,
    runner_of,
    started_pid,
    until,
    waits_for,
)

MIB = 1 << 20


class TestEnds:
    async def test_exit_code_is_the_scripts_own(self, runner, spool):
        end = await run(runner, spool.sh("exit 3"))
        assert (end.exit_code, end.signal, end.error, end.lost) == (3, None, "", False)
        assert end.started_at <= end.finished_at <= MachineClock().now()
        assert not (end.timed_out or end.cancelled)

    async def test_signal_that_killed_it_is_told(self, runner, spool):
        end = await run(runner, spool.sh("kill -SEGV $$"))
        assert (end.exit_code, end.signal) == (None, signal.SIGSEGV)

    async def test_cpu_and_memory_are_those_of_the_script_and_its_children(self, runner, spool):
        code = "import time\nblock = bytearray(50 << 20)\nwhile time.process_time() < 0.3: pass"
        end = await run(runner, spool.prepare("sh", "-c", '"$0" -c "$1"; exit 0', sys.executable, code))
        assert end.exit_code == 0
        assert 0.3 <= end.cpu_seconds < 10
        assert 50 * MIB <= end.peak_memory_bytes < 200 * MIB

    async def test_two_hundred_in_one_batch_all_end_with_their_own_code(self, runner, spool):
        starts = [spool.sh(f"exit {number % 100}") for number in range(200)]
        assert await runner.start(starts) == [StartResult.STARTED] * 200
        told = {await asyncio.wait_for(runner.next_exit(), 60) for _ in starts}
        assert told == {start.token for start in starts}
        codes = [runner.read_exit(start.folder, start.token).exit_code for start in starts]
        assert codes == [number % 100 for number in range(200)]
        assert await runner.running() == frozenset()
        assert ledger_of(spool.folder).open_entries() == []

    async def test_questions_asked_at_once_get_an_answer_each(self, runner, spool):
        starts = [spool.sh(f"exit {number}") for number in range(30)]
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*(runner.start([start]) for start in starts), runner.running())
        assert answers[:-1] == [[StartResult.STARTED]] * 30
        assert {await asyncio.wait_for(runner.next_exit(), 20) for _ in starts} == {
            start.token for start in starts
        }

    async def test_what_it_leaves_running_is_left_alone_when_it_ends_by_itself(self, runner, spool):
        start = spool.sh("sleep 600 & echo $!")
        assert (await run(runner, start)).exit_code == 0
        assert alive(int(log_of(start)))

    async def test_exit_of_another_token_is_not_taken_for_this_one(self, runner, spool):
        start = spool.sh("exit 0")
        await run(runner, start)
        assert runner.read_exit(start.folder, "another-token") is None


class TestStarts:
    async def test_environment_is_what_was_given_and_the_token(self, runner, spool, monkeypatch):
        monkeypatch.setenv("DCRON_STORE", "couchdb://user:secret@host/prefix")
        start = spool.prepare("env", environment={"GREETING": "grüß dich\nzwei Zeilen", "EMPTY": ""})
        await run(runner, start)
        expected = {**start.environment, "DCRON_TOKEN": start.token}
        assert log_of(start) == "".join(f"{name}={value}\n" for name, value in expected.items())

    async def test_keeper_knows_nothing_of_the_daemons_environment(self, spool, monkeypatch):
        monkeypatch.setenv("DCRON_STORE", "couchdb://user:secret@host/prefix")
        runner = runner_of(spool.folder)
        await runner.open()
        entries = environment_of(keeper_pid(spool.folder)).rstrip(b"\0").split(b"\0")
        assert {entry.partition(b"=")[0] for entry in entries} <= {
            b"PATH",
            b"LANG",
            b"HOME",
            b"TZ",
            b"PYTHONPATH",
        }
        await runner.close()

    async def test_script_begins_with_clean_signals_descriptors_session_and_folder(self, runner, spool):
        start = spool.sh(
            "ls /proc/$$/fd; cat /proc/self/status; pwd; umask; cut -d' ' -f6 /proc/$$/stat; echo $$"
        )
        await run(runner, start)
        lines = log_of(start).splitlines()
        assert lines[:4] == ["0", "1", "2", lines[3]]
        assert lines[3].startswith("Name:")
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        # glibc has every child of posix_spawn ignore 32 and 33, which are its own and no program's.
        assert (int(status["SigIgn"], 16) & ~(0b11 << 31), int(status["SigBlk"], 16)) == (0, 0)
        work, umask, session, pid = lines[-4:]
        assert work == str(start.folder / "work")
        assert umask == "0022"
        assert session == pid == str(started_pid(start))

    async def test_output_of_both_streams_is_in_the_order_written(self, runner, spool):
        start = spool.sh("for i in $(seq 100); do echo out $i; echo err $i >&2; done")
        end = await run(runner, start)
        assert log_of(start) == "".join(f"out {number}\nerr {number}\n" for number in range(1, 101))
        assert end.log_bytes == len(log_of(start))

    async def test_missing_interpreter_is_named_with_the_path(self, runner, spool):
        start = spool.prepare("no-such-interpreter", environment={"PATH": "/usr/bin:/bin"})
        assert await runner.start([start]) == [StartResult.FAILED]
        end = runner.read_exit(start.folder, start.token)
        assert end.error == "interpreter not found: no-such-interpreter (looked in PATH=/usr/bin:/bin)"
        assert await runner.running() == frozenset()

    @pytest.mark.parametrize(
        ("content", "mode", "error"),
        [
            (
                "#!/no/such/ruby -w\n",
                0o700,
                "interpreter not found: '/no/such/ruby' (named in the first line of ",
            ),
            (
                "#!/bin/sh\r\nexit 0\r\n",
                0o700,
                r"interpreter not found: '/bin/sh\r' (named in the first line of ",
            ),
            ("echo no first line\n", 0o700, "no program for this machine, and no script that begins with #!"),
            (
                "#!/etc/passwd\n",
                0o700,
                "interpreter not executable: '/etc/passwd' (named in the first line of ",
            ),
            ("#!/bin/sh\n", 0o600, "Permission denied"),
        ],
    )
    async def test_script_that_cannot_be_executed_says_why(self, runner, spool, content, mode, error):
        script = spool.folder / "script"
        script.write_text(content)
        script.chmod(mode)
        start = spool.prepare(str(script))
        assert await runner.start([start]) == [StartResult.FAILED]
        assert error in runner.read_exit(start.folder, start.token).error

    async def test_one_bad_start_leaves_the_others_of_its_batch_alone(self, runner, spool):
        (spool.folder / "file").touch()
        starts = [
            spool.sh("exit 1"),
            spool.prepare("no-such-interpreter"),
            spool.sh("exit 0", not_after_boottime=MachineClock().boottime() - 1),
            spool.sh("exit 0", folder=spool.folder / "file" / "attempt"),
            spool.sh("exit 5"),
        ]
        results = await runner.start(starts)
        assert [result.value for result in results] == [
            "started",
            "failed",
            "too_late",
            "spool_full",
            "started",
        ]
        assert {await runner.next_exit(), await runner.next_exit()} == {starts[0].token, starts[4].token}
        assert runner.read_exit(starts[4].folder, starts[4].token).exit_code == 5

    async def test_what_came_too_late_leaves_no_trace_of_a_start(self, runner, spool):
        start = spool.sh("echo ran", not_after_boottime=MachineClock().boottime() - 0.001)
        assert await runner.start([start]) == [StartResult.TOO_LATE]
        assert runner.read_exit(start.folder, start.token) is None
        assert not (start.folder / "log").exists()
        assert ledger_of(spool.folder).open_entries() == []

    async def test_same_token_is_started_once_however_often_it_is_asked_for(self, runner, spool):
        start = spool.sh("echo ran")
        assert await runner.start([start, start]) == [StartResult.STARTED] * 2
        await end_of(runner, start)
        assert await runner.start([start]) == [StartResult.STARTED]
        assert await asyncio.wait_for(runner.next_exit(), 10) == start.token
        assert log_of(start) == "ran\n"


class TestStops:
    async def test_what_ignores_term_is_killed_after_the_grace(self, runner, spool):
        start = spool.sh("trap '' TERM; while :; do sleep 1; done", timeout_seconds=0.5, grace_seconds=1.0)
        before = time.monotonic()
        end = await run(runner, start)
        assert 1.5 <= time.monotonic() - before <= 0.5 + 1.0 + 1.0
        assert (end.signal, end.timed_out, end.cancelled) == (signal.SIGKILL, True, False)

    async def test_what_heeds_term_may_clean_up_and_does_not_use_up_the_grace(self, runner, spool):
        text = "trap 'sleep 0.3; echo cleaned; exit 4' TERM; sleep 600 & wait"
        start = spool.sh(text, timeout_seconds=0.5, grace_seconds=600)
        end = await run(runner, start)
        assert (end.exit_code, end.timed_out) == (4, True)
        assert log_of(start) == "cleaned\n"

    async def test_daemonized_child_that_ignores_term_goes_with_the_script(self, runner, spool):
        code = (
            "import os, signal, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    if os.fork(): os._exit(0)\n"
            "    os.setsid() if os.getpid() != os.getsid(0) else None\n"
            "    print(os.getpid(), flush=True)\n"
            "    time.sleep(600)\n"
            "os.wait()\n"
            "print('gone', flush=True)\n"
            "raise SystemExit(time.sleep(600))\n"
        )
        start = spool.prepare(sys.executable, "-c", code, timeout_seconds=2, grace_seconds=0.5)
        end = await run(runner, start)
        (child,) = (int(line) for line in log_of(start).splitlines() if line != "gone")
        assert end.timed_out
        assert not alive(child)
        assert not alive(started_pid(start))

    async def test_child_without_environment_in_a_session_of_its_own_goes_too(self, runner, spool):
        start = spool.sh("setsid env -i sh -c 'trap \"\" TERM; echo $$; sleep 600' & wait", timeout_seconds=1)
        end = await run(runner, start)
        assert end.timed_out
        assert not alive(int(log_of(start)))

    async def test_stopped_process_is_woken_to_hear_the_term(self, runner, spool):
        end = await run(runner, spool.sh("kill -STOP $$", timeout_seconds=0.5, grace_seconds=600))
        assert (end.signal, end.timed_out) == (signal.SIGTERM, True)

    async def test_cancel_stops_the_script_and_says_so(self, runner, spool):
        start = spool.sh("sleep 600 & wait")
        bystander = spool.sh("sleep 600")
        await runner.start([start, bystander])
        assert await runner.running() == {start.token, bystander.token}
        assert await runner.cancel(start.token)
        end = await end_of(runner, start)
        assert (end.signal, end.cancelled, end.timed_out) == (signal.SIGTERM, True, False)
        assert await runner.running() == {bystander.token}
        assert not await runner.cancel(start.token)
        assert not await runner.cancel("no-such-token")


class TestLogLimit:
    async def test_disk_beyond_the_limit_is_given_back_while_the_script_runs(self, runner, spool):
        go = spool.folder / "go"
        text = f"echo first line; head -c {32 * MIB} /dev/zero | tr '\\0' x; {waits_for(go)}; echo last line"
        start = spool.sh(text, max_log_bytes=100_000)
        await runner.start([start])
        log = start.folder / "log"
        full = len("first line\n") + 32 * MIB

        def trimmed() -> bool:
            status = log.stat()
            return status.st_size == full and status.st_blocks * 512 < MIB

        await until(trimmed)
        go.touch()
        end = await end_of(runner, start)
        assert end.log_bytes == log.stat().st_size == full + len("last line\n")
        head = log.read_bytes()[:100_000]
        assert head == b"first line\n" + b"x" * (100_000 - len("first line\n"))
