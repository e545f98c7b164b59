"""What others change, and branches that a split left, are read again and merged before anything follows."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from dcron.domain.changes import pause, request_run
from dcron.domain.documents import REVISIONS_START
from dcron.domain.job_documents import job_body, job_of
from dcron.domain.model import Job, LastOutcome, Skip, SkipReason, State
from dcron.ports import JOBS, Document, WriteKind, WriteResult
from dcron.services.leader import job_book as module
from dcron.services.leader.job_book import is_job_id
from tests.doubles import LATER_UID, START, UID, DoubtfulStore, request_id, sample_job
from tests.unit.services.leader.book_scene import HORIZON, MINUTE, Scene, active, due, later


@pytest.fixture
def scene() -> Scene:
    return Scene()


# Changes by others.


async def test_an_echo_of_what_is_held_and_what_is_older_are_known(scene: Scene) -> None:
    await scene.stored(due("a", START))
    old = await scene.current("a")
    await scene.book.poll(HORIZON)
    assert scene.book.is_known(old)
    await scene.book.write([later(due("a", START))])
    assert scene.book.is_known(await scene.current("a"))
    assert scene.book.is_known(old)
    await scene.stored(due("a", START))
    assert not scene.book.is_known(await scene.current("a"))
    assert not scene.book.is_known(replace(old, id="unknown"))


async def test_a_change_of_what_is_held_makes_it_stale(scene: Scene) -> None:
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)
    await scene.stored(pause(due("a", START), START))
    scene.book.note_change(await scene.current("a"), HORIZON)
    assert scene.book.get("a") is None
    await scene.book.load(sorted(scene.book.stale))
    assert scene.book.get("a").paused


@pytest.mark.parametrize(
    ("job", "matters"),
    [
        (due("a", START), True),
        (due("a", HORIZON + MINUTE), False),
        (due("a", None), False),
        (request_run(due("a", None), request_id(1)), True),
        (active(due("a", None)), True),
    ],
)
async def test_a_job_not_held_is_taken_in_when_it_matters_before_the_horizon(
    scene: Scene, job: Job, matters: bool
) -> None:
    await scene.stored(job)
    scene.book.note_change(await scene.current("a"), HORIZON)
    assert scene.book.stale == ({"a"} if matters else set())


async def test_a_job_that_the_feed_shows_before_a_quorum_has_it_is_looked_for_again(scene: Scene) -> None:
    job = due("new", START)
    scene.book.note_change(Document("new", job_body(job), "0-a"), HORIZON)
    await scene.book.load(["new"])
    assert scene.book.stale == {"new"}
    await scene.stored(job)
    await scene.book.load(["new"])
    assert scene.book.get("new") == job


async def test_a_job_that_was_removed_before_a_quorum_had_it_is_not_looked_for_for_ever(scene: Scene) -> None:
    scene.book.note_change(Document("other", job_body(due("other", START)), "1-a"), HORIZON)
    scene.book.note_change(Document("other", {}, "2-a", deleted=True), HORIZON)
    await scene.book.load(["other"])
    assert scene.book.stale == set()


async def test_a_change_heard_of_while_an_earlier_state_is_read_is_not_missed(scene: Scene) -> None:
    """A job that is created and run at once: the run must not wait for the next poll."""
    await scene.stored(due("a", None))
    scene.book.note_branches("a")

    async def ask_meanwhile() -> None:
        await scene.stored(request_run(due("a", None), request_id(1)))
        scene.book.note_change(await scene.current("a"), HORIZON)

    scene.store.after_read = ask_meanwhile
    await scene.book.load(["a"])
    assert scene.book.stale == {"a"}
    await scene.book.load(["a"])
    assert scene.book.stale == set()
    assert scene.book.get("a").place.waiting


async def test_an_echo_that_comes_before_the_answer_to_its_write_makes_nothing_stale(scene: Scene) -> None:
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)
    revision = (await scene.current("a")).revision
    job = later(due("a", START))

    async def write(database: str, documents: list[Document]) -> list[WriteResult]:
        results = await DoubtfulStore.write(scene.store, database, documents)
        echo = await scene.current("a")
        assert echo.revision != revision
        assert not scene.book.is_known(echo)
        scene.book.note_change(echo, HORIZON)
        return results

    scene.store.write = write
    assert await scene.book.write([job]) == [True]
    assert scene.book.stale == set()
    assert scene.book.get("a") == job


async def test_a_removed_job_is_forgotten(scene: Scene) -> None:
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)
    leaf = await scene.current("a")
    await scene.store.write(JOBS, [Document("a", {}, leaf.revision, deleted=True)])
    scene.book.note_change(Document("a", {}, "2-x", deleted=True), HORIZON)
    await scene.book.load(sorted(scene.book.stale))
    assert scene.book.get("a") is None
    assert scene.book.stale == set()
    assert scene.due.next_due_at() is None


async def test_idle_jobs_far_from_due_are_let_go(scene: Scene) -> None:
    skip = Skip(UID, START, START, SkipReason.PAUSED, 1)
    kept = [
        due("soon", HORIZON),
        active(due("active", None)),
        request_run(due("asked", None), request_id(1)),
        sample_job("skipping", next_at=None, skips=(skip,)),
    ]
    gone = [due("far", HORIZON + 5 * MINUTE), due("never", None)]
    await scene.stored(*kept, *gone)
    await scene.book.load([job.name for job in (*kept, *gone)])
    scene.book.trim(HORIZON)
    assert all(scene.book.get(job.name) is not None for job in kept)
    assert all(scene.book.get(job.name) is None for job in gone)


async def test_a_job_that_was_changed_is_not_let_go_before_it_is_read_again(scene: Scene) -> None:
    job = due("far", HORIZON + 60 * MINUTE)
    await scene.stored(job)
    await scene.book.load(["far"])
    await scene.stored(request_run(job, request_id(1)))
    scene.book.note_change(await scene.current("far"), HORIZON)
    scene.book.trim(HORIZON)
    assert scene.book.stale == {"far"}


async def test_what_is_far_from_due_does_not_pile_up(scene: Scene) -> None:
    """A yearly job that is run by hand all day is written often and due once."""
    job = due("a", START + 500_000 * MINUTE)
    await scene.stored(job)
    for _ in range(50):
        await scene.book.load(["a"])
        job = replace(job, place=replace(job.place, sequence=job.place.sequence + 1))
        await scene.book.write([job])
    scene.book.trim(HORIZON)
    assert scene.due._heap == []


async def test_what_is_held_and_written_often_does_not_pile_up(scene: Scene) -> None:
    job = due("a", START)
    await scene.stored(job)
    for _ in range(50):
        await scene.book.load(["a"])
    scene.book.trim(HORIZON)
    assert len(scene.due._heap) == 1


async def test_what_is_due_stays_so_when_others_are_let_go(scene: Scene) -> None:
    await scene.stored(due("b", START + MINUTE), due("a", START), due("far", HORIZON + 60 * MINUTE))
    await scene.book.load(["a", "b", "far"])
    scene.book.trim(HORIZON)
    assert scene.due.take_due(HORIZON, 10) == ["a", "b"]


def test_kept_revisions_are_no_jobs() -> None:
    assert is_job_id("backup")
    assert not is_job_id(f"{REVISIONS_START}{UID}:000000001")


# Branches.


def branches(*jobs: Job) -> list[Document]:
    return [Document(job.name, job_body(job), f"{4 - number}-x{number}") for number, job in enumerate(jobs)]


async def test_branches_are_merged_written_and_the_losing_ones_deleted(scene: Scene) -> None:
    base = due("a", START)
    asked = request_run(base, request_id(1))
    scene.store.branches["a"] = branches(pause(base, START), asked)
    await scene.book.load(["a"])
    merged = scene.book.get("a")
    assert merged.paused
    assert merged.place.waiting == asked.place.waiting
    [leaf] = scene.store.branches["a"]
    assert job_of("a", leaf.body) == merged
    assert await scene.book.write([later(merged)]) == [True]


async def test_an_attempt_that_somebody_merged_away_is_put_back(scene: Scene) -> None:
    """It may have been offered; another one in its place would run beside it."""
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)
    offered = active(later(due("a", START)))
    assert await scene.book.write([offered]) == [True]
    without = replace(offered, place=replace(offered.place, active=None, sequence=9))
    await scene.stored(without)
    scene.book.note_change(await scene.current("a"), HORIZON)
    await scene.book.load(["a"])
    held = scene.book.get("a")
    assert held.place.active == offered.place.active
    assert held.place.sequence > without.place.sequence
    assert job_of("a", (await scene.current("a")).body) == held


async def test_an_attempt_that_was_settled_meanwhile_is_not_put_back(scene: Scene) -> None:
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)
    offered = active(later(due("a", START)))
    assert await scene.book.write([offered]) == [True]
    last = LastOutcome(offered.place.active.execution_id, State.SUCCEEDED, START)
    settled = replace(offered, place=replace(offered.place, active=None, last=last, sequence=9))
    await scene.stored(settled)
    scene.book.note_change(await scene.current("a"), HORIZON)
    await scene.book.load(["a"])
    assert scene.book.get("a") == settled


@pytest.mark.parametrize("kind", [WriteKind.LOST, WriteKind.UNSURE])
async def test_no_branch_is_deleted_before_what_it_held_is_certain_elsewhere(
    scene: Scene, kind: WriteKind
) -> None:
    base = due("a", START)
    asked = request_run(base, request_id(1))
    scene.store.branches["a"] = branches(pause(base, START), asked)
    scene.store.kinds["a"] = [kind]
    await scene.book.load(["a"])
    assert scene.book.get("a") is None
    assert scene.book.stale == {"a"}
    held = [job_of("a", leaf.body) for leaf in scene.store.branches["a"]]
    assert asked in held
    await scene.book.load(["a"])
    assert scene.book.get("a").place.waiting == asked.place.waiting
    assert scene.book.stale == set()


async def test_a_removed_job_of_that_name_does_not_come_back(scene: Scene) -> None:
    old = replace(request_run(due("a", START), request_id(1)), revision=9)
    new = replace(due("a", START), uid=LATER_UID)
    scene.store.branches["a"] = branches(old, new)
    await scene.book.load(["a"])
    assert (scene.book.get("a").uid, scene.book.get("a").revision) == (LATER_UID, 1)
    assert scene.book.get("a").place.waiting == ()


async def test_reading_takes_bounded_requests(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_BATCH", 2)
    jobs = [due(f"j{number}", START) for number in range(5)]
    await scene.stored(*jobs)
    async with asyncio.timeout(5):
        await scene.book.load([job.name for job in jobs])
    assert [scene.book.get(job.name) for job in jobs] == jobs
