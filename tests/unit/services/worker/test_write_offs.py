"""What the leader asks a worker later: what is held, what was delivered, and what is lost."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from dcron.domain.model import State
from dcron.domain.offers import ClaimReference, KnownClaims
from dcron.ports import Document
from dcron.services.shared import loops
from dcron.services.worker import executor
from dcron.services.worker.outbox import Outbox
from tests.doubles import START, ManualClock, until
from tests.service_doubles import (
    ATTEMPT,
    MONTH,
    FaultyObjects,
    FaultyStore,
    Machine,
    WorkerNode,
    World,
    an_attempt,
)

LOST = KnownClaims(frozenset())


class ProcessDeath(Exception):
    """Stands for the end of the daemon: nothing that follows in the same call happens."""


def held(*tokens: str) -> KnownClaims:
    return KnownClaims(frozenset(tokens))


def delivered(*tokens: str) -> KnownClaims:
    return KnownClaims(frozenset(tokens), frozenset(tokens))


class CutOffStore(FaultyStore):
    """One copy that answers alone while `is_alone`; it does not know the documents in `hidden`."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: set[str] = set()
        self.is_alone = False
        self.loses_the_others_after_confirming = False

    async def read(self, database: str, ids: Sequence[str]) -> list[tuple[Document, ...]]:
        found = await super().read(database, ids)
        return [() if each in self.hidden else leaves for each, leaves in zip(ids, found, strict=True)]

    async def confirm(self, database: str, documents: Sequence[Document]) -> list[bool]:
        confirmed = [not self.is_alone and done for done in await super().confirm(database, documents)]
        self.is_alone = self.is_alone or self.loses_the_others_after_confirming
        return confirmed


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(executor, "RECOVER_POLL_SECONDS", 0.001)
    monkeypatch.setattr(loops, "GROWING_BACKOFF_SECONDS", (0.001,))


class Scene:
    def __init__(self, folder: Path) -> None:
        self.store = CutOffStore()
        self.world = World(self.store, FaultyObjects(), ManualClock())
        self.machine = Machine()
        self.folder = folder
        self.node = WorkerNode(self.world, folder, self.machine)
        self.offers = 0

    async def restart(self, *, new_disk: bool = False) -> None:
        """Another daemon, on the same spool or on an empty disk."""
        await self.node.crash()
        if new_disk:
            shutil.rmtree(self.folder)
        self.node = WorkerNode(self.world, self.folder, self.machine)
        self.node.start()
        recovering = asyncio.create_task(self.node.recover())
        await asyncio.sleep(0)
        self.world.clock.pass_seconds(executor.CLAIM_TO_START_SECONDS + 1)
        await recovering

    async def ask(self, *references: ClaimReference) -> KnownClaims:
        """The worker's answer, once all that it led to is done."""
        answer = await self.node.worker.known_claims("a", references)
        await until(lambda: self.is_idle() and not self.node.worker._begun)
        return answer

    async def take(self, number: int = 0) -> ClaimReference:
        """An attempt begins here."""
        self.offers += 1
        attempt = an_attempt(number)
        await self.node.worker.offer("a", 1, self.offers, "leader", [attempt])
        return ClaimReference(attempt.execution_id, self.machine.started[-1])

    async def end(self, reference: ClaimReference) -> None:
        """Its script ends, and both stores have its outcome."""
        self.node.runner.end(reference.token)
        await until(lambda: not len(self.node.executor) and self.is_idle())

    async def deliver(self, number: int = 0) -> ClaimReference:
        """An attempt begins and ends here, and the spool is cleared of it."""
        reference = await self.take(number)
        await self.end(reference)
        await until(lambda: not self.node.folders())
        return reference

    def hide_outcome(self, reference: ClaimReference) -> None:
        """From now on a copy answers that does not know of an outcome."""
        self.store.hidden.add(f"{reference.execution_id}:{reference.token}")

    def is_idle(self) -> bool:
        return not self.node.worker._deciding and not len(self.node.outbox)

    async def states(self) -> list[State]:
        return [outcome.state for outcome in (await self.store.outcomes()).values()]


@pytest.fixture
async def scene(tmp_path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path / "spool")
    scene.node.start()
    scene.node.worker.ready = True
    yield scene
    failures = scene.node.failed()
    await scene.node.crash()
    assert not failures


async def claimed_by_a_lost_spool(scene: Scene) -> ClaimReference:
    """A claim of this very node that its spool knows nothing of."""
    other = WorkerNode(scene.world, scene.folder / "lost", Machine())
    other.worker.ready = True
    await other.worker.offer("a", 1, 1, "leader", [ATTEMPT])
    await other.crash()
    [claim] = await scene.store.claims()
    return ClaimReference(claim.execution_id, claim.token)


# What is held.


@pytest.mark.parametrize("when", ["deciding", "running", "undelivered"])
async def test_a_claim_is_known_from_before_it_is_stored_until_its_outcome_is(scene, when):
    under_way, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        under_way.set()
        await go_on.wait()

    scene.store.faults[ATTEMPT.execution_id] = [wait]
    asking = asyncio.create_task(scene.node.worker.offer("a", 1, 1, "leader", [ATTEMPT]))
    await under_way.wait()
    [folder] = scene.node.folders()
    reference = ClaimReference(ATTEMPT.execution_id, folder.rsplit(":", 1)[1])
    if when != "deciding":
        go_on.set()
        await asking
    if when == "undelivered":
        scene.store.faults[reference.token] = ["gone"] * 1000
        scene.node.runner.end(reference.token)
        await until(lambda: scene.node.outbox.holds(reference.token))
    assert await scene.node.worker.known_claims("a", [reference]) == held(reference.token)
    go_on.set()
    await asking


@pytest.mark.parametrize("node_id", ["a", "another"])
async def test_a_node_that_is_starting_or_is_not_meant_writes_nothing_off(scene, node_id):
    reference = await claimed_by_a_lost_spool(scene)
    scene.node.worker.ready = node_id != "a"
    assert await scene.node.worker.known_claims(node_id, [reference]) == held(reference.token)
    assert await scene.store.outcomes() == {}


# What was delivered.


async def test_what_was_delivered_is_never_written_off_though_its_outcome_is_not_read(scene):
    reference = await scene.deliver()
    scene.hide_outcome(reference)
    for _ in range(2):
        assert await scene.ask(reference) == delivered(reference.token)
    assert await scene.states() == [State.SUCCEEDED]


async def test_a_restarted_node_remembers_what_it_delivered(scene):
    reference = await scene.deliver()
    await scene.restart()
    scene.hide_outcome(reference)
    assert await scene.ask(reference) == delivered(reference.token)
    assert await scene.states() == [State.SUCCEEDED]


async def test_what_was_delivered_a_moment_ago_is_known_before_the_disk_has_noted_it(scene, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(scene.node.spool, "note_delivered", full)
        reference = await scene.take()
        await scene.end(reference)
        scene.hide_outcome(reference)
        assert await scene.ask(reference) == delivered(reference.token)
        assert scene.node.folders(), "removed before it was noted"
    await until(lambda: not scene.node.folders())
    assert await scene.ask(reference) == delivered(reference.token)


async def test_a_node_that_is_killed_before_it_notes_a_delivery_delivers_once_more(scene, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "_remove_loop", lambda _: asyncio.Event().wait())
        await scene.restart()
        reference = await scene.take()
        await scene.end(reference)
    await scene.restart()
    await until(lambda: scene.is_idle() and not scene.node.folders())
    scene.hide_outcome(reference)
    assert await scene.ask(reference) == delivered(reference.token)
    assert await scene.states() == [State.SUCCEEDED]


async def test_a_disk_that_cannot_be_read_says_nothing_of_any_claim(scene, monkeypatch):
    reference = await claimed_by_a_lost_spool(scene)

    def broken(_):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(scene.node.spool, "delivered_among", broken)
    assert await scene.ask(reference) == held(reference.token)
    assert await scene.store.outcomes() == {}


async def test_what_was_delivered_before_the_floor_was_raised_is_looked_for_in_the_store_alone(scene):
    """A backup was restored: the outcome is gone for good, and nobody will deliver it once more."""
    reference = await scene.deliver()
    identifier = f"{reference.execution_id}:{reference.token}"
    [[leaf]] = await scene.store.read(MONTH, [identifier])
    await scene.store.write(MONTH, [Document(identifier, {}, leaf.revision, deleted=True)])
    scene.node.local.saw_floor(START + timedelta(days=1))
    assert await scene.ask(reference) == LOST
    assert await scene.states() == [State.LOST]


# What is lost.


async def test_a_claim_that_the_spool_has_lost_is_written_off(scene):
    reference = await claimed_by_a_lost_spool(scene)
    assert await scene.ask(reference) == LOST
    assert await scene.states() == [State.LOST]


async def test_a_claim_from_before_the_disk_was_replaced_is_written_off_unless_it_has_an_outcome(scene):
    ended, began = await scene.deliver(0), await scene.take(1)
    await scene.restart(new_disk=True)
    assert await scene.ask(ended, began) == LOST
    assert sorted(await scene.states(), key=str) == [State.LOST, State.SUCCEEDED]


@pytest.mark.parametrize("when", ["before it is asked", "while it is asked"])
async def test_what_a_copy_alone_does_not_know_is_not_written_off(scene, when):
    """The disk is new, and the copy that answers has lost the others."""
    reference = await scene.deliver()
    await scene.restart(new_disk=True)
    scene.hide_outcome(reference)
    scene.store.is_alone = when == "before it is asked"
    scene.store.loses_the_others_after_confirming = True
    assert await scene.ask(reference) == LOST
    assert await scene.states() == [State.SUCCEEDED]
    assert len(scene.store.requests) == 2, "more was written than a claim and its outcome"


async def test_asking_twice_at_once_writes_a_claim_off_once_and_harms_nothing(scene):
    reference = await claimed_by_a_lost_spool(scene)
    await asyncio.gather(*(scene.node.worker.known_claims("a", [reference]) for _ in range(2)))
    await until(lambda: scene.is_idle() and not scene.node.worker._begun)
    assert await scene.states() == [State.LOST]


async def test_a_claim_that_cannot_be_written_off_leaves_the_answer_about_others_true(scene):
    reference = await claimed_by_a_lost_spool(scene)
    other = await scene.take(1)
    scene.store.unreachable = True
    assert await scene.ask(reference, other) == held(other.token)
    scene.store.unreachable = False
    await scene.ask(reference)
    assert await scene.states() == [State.LOST]


async def test_a_node_that_dies_in_the_middle_of_a_write_off_never_says_that_it_was_not_started(
    scene, monkeypatch
):
    """Its script may have run: what is not noted as lost is not noted at all."""
    reference = await claimed_by_a_lost_spool(scene)
    write = Path.write_text

    def die_before_the_second(path, text):
        notes.append(path)
        if len(notes) == 2:
            raise ProcessDeath
        return write(path, text)

    notes: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", die_before_the_second)
        await scene.node.worker.known_claims("a", [reference])
        await until(lambda: len(notes) == 2 and not scene.node.worker._begun)
    await scene.restart()
    await until(scene.is_idle)
    assert await scene.states() == []
    await scene.ask(reference)
    assert await scene.states() == [State.LOST]


async def test_what_a_full_disk_does_not_take_is_not_written_off(scene, monkeypatch):
    reference = await claimed_by_a_lost_spool(scene)

    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(scene.node.spool, "finish", full)
        await scene.ask(reference)
    assert scene.node.folders() == []
    assert await scene.states() == []
    await scene.ask(reference)
    assert await scene.states() == [State.LOST]


async def test_a_claim_that_somebody_spoilt_does_not_keep_others_from_being_written_off(scene):
    reference = await claimed_by_a_lost_spool(scene)
    spoilt = an_attempt(1).execution_id
    await scene.store.write(MONTH, [Document(spoilt, {"kind": "claim"})])
    await scene.ask(ClaimReference(spoilt, "token"), reference)
    assert await scene.states() == [State.LOST]


async def test_a_claim_with_an_outcome_is_not_written_off(scene):
    reference = await scene.deliver()
    await scene.restart(new_disk=True)
    await scene.ask(reference)
    assert await scene.states() == [State.SUCCEEDED]
    assert len(scene.store.requests) == 2, "more was written than a claim and its outcome"


async def test_what_is_no_claim_of_this_node_is_left_alone(scene):
    reference = await claimed_by_a_lost_spool(scene)
    forged = ClaimReference(reference.execution_id, "another")
    assert await scene.ask(forged, ClaimReference("no execution", "t")) == LOST
    assert await scene.store.outcomes() == {}
