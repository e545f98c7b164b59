"""The book holds what is certain, and has the rest read again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcron.domain.changes import merge, pause, request_run
from dcron.domain.errors import StoreUnreachable
from dcron.domain.job_documents import job_body
from dcron.ports import JOBS, Document, WriteKind
from dcron.services.leader import job_book as module
from dcron.services.leader.due_queue import DueQueue
from dcron.services.leader.job_book import LOOKS_AGAIN, JobBook
from tests.doubles import START, request_id, sample_job
from tests.unit.services.leader.book_scene import HORIZON, MINUTE, Scene, active, due, later


@pytest.fixture
def scene() -> Scene:
    return Scene()


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
