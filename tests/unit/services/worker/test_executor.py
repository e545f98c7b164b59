"""The executor learns the true end of everything that may have been started, whatever the keeper answers."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from dcron.domain.documents import claim_body
from dcron.domain.errors import DcronError, InvalidInput, SpoolFull
from dcron.domain.model import Outcome, State
from dcron.ports import Document, ProcessExit, StartResult
from dcron.services.worker import claim_confirmer, executor
from dcron.services.worker.executor import CLAIM_TO_START_SECONDS, Launch
from tests.doubles import sample_claim, until
from tests.service_doubles import MONTH, Machine, WorkerNode, an_attempt, new_world

FAR = 1e9


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(executor, "RECOVER_POLL_SECONDS", 0.001)
    monkeypatch.setattr(claim_confirmer, "TRY_AGAIN_SECONDS", 0.0)


class Scene:
    def __init__(self, folder) -> None:
        self.world = new_world()
        self.machine = Machine()
        self.node = WorkerNode(self.world, folder, self.machine)
        self.runner = self.node.runner

    def launches(self, count: int) -> list[Launch]:
        attempts = [an_attempt(number) for number in range(count)]
        claims = [sample_claim(each.execution_id, f"token{at}") for at, each in enumerate(attempts)]
        entries = self.node.spool.add(claims)
        return [
            Launch(entry, attempt, "/script", self.world.clock.boottime())
            for entry, attempt in zip(entries, attempts, strict=True)
        ]

    async def start(self, count: int = 1) -> None:
        await self.node.executor.start(self.launches(count))

    async def outcomes(self, count: int = 1) -> dict[str, Outcome]:
        """All outcomes, once there are so many."""
        await until(lambda: not len(self.node.outbox) and not len(self.node.executor))
        outcomes = await self.world.store.outcomes()
        assert len(outcomes) == count
        return outcomes


@pytest.fixture
async def scene(tmp_path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path / "spool")
    scene.node.start()
    yield scene
    failures = scene.node.failed()
    await scene.node.crash()
    assert not failures


@pytest.mark.parametrize(
    ("ended", "state", "message"),
    [
        (ProcessExit("t", exit_code=0), State.SUCCEEDED, ""),
        (ProcessExit("t", exit_code=7), State.FAILED, ""),
        (ProcessExit("t", signal=9), State.FAILED, "SIGKILL"),
        (ProcessExit("t", signal=250), State.FAILED, "250"),
        (ProcessExit("t", signal=15, timed_out=True), State.TIMED_OUT, "timeout"),
        (ProcessExit("t", signal=15, cancelled=True), State.CANCELLED, "request"),
        (ProcessExit("t", error="no such program: rbuy"), State.FAILED, "rbuy"),
        (ProcessExit("t", lost=True), State.LOST, "nobody saw"),
    ],
)
async def test_each_way_to_end_has_its_state(scene, ended, state, message):
    await scene.start()
    scene.runner.end("token0")
    scene.machine.exits["token0"] = replace(ended, token="token0")
    outcome = (await scene.outcomes())["token0"]
    assert outcome.state is state
    assert message in outcome.message


async def test_what_was_printed_beyond_the_limit_is_said_in_the_log(scene):
    await scene.start()
    scene.runner.end("token0", printed=b"x" * 1500)
    log = (await scene.outcomes())["token0"].log
    assert (log.size_bytes, log.cut_bytes) == (1000, 500)
    assert scene.world.objects.text(log.key).endswith(b"500 more bytes were printed and not kept]\n")


async def test_a_script_finds_itself_described_in_its_environment(scene):
    await scene.start()
    start = scene.machine.running["token0"]
    assert start.environment == {
        "PATH": "/bin",
        "DCRON_JOB": "job",
        "DCRON_EXECUTION_ID": an_attempt(0).execution_id,
        "DCRON_SCHEDULED_AT": "2026-11-23T12:00:00Z",
        "DCRON_ATTEMPT": "1",
        "DCRON_NODE": "a",
    }
    assert start.argv == ("sh", "/script")


@pytest.mark.parametrize("result", [StartResult.TOO_LATE, StartResult.SPOOL_FULL])
async def test_what_could_not_be_started_frees_its_slot_and_says_so(scene, result):
    scene.runner.faults = [result]
    await scene.start()
    outcome = (await scene.outcomes())["token0"]
    assert (outcome.state, outcome.closes) == (State.NOT_STARTED, True)


async def test_a_program_that_cannot_be_run_is_a_failure(scene):
    scene.runner.faults = [StartResult.FAILED]
    scene.machine.exits["token0"] = ProcessExit("token0", error="no such program")
    await scene.start()
    assert (await scene.outcomes())["token0"].state is State.FAILED


@pytest.mark.parametrize("error", [DcronError("hung up"), RuntimeError("defect")])
async def test_a_start_whose_answer_was_lost_is_told_apart_by_looking(scene, error):
    """The first ran and goes on; the second was never started: the keeper names neither."""
    scene.runner.faults = [error]
    await scene.start(2)
    scene.machine.running["token0"] = scene.runner  # what counts is its name in the list
    await until(lambda: scene.runner.times_listed > 1)
    assert len(scene.node.executor) == 2
    scene.world.clock.pass_seconds(CLAIM_TO_START_SECONDS)
    await until(lambda: len(scene.node.executor) == 1)
    assert scene.node.executor.holds("token0")
    del scene.machine.running["token0"]
    scene.machine.exits["token0"] = ProcessExit("token0", exit_code=0)
    scene.runner._ended.put_nowait("token0")
    outcomes = await scene.outcomes(2)
    assert outcomes["token0"].state is State.SUCCEEDED
    assert outcomes["token1"].state is State.NOT_STARTED


async def test_an_end_within_a_start_whose_answer_was_lost_is_found(scene):
    scene.runner.faults = [DcronError("hung up")]
    scene.machine.exits["token0"] = ProcessExit("token0", error="no such program")
    await scene.start()
    assert (await scene.outcomes())["token0"].state is State.FAILED


async def test_a_keeper_that_stays_silent_is_asked_until_it_answers(scene):
    scene.runner.faults = [DcronError("hung up")]
    scene.runner.running_faults = [DcronError("hung up")] * 3
    await scene.start()
    await until(lambda: len(scene.runner.running_faults) < 3)
    scene.world.clock.pass_seconds(CLAIM_TO_START_SECONDS)
    assert (await scene.outcomes())["token0"].state is State.NOT_STARTED
    assert not scene.runner.running_faults


async def test_one_start_that_cannot_be_passed_on_fails_alone(scene):
    scene.runner.refused = {an_attempt(1).execution_id: InvalidInput("environment", "too long")}
    await scene.start(3)
    assert scene.machine.started == ["token0", "token2"]
    await until(lambda: not len(scene.node.outbox))
    assert (await scene.world.store.outcomes())["token1"].state is State.FAILED
    for token in ("token0", "token2"):
        scene.runner.end(token)
    assert (await scene.outcomes(3))["token0"].state is State.SUCCEEDED


async def test_a_script_that_ends_before_its_start_is_answered_is_recorded_once(scene):
    async def end_early() -> None:
        scene.machine.started.append("token0")
        scene.machine.exits["token0"] = ProcessExit("token0", exit_code=0)
        scene.runner._ended.put_nowait("token0")
        await until(lambda: not len(scene.node.executor))

    scene.runner.faults = [end_early]
    await scene.start()
    assert (await scene.outcomes())["token0"].state is State.SUCCEEDED


async def test_a_script_that_ends_while_it_is_adopted_is_not_held_for_ever(scene):
    scene.node.spool.add([sample_claim(an_attempt(0).execution_id, "token0")])
    scene.machine.running["token0"] = scene.runner

    async def end_after_the_list() -> None:
        del scene.machine.running["token0"]
        scene.machine.exits["token0"] = ProcessExit("token0", exit_code=5)
        scene.runner._ended.put_nowait("token0")
        await until(scene.runner._ended.empty)

    scene.runner.after_list = end_after_the_list
    await scene.node.recover()
    assert (await scene.outcomes())["token0"].exit_code == 5


async def test_a_start_in_the_last_moment_of_a_recovery_is_adopted(scene):
    scene.node.spool.add([sample_claim(an_attempt(0).execution_id, "token0")])

    async def start_after_the_list() -> None:
        scene.machine.running["token0"] = scene.runner
        scene.world.clock.pass_seconds(CLAIM_TO_START_SECONDS)

    async def wait_for_the_second_list() -> None:
        scene.runner.after_list = start_after_the_list

    scene.runner.after_list = wait_for_the_second_list
    await scene.node.recover()
    assert scene.node.executor.holds("token0")
    assert len(scene.node.executor) == 1
    assert not len(scene.node.outbox)


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_restarted_node_closes_only_attempts_whose_claims_a_quorum_has(scene, arrived):
    claim = sample_claim(an_attempt(0).execution_id, "token0")
    scene.node.spool.add([claim])
    if arrived:
        await scene.world.store.write(MONTH, [Document(claim.execution_id, claim_body(claim))])
    recovering = asyncio.create_task(scene.node.recover())
    await until(lambda: scene.runner.times_listed > 1)
    assert scene.node.executor.holds("token0") and not len(scene.node.outbox)
    scene.world.clock.pass_seconds(CLAIM_TO_START_SECONDS)
    await recovering
    outcome = (await scene.outcomes())["token0"]
    assert (outcome.state, outcome.closes) == (State.NOT_STARTED, arrived)


@pytest.mark.parametrize("adopted", [False, True])
async def test_a_script_that_ran_and_left_no_record_is_lost_and_closes_nothing(scene, adopted):
    """Its folder was removed under it: by itself, a cleaner, or a person."""
    if adopted:
        scene.node.spool.add([sample_claim(an_attempt(0).execution_id, "token0")])
        scene.machine.running["token0"] = scene.runner
        await scene.node.recover()
    else:
        await scene.start()
    for folder in scene.node.folders():
        shutil.rmtree(scene.node.spool.folder / "attempts" / folder)
    del scene.machine.running["token0"]
    scene.runner._ended.put_nowait("token0")
    outcome = (await scene.outcomes())["token0"]
    assert (outcome.state, outcome.closes) == (State.LOST, False)


async def test_what_the_keeper_says_has_ended_without_having_started_it_was_not_started(scene):
    scene.runner.faults = [DcronError("hung up")]
    await scene.start()
    scene.runner._ended.put_nowait("token0")
    outcome = (await scene.outcomes())["token0"]
    assert (outcome.state, outcome.closes) == (State.NOT_STARTED, True)


async def test_what_cannot_be_noted_as_cancelled_is_not_cancelled(scene, monkeypatch):
    """A restarted node would say that it was not started, and it would run after all."""

    def full(entry, outcome):
        raise OSError(28, "No space left on device")

    [launch] = scene.launches(1)
    starting = asyncio.create_task(scene.node.executor.start([replace(launch, start_boottime=FAR)]))
    await until(lambda: len(scene.node.executor))
    with monkeypatch.context() as patch:
        patch.setattr(scene.node.spool, "finish", full)
        with pytest.raises(SpoolFull, match="make room"):
            await scene.node.executor.cancel(launch.entry.claim.execution_id)
    assert scene.node.executor.is_running(launch.entry) and not len(scene.node.outbox)
    assert await scene.node.executor.cancel(launch.entry.claim.execution_id)
    assert (await scene.outcomes())["token0"].state is State.CANCELLED
    starting.cancel()


async def test_a_full_disk_at_the_end_loses_no_outcome(scene, monkeypatch):
    def full(entry, outcome):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scene.node.spool, "finish", full)
    await scene.start()
    scene.runner.end("token0", exit_code=6)
    assert (await scene.outcomes())["token0"].exit_code == 6
