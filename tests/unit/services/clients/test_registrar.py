"""A new job is answered only once it is certain, by itself or among many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.domain import changes
from dcron.domain.documents import revision_id
from dcron.domain.errors import AlreadyExists, FailedPrecondition, InvalidInput, StoreUnreachable
from dcron.domain.ids import new_ulid
from dcron.domain.job_documents import job_body, job_of
from dcron.domain.model import Job, Script
from dcron.ports import JOBS, Document, WriteKind, WriteResult
from dcron.services.clients.registrar import MAX_REGISTRATIONS, Registrar, Registration
from dcron.services.clients.scripts import Scripts
from tests.unit.services.doubles import SCRIPT, SPECIFICATION, START, SplitStore

NAME = "report"
WANTED = Registration(NAME, SPECIFICATION, paused=False)


@pytest.fixture
async def job(registrar: Registrar) -> Job:
    return await registrar.create(WANTED)


def named(name: str) -> Registration:
    return replace(WANTED, name=name)


async def stored(store: SplitStore, name: str = NAME) -> Job:
    [[leaf]] = await store.read(JOBS, [name])
    return job_of(name, leaf.body)


async def kept_revisions(store: SplitStore, job: Job) -> list[int]:
    documents = await store.range(JOBS, revision_id(job.uid, 0), "\uffff", limit=100)
    return [int(document.id.rsplit(":", 1)[1]) for document in documents]


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_a_created_job_is_stored_with_its_first_revision(store: SplitStore, job: Job) -> None:
    assert await stored(store) == job
    assert job.revision == 1
    assert job.place.next_at == START.replace(minute=5, second=0)
    assert await kept_revisions(store, job) == [1]


async def test_a_taken_name_is_refused_and_its_job_untouched(
    registrar: Registrar, store: SplitStore, job: Job
) -> None:
    with pytest.raises(AlreadyExists, match="report"):
        await registrar.create(replace(WANTED, paused=True))
    assert await stored(store) == job


async def test_a_script_that_was_not_uploaded_is_refused(registrar: Registrar) -> None:
    other = replace(SPECIFICATION, script=Script("a" * 64, 10))
    with pytest.raises(InvalidInput, match="upload it first") as caught:
        await registrar.create(Registration(NAME, other, paused=False))
    assert caught.value.field == "script"


async def test_a_stored_script_that_is_not_what_its_address_says_is_refused(
    registrar: Registrar, objects: MemoryObjectStore
) -> None:
    await objects.put_stream(SCRIPT.key, stream(b"x" * SCRIPT.size_bytes), max_bytes=1000)
    with pytest.raises(InvalidInput, match="has the digest"):
        await registrar.create(WANTED)
    plan = await Scripts(objects, max_script_bytes=1000).prepare_upload(SCRIPT.sha256, SCRIPT.size_bytes)
    assert not plan.present


async def test_an_unsure_creation_is_confirmed_by_a_second_write(
    registrar: Registrar, store: SplitStore
) -> None:
    store.faults[NAME] = [WriteKind.UNSURE]
    job = await registrar.create(WANTED)
    assert (await stored(store)).uid == job.uid
    assert [kind for each, kind in store.written if each == NAME] == [WriteKind.UNSURE, WriteKind.DONE]


async def test_a_lost_race_for_a_name_is_told(registrar: Registrar, store: SplitStore) -> None:
    other = changes.create(NAME, new_ulid(START, b"o" * 10), SPECIFICATION, START, paused=False)

    async def somebody_is_first() -> None:
        await super(SplitStore, store).write(JOBS, [Document(NAME, job_body(other))])

    store.faults[NAME] = [somebody_is_first]
    with pytest.raises(AlreadyExists):
        await registrar.create(WANTED)
    assert (await stored(store)).uid == other.uid


async def test_a_job_created_beside_another_of_the_same_name_withdraws(
    registrar: Registrar, store: SplitStore
) -> None:
    other = changes.create(NAME, new_ulid(START, b"o" * 10), SPECIFICATION, START, paused=False)

    async def somebody_is_first_on_another_copy() -> WriteKind:
        store.branches[NAME] = [Document(NAME, job_body(other), "1-other")]
        return WriteKind.UNSURE

    store.faults[NAME] = [somebody_is_first_on_another_copy]
    with pytest.raises(AlreadyExists):
        await registrar.create(WANTED)
    [leaves] = await store.read(JOBS, [NAME])
    assert [leaf.body["uid"] for leaf in leaves] == [other.uid]


async def test_an_unreachable_store_is_said_to_leave_it_open(registrar: Registrar, store: SplitStore) -> None:
    store.faults[NAME] = ["gone but stored"]
    with pytest.raises(StoreUnreachable, match="may or may not have been made"):
        await registrar.create(WANTED)


class TestMany:
    async def test_all_are_stored_by_one_write_of_each_kind(self, registrar: Registrar, store: SplitStore):
        writes: list[int] = []

        async def write(database: str, documents: Sequence[Document]) -> list[WriteResult]:
            writes.append(len(documents))
            return await SplitStore.write(store, database, documents)

        store.write = write
        jobs = await registrar.create_all([named(f"job{n}") for n in range(MAX_REGISTRATIONS)])
        assert writes == [MAX_REGISTRATIONS, MAX_REGISTRATIONS]
        assert [await stored(store, f"job{n}") for n in range(3)] == jobs[:3]

    async def test_each_is_judged_by_itself(self, registrar: Registrar, store: SplitStore, job: Job):
        without_script = replace(SPECIFICATION, script=Script("a" * 64, 10))
        first, taken, twice, unnamed, scheduled, scripted, last = await registrar.create_all(
            [
                named("first"),
                WANTED,
                named("first"),
                named("NOT A NAME"),
                Registration("x", replace(SPECIFICATION, schedule="99 * * * *"), paused=False),
                Registration("y", without_script, paused=False),
                named("last"),
            ]
        )
        assert first == await stored(store, "first")
        assert last == await stored(store, "last")
        assert isinstance(taken, AlreadyExists)
        assert isinstance(twice, AlreadyExists)
        assert [error.field for error in (unnamed, scheduled, scripted)] == ["name", "schedule", "script"]
        assert await stored(store) == job

    async def test_what_has_no_plain_success_is_settled_by_itself(
        self, registrar: Registrar, store: SplitStore
    ):
        other = changes.create("lost", new_ulid(START, b"o" * 10), SPECIFICATION, START, paused=False)

        async def somebody_is_first() -> None:
            await super(SplitStore, store).write(JOBS, [Document("lost", job_body(other))])

        store.faults |= {"lost": [somebody_is_first], "unsure": [WriteKind.UNSURE]}
        done, lost, unsure = await registrar.create_all([named("done"), named("lost"), named("unsure")])
        assert done == await stored(store, "done")
        assert isinstance(lost, AlreadyExists)
        assert (await stored(store, "unsure")).uid == unsure.uid
        assert [kind for each, kind in store.written if each == "unsure"] == [
            WriteKind.UNSURE,
            WriteKind.DONE,
        ]

    async def test_a_first_revision_without_plain_success_is_kept_under_another_number(
        self, registrar: Registrar, store: SplitStore
    ):
        first_writes = ["unsure"]

        async def write(database: str, documents: Sequence[Document]) -> list[WriteResult]:
            results = await SplitStore.write(store, database, documents)
            if first_writes:
                first_writes.clear()
                return [replace(results[0], kind=WriteKind.UNSURE), *results[1:]]
            return results

        store.write = write
        one, two = await registrar.create_all([named("one"), named("two")])
        assert (one.revision, two.revision) == (2, 1)
        assert await stored(store, "one") == one

    async def test_a_store_that_goes_away_leaves_open_what_it_was_asked_for_and_no_more(
        self, registrar: Registrar, store: SplitStore
    ):
        store.faults |= {"a": [WriteKind.LOST, "gone"], "b": [WriteKind.LOST]}
        done, *others = await registrar.create_all([named("done"), named("a"), named("b")])
        assert done == await stored(store, "done")
        assert all(isinstance(each, StoreUnreachable) for each in others)
        assert "'a' may or may not have been made" in str(others[0])

    async def test_an_unreachable_store_leaves_all_of_them_open(
        self, registrar: Registrar, store: SplitStore
    ):
        store.faults["b"] = ["gone"]
        answers = await registrar.create_all([named("a"), named("b")])
        assert all("may or may not have been made" in str(each) for each in answers)

    @pytest.mark.parametrize("count", [0, MAX_REGISTRATIONS + 1])
    async def test_a_call_has_a_bound(self, registrar: Registrar, count: int):
        with pytest.raises(InvalidInput, match=f"{count} jobs in one call; give 1 to 500"):
            await registrar.create_all([named(f"job{n}") for n in range(count)])

    async def test_a_node_that_cannot_tell_the_time_makes_none(
        self, store: SplitStore, objects: MemoryObjectStore
    ):
        def now():
            raise FailedPrecondition("the clock is off")

        scripts = Scripts(objects, max_script_bytes=1000)
        registrar = Registrar(store, scripts, now)
        with pytest.raises(FailedPrecondition):
            await registrar.create_all([WANTED])
        assert store.written == []
