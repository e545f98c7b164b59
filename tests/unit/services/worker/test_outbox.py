"""Outcomes and logs reach both stores, whichever of them fails in between and however the daemon ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dcron.domain.documents import outcome_body
from dcron.domain.model import LogObject, Outcome, State
from dcron.ports import Document, WriteKind
from dcron.services.shared import loops, pacing, starts_first
from dcron.services.shared.starts_first import StartsFirst
from dcron.services.worker import outbox
from dcron.services.worker.outbox import Outbox
from dcron.services.worker.spool import Spool
from tests.doubles import START, sample_claim, until
from tests.service_doubles import MONTH, FaultyObjects, FaultyStore, an_attempt


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(loops, "GROWING_BACKOFF_SECONDS", (0.001,))


@pytest.fixture
def long_patience(monkeypatch):
    monkeypatch.setattr(outbox, "LOG_PATIENCE_SECONDS", 1000.0)


@pytest.fixture
def no_patience(monkeypatch):
    monkeypatch.setattr(outbox, "LOG_PATIENCE_SECONDS", 0.0)


class Scene:
    def __init__(self, folder: Path) -> None:
        self.store = FaultyStore()
        self.objects = FaultyObjects()
        self.spool = Spool(folder)
        self.spool.open()
        self.burst = StartsFirst()
        self.outbox = Outbox(self.store, self.objects, self.spool, self.burst)
        self.task = asyncio.create_task(self.outbox.run())

    def end(self, number: int = 0, *, printed: bytes = b"hello", announced: int | None = None) -> Outcome:
        """An attempt ends and is handed over."""
        execution = an_attempt(number).execution_id
        [entry] = self.spool.add([sample_claim(execution, f"token{number}")])
        if printed:
            entry.log_path.write_bytes(printed)
        size = len(printed) if announced is None else announced
        log = LogObject(f"logs/{number}.log", size) if size else None
        outcome = Outcome(execution, f"token{number}", "a", State.SUCCEEDED, START, exit_code=0, log=log)
        self.spool.finish(entry, outcome)
        self.outbox.add(entry, outcome)
        return outcome

    async def restart(self) -> None:
        """Another daemon on the same spool."""
        self.task.cancel()
        await asyncio.wait([self.task])
        self.spool.close()
        self.spool.open()
        self.outbox = Outbox(self.store, self.objects, self.spool, self.burst)
        for entry in self.spool.entries():
            self.outbox.add(entry, self.spool.outcome(entry))
        self.task = asyncio.create_task(self.outbox.run())

    async def recorded(self, *tokens: str) -> dict[str, Outcome]:
        async with asyncio.timeout(10):
            while not (await self.store.outcomes()).keys() >= set(tokens):
                await asyncio.sleep(0.002)
        return await self.store.outcomes()

    def folders(self) -> list[Path]:
        return list((self.spool.folder / "attempts").iterdir())


@pytest.fixture
async def scene(tmp_path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path / "spool")
    yield scene
    assert not scene.task.done(), "the outbox has ended"
    scene.task.cancel()
    await asyncio.wait([scene.task])
    scene.spool.close()


async def test_the_folder_goes_when_both_stores_have_all(scene):
    scene.end()
    await until(lambda: not scene.folders())
    assert scene.objects.text("logs/0.log") == b"hello"
    assert "token0" in await scene.store.outcomes()


@pytest.mark.parametrize("back_first", ["store", "objects"])
async def test_outages_of_both_stores_in_any_order_lose_nothing(scene, no_patience, back_first):
    scene.store.unreachable = scene.objects.unreachable = True
    outcomes = [scene.end(number) for number in range(3)]
    await until(lambda: scene.outbox.store_trouble and scene.outbox.objects_trouble)
    first, second = (scene.store, scene.objects) if back_first == "store" else (scene.objects, scene.store)
    first.unreachable = False
    await until(lambda: not (scene.outbox.store_trouble and scene.outbox.objects_trouble))
    assert len(scene.folders()) == 3
    second.unreachable = False
    await until(lambda: not scene.folders())
    assert set(await scene.store.outcomes()) == {outcome.token for outcome in outcomes}
    assert not scene.outbox.store_trouble and not scene.outbox.objects_trouble


async def test_an_outcome_goes_ahead_of_a_log_that_cannot_be_stored(scene, no_patience):
    scene.objects.unreachable = True
    scene.end()
    await scene.recorded("token0")
    assert len(scene.folders()) == 1
    scene.objects.unreachable = False
    await until(lambda: not scene.folders())
    assert scene.objects.text("logs/0.log") == b"hello"


async def test_an_outcome_waits_for_its_log_within_the_patience(scene, long_patience):
    scene.objects.unreachable = True
    scene.end()
    await until(lambda: len(scene.objects.puts) > 3)
    assert await scene.store.outcomes() == {}
    scene.objects.unreachable = False
    await scene.recorded("token0")


async def test_outcomes_in_quick_succession_share_a_request_and_the_first_does_not_wait(scene, monkeypatch):
    monkeypatch.setattr(pacing, "GATHER_SECONDS", 0.5)
    scene.end(0, printed=b"")
    await scene.recorded("token0")
    for number in range(1, 5):
        scene.end(number, printed=b"")
        await asyncio.sleep(0.001)
    await scene.recorded("token4")
    assert [len(ids) for _, ids in scene.store.requests] == [1, 4]


async def test_outcomes_do_not_wait_for_a_long_queue_of_logs(scene, long_patience):
    scene.objects.unreachable = True
    count = outbox.UPLOADS + outbox.LOGS_WAITED_FOR + 5
    for number in range(count):
        scene.end(number)
    assert len(await scene.recorded(f"token{count - 1}")) == count - outbox.LOGS_WAITED_FOR
    scene.objects.unreachable = False
    await until(lambda: not scene.folders())
    assert len(await scene.store.outcomes()) == count


async def test_what_has_ended_waits_while_many_scripts_are_started(scene, monkeypatch):
    monkeypatch.setattr(starts_first, "STARTS_FIRST_SECONDS", 0.2)
    with scene.burst.of(starts_first.BURST_STARTS):
        scene.end(0)
        scene.end(1, printed=b"")
        await asyncio.sleep(0.3)
        assert not scene.objects.puts
        assert not scene.store.requests
    started_at = asyncio.get_running_loop().time()
    await scene.recorded("token0", "token1")
    assert asyncio.get_running_loop().time() - started_at >= 0.2
    assert scene.objects.text("logs/0.log") == b"hello"


async def test_starts_without_end_put_it_off_for_a_while_only(scene, monkeypatch):
    monkeypatch.setattr(starts_first, "MAX_PUT_OFF_SECONDS", 0.05)
    with scene.burst.of(starts_first.BURST_STARTS):
        scene.end()
        await until(lambda: not scene.folders())


async def test_few_starts_put_nothing_off(scene, monkeypatch):
    monkeypatch.setattr(starts_first, "MAX_PUT_OFF_SECONDS", 1000.0)
    with scene.burst.of(starts_first.BURST_STARTS - 1):
        scene.end()
        await until(lambda: not scene.folders())


@pytest.mark.parametrize("fault", [WriteKind.UNSURE, "committed", "gone"])
async def test_an_outcome_without_a_plain_success_is_written_again_until_it_is_there(scene, fault):
    scene.store.faults["token0"] = [fault]
    scene.end()
    await until(lambda: not scene.folders())
    assert sum("token0" in ids[0] for _, ids in scene.store.requests) == 2
    assert "token0" in await scene.store.outcomes()


async def test_a_rejected_outcome_stays_in_the_spool_and_holds_up_no_other(scene):
    scene.store.faults["token0"] = [WriteKind.REJECTED]
    scene.end(0)
    await until(lambda: scene.objects.text("logs/0.log"))
    scene.end(1)
    await scene.recorded("token1")
    await until(lambda: len(scene.folders()) == 1)
    assert scene.outbox.holds("token0")
    [warning] = scene.outbox.warnings()
    assert "dcron execution resolve" in warning
    await scene.restart()
    assert not scene.outbox.warnings()
    await scene.recorded("token0")


async def test_what_waits_is_told_with_where_to_and_since_when(scene, long_patience):
    scene.objects.unreachable = True
    outcome = scene.end()
    await until(lambda: scene.outbox.objects_trouble)
    [held] = scene.outbox.held()
    assert (held.execution_id, held.state) == (outcome.execution_id, outcome.state)
    assert held.waits_for == "document store and object store"
    assert scene.outbox.oldest_at() == outcome.finished_at
    [warning] = scene.outbox.warnings()
    assert "the object store does not answer" in warning
    scene.objects.unreachable = False
    await until(lambda: not len(scene.outbox))
    assert (list(scene.outbox.held()), scene.outbox.oldest_at(), scene.outbox.warnings()) == ([], None, ())


@pytest.mark.parametrize("fault", [ValueError("short"), OSError(5, "broken"), RuntimeError("defect")])
async def test_a_log_that_fails_for_its_own_reason_holds_up_neither_its_outcome_nor_others(
    scene, long_patience, fault
):
    scene.objects.faults["logs/0.log"] = fault
    scene.end(0)
    others = [scene.end(number) for number in range(1, 12)]
    await scene.recorded("token0", *(outcome.token for outcome in others))
    await until(lambda: len(scene.folders()) == 1)
    assert scene.objects.puts.count("logs/0.log") == 1
    scene.objects.faults.clear()
    await scene.restart()
    await until(lambda: not scene.folders())
    assert scene.objects.text("logs/0.log") == b"hello"


@pytest.mark.parametrize(("printed", "kept"), [(b"", b""), (b"abc", b"abc")])
async def test_a_log_that_a_script_removed_or_cut_is_stored_as_far_as_it_is_there(scene, printed, kept):
    scene.end(printed=printed, announced=10)
    await until(lambda: not scene.folders())
    log = (await scene.store.outcomes())["token0"].log
    assert (log.size_bytes, log.cut_bytes) == (len(kept), 10 - len(kept))
    stored = scene.objects.text("logs/0.log")
    assert stored.startswith(kept + b"\n[dcron: the log is cut here")


async def test_a_folder_that_cannot_be_removed_stops_nothing_and_goes_at_the_next_start(scene, monkeypatch):
    refusals = []

    def refused(entry):
        refusals.append(entry)
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(scene.spool, "remove", refused)
        scene.end(0)
        await until(lambda: len(refusals) == 1 and not len(scene.outbox))
        scene.end(1)
        await until(lambda: len(refusals) == 2 and not len(scene.outbox))
    assert len(scene.folders()) == 2
    await scene.restart()
    await until(lambda: not scene.folders())


# What was written off while this spool was away.


@pytest.mark.parametrize("state", [State.LOST, State.NOT_STARTED])
async def test_a_true_end_is_told_over_one_that_was_written_off(scene, state):
    execution = an_attempt(0).execution_id
    written_off = outcome_body(Outcome(execution, "token0", "a", state, START))
    await scene.store.write(MONTH, [Document(f"{execution}:token0", written_off)])
    scene.store.faults["token0"] = [WriteKind.LOST, WriteKind.UNSURE]
    scene.end()
    await until(lambda: not scene.folders())
    assert (await scene.store.outcomes())["token0"].state is State.SUCCEEDED


async def test_an_end_that_was_told_over_without_an_answer_is_told_once_more(scene):
    execution = an_attempt(0).execution_id
    written_off = outcome_body(Outcome(execution, "token0", "a", State.LOST, START))
    await scene.store.write(MONTH, [Document(f"{execution}:token0", written_off)])
    scene.store.faults["token0"] = [WriteKind.LOST, "committed", WriteKind.LOST, WriteKind.UNSURE]
    scene.end()
    await until(lambda: not scene.folders())
    assert (await scene.store.outcomes())["token0"].state is State.SUCCEEDED
    assert not scene.store.faults["token0"]


async def test_what_is_known_to_be_lost_does_not_overrule_a_true_end(scene):
    execution = an_attempt(0).execution_id
    ended = outcome_body(Outcome(execution, "token0", "a", State.FAILED, START))
    await scene.store.write(MONTH, [Document(f"{execution}:token0", ended)])
    [entry] = scene.spool.add([sample_claim(execution, "token0")])
    scene.outbox.add(entry, Outcome(execution, "token0", "a", State.LOST, START))
    await until(lambda: not scene.folders())
    assert (await scene.store.outcomes())["token0"].state is State.FAILED


# A crash between any two steps.


async def test_a_crash_after_the_outcome_was_recorded_still_brings_the_log(scene, no_patience):
    scene.objects.unreachable = True
    scene.end()
    await scene.recorded("token0")
    await scene.restart()
    scene.objects.unreachable = False
    await until(lambda: not scene.folders())
    assert scene.objects.text("logs/0.log") == b"hello"


async def test_a_crash_after_the_log_was_stored_still_brings_the_outcome_and_the_same_log(scene):
    scene.store.unreachable = True
    scene.end()
    await until(lambda: scene.objects.text("logs/0.log") is not None)
    await scene.restart()
    scene.store.unreachable = False
    await scene.recorded("token0")
    await until(lambda: not scene.folders())
    assert scene.objects.text("logs/0.log") == b"hello"


async def test_an_outcome_that_was_recorded_before_a_crash_is_not_written_twice(scene):
    scene.store.faults["token0"] = ["committed"] + ["gone"] * 1000
    scene.end()
    await until(lambda: len(scene.store.requests) > 1)
    scene.store.faults.clear()
    await scene.restart()
    await until(lambda: not scene.folders())
    assert list(await scene.store.outcomes()) == ["token0"]


async def test_the_attempt_that_was_started_is_found_before_one_that_was_not(scene):
    scene.store.unreachable = True
    execution = an_attempt(0).execution_id
    [unstarted] = scene.spool.add([sample_claim(execution, "first")])
    scene.outbox.add(unstarted, Outcome(execution, "first", "a", State.NOT_STARTED, START))
    assert scene.outbox.is_unstarted("first")
    scene.end(0, printed=b"")
    assert scene.outbox.entry_of(execution).claim.token == "token0"
    assert not scene.outbox.is_unstarted("token0")


async def test_what_is_written_at_once_shares_a_request(scene):
    for number in range(20):
        scene.end(number, printed=b"")
    await until(lambda: not scene.folders())
    assert len(scene.store.requests) == 1
    assert json.dumps(scene.store.requests[0][1]).count("token") == 20
