"""Clients' changes of jobs are answered only once they are certain, whatever the store says meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from dcron.domain import changes
from dcron.domain.documents import SETTINGS_ID, claim_body, revision_id, settings_body
from dcron.domain.errors import FailedPrecondition, InvalidInput, NotFound, Overloaded, StoreUnreachable
from dcron.domain.execution_id import ExecutionId
from dcron.domain.ids import new_ulid
from dcron.domain.instants import format_key
from dcron.domain.job_documents import job_body, job_of
from dcron.domain.model import Active, Claim, ClusterSettings, Job, Occurrence
from dcron.ports import CLUSTER, JOBS, Document, WriteKind, executions_database
from dcron.services.clients.answering import LONG_AGO
from dcron.services.clients.catalogue import Catalogue
from dcron.services.clients.registrar import Registrar, Registration
from dcron.services.clients.revisions import StaleRevision
from dcron.services.clients.scripts import Scripts
from tests.doubles import ManualClock
from tests.unit.services.doubles import SCRIPT, SPECIFICATION, START, SplitStore

NAME = "report"
WANTED = Registration(NAME, SPECIFICATION, paused=False)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def catalogue(store: SplitStore, scripts: Scripts, clock: ManualClock) -> Catalogue:
    return Catalogue(store, scripts, clock, clock_trouble=str)


@pytest.fixture
async def job(registrar: Registrar) -> Job:
    return await registrar.create(WANTED)


async def stored(store: SplitStore) -> Job:
    [[leaf]] = await store.read(JOBS, [NAME])
    return job_of(NAME, leaf.body)


async def kept_revisions(store: SplitStore, job: Job) -> list[int]:
    documents = await store.range(JOBS, revision_id(job.uid, 0), "\uffff", limit=100)
    return [int(document.id.rsplit(":", 1)[1]) for document in documents]


async def write_job(store: SplitStore, job: Job) -> None:
    """As another node does it."""
    [[leaf]] = await store.read(JOBS, [job.name])
    [result] = await super(SplitStore, store).write(JOBS, [Document(job.name, job_body(job), leaf.revision)])
    assert result.done


class TestChanging:
    async def test_named_fields_change_and_make_a_revision(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        wanted = replace(SPECIFICATION, timeout_seconds=30, interpreter="bash")
        changed = await catalogue.update(NAME, wanted, ["timeout_seconds"])
        assert changed.revision == 2
        assert changed.specification == replace(SPECIFICATION, timeout_seconds=30)
        assert await stored(store) == changed
        assert await kept_revisions(store, job) == [1, 2]

    async def test_an_invalid_value_changes_nothing(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        with pytest.raises(InvalidInput, match="schedule"):
            await catalogue.update(NAME, replace(SPECIFICATION, schedule="61 * * * *"), ["schedule"])
        assert await stored(store) == job

    async def test_a_change_of_a_revision_that_is_past_is_refused(
        self, catalogue: Catalogue, job: Job
    ) -> None:
        await catalogue.pause(NAME)
        with pytest.raises(StaleRevision, match="revision 2, not 1"):
            await catalogue.update(NAME, SPECIFICATION, ["schedule"], if_revision=1)

    async def test_a_lost_write_is_done_again_on_what_the_leader_wrote(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        launched = Active(Occurrence.of_schedule(job.uid, START), 1, 7, START)
        ahead = replace(job, place=replace(job.place, sequence=9, term=7, active=launched))

        async def leader_writes() -> None:
            await write_job(store, ahead)

        store.faults[NAME] = [leader_writes]
        paused = await catalogue.pause(NAME)
        assert paused.paused
        assert paused.place.active == launched
        assert await stored(store) == paused
        assert await kept_revisions(store, job) == [1, 2]

    async def test_an_unsure_change_is_confirmed_without_another_revision(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        store.faults[NAME] = [WriteKind.UNSURE, WriteKind.UNSURE]
        paused = await catalogue.pause(NAME)
        assert paused.revision == 2
        assert await stored(store) == paused
        assert [kind for each, kind in store.written if each == NAME][-1] is WriteKind.DONE

    async def test_a_change_that_is_never_confirmed_is_not_answered_as_done(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        store.faults[NAME] = [WriteKind.UNSURE] * 100
        with pytest.raises(StoreUnreachable, match="may or may not have been made"):
            await catalogue.pause(NAME)

    async def test_a_change_that_always_loses_gives_up(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        store.faults[NAME] = [WriteKind.LOST] * 100
        with pytest.raises(Overloaded, match="try again"):
            await catalogue.pause(NAME)
        assert await stored(store) == job

    async def test_a_revision_number_that_is_taken_is_skipped(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        for number in range(2, 30):
            await store.write(JOBS, [Document(revision_id(job.uid, number), {"kind": "revision"})])
        assert (await catalogue.pause(NAME)).revision == 30

    async def test_an_unsure_revision_number_is_not_used(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        store.faults[revision_id(job.uid, 2)] = [WriteKind.UNSURE]
        assert (await catalogue.pause(NAME)).revision == 3

    async def test_branches_are_merged_before_a_change(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        request_id = new_ulid(START, b"r" * 10)
        branch = changes.request_run(job, request_id)
        store.branches[NAME] = [Document(NAME, job_body(branch), "2-branch")]
        paused = await catalogue.pause(NAME)
        assert [run.request_id for run in paused.place.waiting] == [request_id]
        assert await stored(store) == paused

    async def test_a_branch_is_kept_when_its_merge_was_not_stored(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        request_id = new_ulid(START, b"r" * 10)
        store.branches[NAME] = [Document(NAME, job_body(changes.request_run(job, request_id)), "2-branch")]
        store.faults[NAME] = [WriteKind.LOST]
        paused = await catalogue.pause(NAME)
        assert [run.request_id for run in paused.place.waiting] == [request_id]

    async def test_a_pause_that_was_there_already_is_confirmed_by_a_write(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        paused = await catalogue.pause(NAME)
        store.written.clear()
        assert await catalogue.pause(NAME) == paused
        assert store.written == [(NAME, WriteKind.DONE)]

    async def test_a_resume_by_a_node_whose_clock_is_behind_fires_nothing_twice(
        self, catalogue: Catalogue, store: SplitStore, job: Job, clock: ManualClock
    ) -> None:
        due_at = job.place.next_at
        launched = Active(Occurrence.of_schedule(job.uid, due_at), 1, 1, due_at)
        place = replace(job.place, active=launched, next_at=due_at + timedelta(minutes=5))
        await write_job(store, replace(job, place=place))
        clock.pass_until(due_at - timedelta(seconds=3))
        await catalogue.pause(NAME)
        resumed = await catalogue.resume(NAME)
        assert resumed.place.next_at == due_at + timedelta(minutes=5)

    async def test_a_job_that_does_not_exist_is_not_found(self, catalogue: Catalogue) -> None:
        for name in ("absent", "Bad\nName"):
            with pytest.raises(NotFound, match="not found"):
                await catalogue.pause(name)


class TestLaunchedAhead:
    """A job whose next occurrence was launched before its instant, which has just come."""

    @pytest.fixture
    async def ahead(self, store: SplitStore, job: Job, clock: ManualClock) -> None:
        due_at = clock.now()
        launched = Active(Occurrence.of_schedule(job.uid, due_at), 1, 7, due_at - timedelta(seconds=1))
        await write_job(store, replace(job, place=replace(job.place, active=launched)))

    @pytest.mark.usefixtures("ahead")
    @pytest.mark.parametrize("change", ["pause", "delete", "update"])
    async def test_a_change_is_answered_once_its_instant_must_have_come(
        self, catalogue: Catalogue, change: str
    ) -> None:
        began = asyncio.get_running_loop().time()
        if change == "update":
            await catalogue.update(NAME, replace(SPECIFICATION, timeout_seconds=5.0), ["timeout_seconds"])
        else:
            await getattr(catalogue, change)(NAME)
        assert asyncio.get_running_loop().time() - began >= 1.0

    @pytest.mark.usefixtures("ahead")
    @pytest.mark.parametrize("change", ["pause", "delete"])
    async def test_an_intent_that_only_the_first_reading_shows_is_waited_for(
        self, catalogue: Catalogue, store: SplitStore, job: Job, change: str
    ) -> None:
        """It is on one copy alone, with a first write of the change on top of it: when that copy is found
        again, the intent has the newest revision."""

        async def other_copies_answer() -> WriteKind:
            await write_job(store, job)
            return WriteKind.LOST

        store.faults[NAME] = [other_copies_answer]
        began = asyncio.get_running_loop().time()
        await getattr(catalogue, change)(NAME)
        assert asyncio.get_running_loop().time() - began >= 1.0

    @pytest.mark.usefixtures("ahead")
    async def test_one_that_has_run_for_long_is_not_waited_for(
        self, catalogue: Catalogue, clock: ManualClock
    ) -> None:
        clock.pass_seconds(2 * LONG_AGO.total_seconds())
        async with asyncio.timeout(0.8):
            await catalogue.pause(NAME)


class TestDeleting:
    async def test_a_deleted_job_is_gone_and_what_runs_is_told(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        launched = Active(Occurrence.of_schedule(job.uid, START), 2, 7, START)
        await write_job(store, replace(job, place=replace(job.place, active=launched)))
        store.branches[NAME] = [Document(NAME, job_body(job), "2-branch")]
        assert await catalogue.delete(NAME) == f"{job.uid}:{format_key(START)}:002"
        assert await store.read(JOBS, [NAME]) == [()]
        [[last]] = await store.read(JOBS, [revision_id(job.uid, 2)])
        assert last.body["deleted"] is True
        with pytest.raises(NotFound):
            await catalogue.delete(NAME)

    async def test_a_deletion_on_one_copy_only_is_not_answered_as_done(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        store.faults[NAME] = [WriteKind.UNSURE]
        with pytest.raises(StoreUnreachable):
            await catalogue.delete(NAME)

    async def test_a_name_can_be_used_again_by_another_job(
        self, catalogue: Catalogue, registrar: Registrar, job: Job
    ) -> None:
        await catalogue.delete(NAME)
        again = await registrar.create(WANTED)
        assert again.uid != job.uid


class TestRunning:
    async def test_asking_twice_waits_once(self, catalogue: Catalogue, store: SplitStore, job: Job) -> None:
        request_id = new_ulid(START, b"r" * 10)
        first = await catalogue.run(NAME, request_id)
        assert await catalogue.run(NAME, request_id) == first == f"{job.uid}:{request_id}:001"
        after = await stored(store)
        assert [run.request_id for run in after.place.waiting] == [request_id]
        assert after.revision == 1

    async def test_a_run_that_was_claimed_is_not_asked_for_again(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        request_id = new_ulid(START, b"r" * 10)
        identifier = f"{job.uid}:{request_id}:001"
        claim = Claim(identifier, "t", "n1", NAME, 1, 1, SCRIPT, START, True, START, 0)
        await store.write(executions_database(START), [Document(identifier, claim_body(claim))])
        assert await catalogue.run(NAME, request_id) == identifier
        assert (await stored(store)).place.waiting == ()

    async def test_a_frozen_cluster_runs_nothing(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        frozen = ClusterSettings(1, START, frozen=True, frozen_at=START)
        await store.write(CLUSTER, [Document(SETTINGS_ID, settings_body(frozen))])
        with pytest.raises(FailedPrecondition, match="dcron cluster thaw"):
            await catalogue.run(NAME, new_ulid(START, b"r" * 10))

    @pytest.mark.parametrize("text", ["backup-2026-03-02", "5f3c9a52-1f0e-4b8e-9a52-1f0e4b8e9a52", "é" * 64])
    async def test_any_text_names_one_run(
        self, catalogue: Catalogue, store: SplitStore, job: Job, text: str
    ) -> None:
        identifier = await catalogue.run(NAME, text)
        assert await catalogue.run(NAME, text) == identifier
        parsed = ExecutionId.parse(identifier)
        assert parsed.instant == START, "it sorts by when it was asked for"
        assert [run.request_id for run in (await stored(store)).place.waiting] == [parsed.key]
        assert await catalogue.run(NAME, text + "x" if len(text) < 64 else "x") != identifier

    async def test_a_text_names_its_run_after_that_has_been(
        self, catalogue: Catalogue, store: SplitStore, clock: ManualClock, job: Job
    ) -> None:
        identifier = await catalogue.run(NAME, "once")
        present = await stored(store)
        claim = Claim(identifier, "t", "n2", NAME, 1, 1, SCRIPT, START, True, START, 0.0)
        await store.write(executions_database(START), [Document(identifier, claim_body(claim))])
        [[leaf]] = await store.read(JOBS, [NAME])
        idle = replace(present, place=replace(present.place, waiting=()))
        await store.write(JOBS, [Document(NAME, job_body(idle), leaf.revision)])
        clock.pass_seconds(timedelta(hours=23).total_seconds())
        assert await catalogue.run(NAME, "once") == identifier
        assert (await stored(store)).place.waiting == ()

    async def test_a_text_that_two_nodes_are_asked_with_at_once_is_one_run(
        self, catalogue: Catalogue, store: SplitStore, job: Job
    ) -> None:
        assert len(set(await asyncio.gather(*(catalogue.run(NAME, "once") for _ in range(3))))) == 1
        assert len((await stored(store)).place.waiting) == 1

    @pytest.mark.parametrize(
        "request_id", ["", "x" * 65, "a\nb", new_ulid(START - timedelta(days=2), b"r" * 10)]
    )
    async def test_a_request_id_that_cannot_name_a_run_is_refused(
        self, catalogue: Catalogue, job: Job, request_id: str
    ) -> None:
        with pytest.raises(InvalidInput) as caught:
            await catalogue.run(NAME, request_id)
        assert caught.value.field == "request_id"


class TestNextOccurrences:
    async def test_the_next_occurrences_are_those_after_now_and_none_while_paused(
        self, catalogue: Catalogue, job: Job
    ) -> None:
        instants, timezone = await catalogue.next_occurrences(NAME, 2)
        assert [instant.minute for instant in instants] == [5, 10]
        assert timezone == "UTC"
        await catalogue.pause(NAME)
        assert (await catalogue.next_occurrences(NAME, 2))[0] == ()
        assert len(catalogue.preview("@hourly", "Europe/Berlin", 0)) == 5


async def test_a_branch_of_an_earlier_job_of_that_name_does_not_come_back(
    catalogue: Catalogue, store: SplitStore, job: Job
) -> None:
    earlier = replace(job, uid=new_ulid(START - timedelta(days=9), b"e" * 10), revision=77)
    store.branches[NAME] = [Document(NAME, job_body(earlier), "99-earlier")]
    assert (await catalogue.get(NAME)).uid == job.uid
    await catalogue.pause(NAME)
    assert (await stored(store)).uid == job.uid
    assert store.branches[NAME] == []


async def test_a_node_that_cannot_tell_the_time_changes_nothing(store, scripts, clock):
    wrong = Catalogue(store, scripts, clock, clock_trouble=lambda: "its clock is +3600 s off")
    with pytest.raises(FailedPrecondition, match=r"\+3600 s off; ask another node"):
        await wrong.run("job", new_ulid(clock.now(), bytes(10)))
