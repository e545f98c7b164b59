"""The book holds what is certain, and has the rest read again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from dcron.domain.changes import merge, pause, request_run
from dcron.domain.documents import REVISIONS_START
from dcron.domain.errors import StoreUnreachable
from dcron.domain.job_documents import job_body, job_of
from dcron.domain.model import Active, Job, LastOutcome, Occurrence, Skip, SkipReason, State
from dcron.ports import JOBS, Document, WriteKind, WriteResult
from dcron.services.leader import job_book as module
from dcron.services.leader.due_queue import DueQueue
from dcron.services.leader.job_book import LOOKS_AGAIN, JobBook, is_job_id
from tests.doubles import LATER_UID, START, UID, DoubtfulStore, request_id, sample_job

MINUTE = timedelta(minutes=1)
HORIZON = START + 2 * MINUTE


class Scene:
    def __init__(self) -> None:
        self.store = DoubtfulStore()
        self.due = DueQueue()
        self.book = JobBook(self.store, self.due, {})

    async def stored(self, *jobs: Job) -> None:
        """What somebody else writes."""
        for job in jobs:
            [leaves] = await self.store.read(JOBS, [job.name])
            revision = leaves[0].revision if leaves else None
            [result] = await self.store.write(JOBS, [Document(job.name, job_body(job), revision)])
            assert result.done

    async def current(self, name: str) -> Document:
        [[leaf]] = await self.store.read(JOBS, [name])
        return leaf

    async def in_store(self, name: str) -> Job:
        return job_of(name, (await self.current(name)).body)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def due(name: str, next_at: datetime | None) -> Job:
    return sample_job(name, next_at=next_at)


def later(job: Job, at: datetime = START + 60 * MINUTE) -> Job:
    """The job as the leader writes it on."""
    return replace(job, place=replace(job.place, sequence=job.place.sequence + 1, next_at=at))


def active(job: Job) -> Job:
    running = Active(Occurrence.of_schedule(job.uid, START), 1, 1, START)
    return replace(job, place=replace(job.place, active=running))


# What is due.


async def test_a_poll_takes_in_what_is_due_before_the_horizon(scene: Scene) -> None:
    await scene.stored(due("soon", START), due("far", HORIZON), due("never", None))
    assert not await scene.book.poll(HORIZON)
    assert scene.book.get("soon") == due("soon", START)
    assert scene.book.get("far") is None
    assert scene.book.get("never") is None


async def test_jobs_come_due_in_order_each_once_and_in_bounded_number(scene: Scene) -> None:
    await scene.stored(*(due(name, START + number * MINUTE) for number, name in enumerate("dcba")))
    await scene.book.poll(HORIZON + 9 * MINUTE)
    assert scene.due.next_due_at() == START
    assert scene.due.take_due(START + 2 * MINUTE, 2) == ["d", "c"]
    assert scene.due.take_due(START + 2 * MINUTE, 2) == ["b"]


async def test_what_was_taken_and_not_written_can_be_put_back(scene: Scene) -> None:
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)
    assert scene.due.take_due(START, 10) == ["a"]
    scene.book.put_back(["a", "unknown"])
    assert scene.due.take_due(START, 10) == ["a"]


async def test_a_job_comes_back_with_its_next_occurrence_when_it_is_written(scene: Scene) -> None:
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)
    scene.due.take_due(START, 10)
    job = later(due("a", START), at=START + MINUTE)
    assert await scene.book.write([job]) == [True]
    assert await scene.in_store("a") == job
    assert scene.due.take_due(START, 10) == []
    assert scene.due.take_due(START + MINUTE, 10) == ["a"]


async def test_an_active_job_is_not_due_by_the_clock(scene: Scene) -> None:
    await scene.stored(active(due("a", START)))
    await scene.book.poll(HORIZON)
    assert scene.book.get("a") is not None
    assert scene.due.next_due_at() is None
    assert scene.due.take_due(START, 10) == []


async def test_a_poll_says_when_there_is_more_than_it_takes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_ROWS", 2)
    await scene.stored(*(due(name, START + number * MINUTE) for number, name in enumerate("cba")))
    assert await scene.book.poll(START + 60 * MINUTE)
    assert scene.due.take_due(START + 60 * MINUTE, 10) == ["c", "b"]


async def test_a_poll_reads_again_only_what_it_does_not_hold(scene: Scene) -> None:
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)
    scene.store.kinds["a"] = []
    before = scene.book.get("a")
    await scene.book.poll(HORIZON)
    assert scene.book.get("a") is before


async def test_a_hint_of_the_index_that_is_out_of_date_is_corrected_by_the_quorum(scene: Scene) -> None:
    await scene.stored(due("a", START))
    fresh = later(due("a", START))
    scene.store.branches["a"] = [Document("a", job_body(fresh), "7-x")]
    await scene.book.poll(HORIZON)
    assert scene.book.get("a") == fresh
    assert scene.due.take_due(HORIZON, 10) == []


async def test_all_that_is_worked_on_is_taken_in_page_by_page(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_ROWS", 3)
    waiting = [
        request_run(
            sample_job(f"j{number}", next_at=None, counts_from=START + number * MINUTE), request_id(number)
        )
        for number in range(8)
    ]
    await scene.stored(*waiting, due("idle", START))
    assert sorted(await scene.book.load_active()) == [f"j{number}" for number in range(8)]
    assert scene.book.get("idle") is None


# Writes.


@pytest.mark.parametrize("kind", [WriteKind.LOST, WriteKind.UNSURE])
async def test_what_got_no_plain_success_is_not_planned_from_until_it_is_read_again(
    scene: Scene, kind: WriteKind
) -> None:
    await scene.stored(due("a", START), due("b", START))
    await scene.book.poll(HORIZON)
    scene.store.kinds["a"] = [kind]
    assert await scene.book.write([later(due("a", START)), later(due("b", START))]) == [False, True]
    assert scene.book.get("a") is None
    assert scene.book.stale == {"a"}
    await scene.book.load(["a"])
    held = scene.book.get("a")
    assert held is not None and held.place.next_at == START


async def test_a_branch_that_an_unsure_write_left_is_merged_when_it_turns_up_later(scene: Scene) -> None:
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)
    scene.store.kinds["a"] = [WriteKind.UNSURE]
    assert await scene.book.write([later(due("a", START))]) == [False]
    await scene.book.load(["a"])
    assert await scene.book.write([later(scene.book.get("a"))]) == [True]
    [[leaf]] = await scene.store.read(JOBS, ["a"])
    scene.store.branches["a"] = [leaf, Document("a", leaf.body, "2-stray")]
    assert await scene.book.look_again() == ["a"]
    assert scene.store.branches["a"][1:] == []
    for _ in range(LOOKS_AGAIN - 1):
        assert await scene.book.look_again() == ["a"]
    assert await scene.book.look_again() == []


async def test_branches_that_the_feed_tells_of_are_looked_for_although_the_job_is_far_from_due(
    scene: Scene,
) -> None:
    await scene.stored(due("a", None))
    [[leaf]] = await scene.store.read(JOBS, ["a"])
    scene.book.note_branches("a")
    assert scene.book.stale == {"a"}
    await scene.book.load(["a"])
    scene.book.trim(HORIZON)
    # Only now does a quorum show the other leaf.
    scene.store.branches["a"] = [leaf, Document("a", leaf.body, "2-stray")]
    assert await scene.book.look_again() == ["a"]
    assert scene.store.branches["a"][1:] == []


async def test_what_is_written_after_an_unsure_write_outranks_it_even_in_another_book(scene: Scene) -> None:
    """The unsure write made a branch that nobody sees for a while; meanwhile things went on without it."""
    await scene.stored(base := active(due("a", START)))
    await scene.book.poll(HORIZON)
    await scene.book.load(["a"])
    scene.store.kinds["a"] = [WriteKind.UNSURE]
    ahead = replace(base, place=replace(base.place, sequence=base.place.sequence + 5))
    assert await scene.book.write([ahead]) == [False]
    book = JobBook(scene.store, DueQueue(), scene.book._unsure_sequences)
    await book.load(["a"])
    held = book.get("a")
    assert held is not None
    went_on = replace(held, place=replace(held.place, sequence=held.place.sequence + 1))
    assert await book.write([went_on]) == [True]
    assert merge([ahead, await scene.in_store("a")]).place.active == went_on.place.active
    assert (await scene.in_store("a")).place.sequence > ahead.place.sequence
    assert scene.book._unsure_sequences == {}


async def test_a_read_from_before_a_write_was_lost_does_not_make_the_job_certain(scene: Scene) -> None:
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)

    async def read_meanwhile() -> None:
        await scene.book.load(["a"])

    scene.store.during_write = read_meanwhile
    scene.store.kinds["a"] = [WriteKind.UNSURE]
    assert await scene.book.write([later(due("a", START))]) == [False]
    assert scene.book.get("a") is None
    assert scene.book.stale == {"a"}


async def test_a_read_from_before_a_write_does_not_undo_it(scene: Scene) -> None:
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)
    job = later(due("a", START))

    async def write_meanwhile() -> None:
        assert await scene.book.write([job]) == [True]

    scene.store.after_read = write_meanwhile
    await scene.book.load(["a"])
    assert scene.book.get("a") == job
    assert await scene.book.write([later(job)]) == [True]


async def test_after_an_unreachable_store_nothing_that_was_written_is_certain(scene: Scene) -> None:
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)

    async def read_and_unplug() -> None:
        await scene.book.load(["a"])
        scene.store.unreachable = True

    scene.store.during_write = read_and_unplug
    with pytest.raises(StoreUnreachable):
        await scene.book.write([later(due("a", START))])
    assert scene.book.stale == {"a"}


async def test_what_the_store_rejects_is_left_alone_until_the_next_poll(scene: Scene) -> None:
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)
    scene.store.kinds["a"] = [WriteKind.REJECTED]
    assert await scene.book.write([later(due("a", START))]) == [False]
    assert scene.book.stale == set()
    assert scene.due.next_due_at() is None


async def test_a_write_never_goes_over_what_somebody_else_wrote(scene: Scene) -> None:
    await scene.stored(due("a", START))
    await scene.book.poll(HORIZON)
    paused = pause(due("a", START), START)
    await scene.stored(paused)
    assert await scene.book.write([later(due("a", START))]) == [False]
    assert await scene.in_store("a") == paused


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
