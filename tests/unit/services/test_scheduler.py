"""An occurrence has one attempt at a time, whatever is lost between intent, offer and settlement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from dcron.domain.changes import pause
from dcron.domain.documents import (
    INITIAL_SETTINGS,
    SETTINGS_ID,
    claim_body,
    node_key,
    outcome_body,
    settings_body,
    verdict_body,
    verdict_id,
)
from dcron.domain.errors import StoreUnreachable
from dcron.domain.ids import new_ulid
from dcron.domain.job_documents import job_body, job_of
from dcron.domain.model import (
    Active,
    Claim,
    Job,
    ManualRun,
    Occurrence,
    Outcome,
    Skip,
    SkipReason,
    State,
    Verdict,
    VerdictKind,
)
from dcron.domain.nodes import NodeRecord, node_body
from dcron.domain.offers import OfferResult
from dcron.domain.planning import AttemptView
from dcron.ports import CLUSTER, JOBS, Document, WriteKind, executions_database
from dcron.services import book, cycle, dispatcher, executor, feeds, scheduler
from dcron.services.cycle import CYCLE_JOBS
from dcron.services.dispatcher import CLAIM_SETTLE_SECONDS
from dcron.services.leading import Deposed, Leadership
from dcron.services.membership import NodeWatch
from dcron.services.scheduler import Scheduler
from tests.doubles import START, UID, FakeNodes, sample_job, until
from tests.service_doubles import MONTH, REAL_SCRIPT, DirectNodes, Machine, WorkerNode, new_world

TERM = 2
DUE = Occurrence.of_schedule(UID, START)
FAR = 1000.0


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    for name in ("LOOK_SECONDS", "DOUBT_SECONDS", "STALE_SECONDS", "BACKOFF_SECONDS"):
        for module in (scheduler, cycle):
            monkeypatch.setattr(module, name, 0.005, raising=False)
    monkeypatch.setattr(scheduler, "POLL_SECONDS", FAR)
    monkeypatch.setattr(dispatcher, "SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(feeds, "BACKOFF_SECONDS", 0.005)
    monkeypatch.setattr(executor, "RECOVER_POLL_SECONDS", 0.001)


class Scene:
    """A store, a worker `a` and, once started, one leader."""

    def __init__(self, folder) -> None:
        self.world = new_world()
        self.store, self.clock = self.world.store, self.world.clock
        self.machine = Machine()
        self.worker = WorkerNode(self.world, folder, self.machine, slots=50)
        self.nodes = DirectNodes()
        self.nodes.workers["a:1"] = self.worker.worker
        self.leading = True
        self.steady = True
        self.looks = 0
        self.task: asyncio.Task[None] | None = None
        self.scheduler: Scheduler | None = None

    def is_leading(self) -> bool:
        return self.leading

    def is_steady(self) -> bool:
        return self.steady

    def look(self) -> None:
        self.looks += 1

    async def add_node(self, node_id: str = "a") -> None:
        record = NodeRecord(node_id, "t", "s", f"{node_id}:1", "1", 50, START, START)
        await self.store.write(CLUSTER, [Document(node_key(node_id), node_body(record))])

    async def add_job(self, name: str = "job", *, uid: str = UID, **place) -> Job:
        job = replace(sample_job(name, **{"schedule": "0 12 23 11 *", **place}), uid=uid)
        specification = replace(job.specification, script=REAL_SCRIPT, interpreter="sh")
        job = replace(job, specification=specification)
        await self.store.write(JOBS, [Document(name, job_body(job))])
        return job

    async def put(self, *items: Claim | Outcome | Verdict) -> None:
        documents = []
        for item in items:
            if isinstance(item, Claim):
                documents.append(Document(item.execution_id, claim_body(item)))
            elif isinstance(item, Outcome):
                documents.append(Document(item.id, outcome_body(item)))
            else:
                documents.append(Document(verdict_id(item.execution_id), verdict_body(item)))
        await self.store.write(MONTH, documents)

    async def settings(self, **fields) -> None:
        [leaves] = await self.store.read(CLUSTER, [SETTINGS_ID])
        body = settings_body(replace(INITIAL_SETTINGS, **fields))
        await self.store.write(CLUSTER, [Document(SETTINGS_ID, body, leaves[0].revision if leaves else None)])

    def lead(self, nodes=None, *, term: int = TERM, renewal_seconds: float = 0.01) -> None:
        self.worker.start()
        self.worker.worker.ready = True
        self.scheduler = Scheduler(
            self.store,
            nodes or self.nodes,
            self.clock,
            NodeWatch(self.store, self.clock, lease_seconds=1e9),
            Leadership(term, "leader", self.is_leading, self.look, self.is_steady, {}),
            self.worker.burst,
            unsure_sequences={},
            renewal_seconds=renewal_seconds,
        )
        self.task = asyncio.create_task(self.scheduler.run())

    async def job(self, name: str = "job") -> Job:
        [leaves] = await self.store.read(JOBS, [name])
        return job_of(name, leaves[0].body)

    async def settled(self, state: State = State.SUCCEEDED, name: str = "job") -> Job:
        """The job, once its last attempt ended like that."""
        async with asyncio.timeout(10):
            while True:
                job = await self.job(name)
                last = job.place.last
                if job.place.active is None and last is not None and last.state is state:
                    return job
                await asyncio.sleep(0.002)

    async def run_script(self, number: int = 0, exit_code: int = 0) -> None:
        """Wait for a start and have it end."""
        await until(lambda: len(self.machine.started) > number)
        self.worker.runner.end(self.machine.started[number], exit_code)

    async def starts(self) -> list[str]:
        """Execution ids of all that was started, by their claims."""
        claims = {claim.token: claim.execution_id for claim in await self.store.claims()}
        return [claims[token] for token in self.machine.started]

    def job_writes(self) -> int:
        return sum(database == JOBS for database, _ in self.store.requests)

    async def end(self) -> BaseException | None:
        if self.task is None:
            return None
        self.task.cancel()
        await asyncio.wait([self.task])
        return None if self.task.cancelled() else self.task.exception()


@pytest.fixture
async def scene(tmp_path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path / "spool")
    await scene.add_node()
    yield scene
    failure = await scene.end()
    failures = scene.worker.failed()
    await scene.worker.crash()
    assert failure is None
    assert not failures


def attempt(number: int = 1, *, term: int = 1) -> Active:
    return Active(DUE, number, term, START)


def a_claim(token: str, number: int = 1, node_id: str = "a") -> Claim:
    return Claim(
        attempt(number).execution_id, token, node_id, "job", 1, 1, REAL_SCRIPT, START, False, START, 60.0
    )


def an_outcome(token: str, state: State, number: int = 1) -> Outcome:
    return Outcome(attempt(number).execution_id, token, "a", state, START)


async def test_a_due_occurrence_runs_once_and_is_settled(scene):
    await scene.add_job()
    scene.lead()
    await scene.run_script()
    job = await scene.settled()
    assert job.place.last.execution_id == attempt().execution_id
    assert job.place.next_at > START
    assert await scene.starts() == [attempt().execution_id]


@pytest.mark.parametrize("fault", [WriteKind.LOST, WriteKind.UNSURE, "gone", "committed"])
async def test_an_intent_without_a_plain_success_still_leads_to_one_attempt_and_soon(scene, fault):
    """Soon: reconciliation is far away in these tests."""
    await scene.add_job()
    scene.store.faults["job"] = [fault]
    scene.lead()
    await scene.run_script()
    await scene.settled()
    assert await scene.starts() == [attempt().execution_id]


@pytest.mark.parametrize("fault", [WriteKind.LOST, WriteKind.UNSURE, "gone", "committed"])
async def test_a_settlement_without_a_plain_success_is_made_again(scene, fault):
    await scene.add_job()
    scene.lead()
    await until(lambda: scene.machine.started)
    scene.store.faults["job"] = [fault]
    await scene.run_script()
    await scene.settled()
    assert await scene.starts() == [attempt().execution_id]


# Taking over.


async def test_what_was_intended_and_not_claimed_is_offered_as_the_same_attempt(scene):
    await scene.add_job(active=attempt(), next_at=START + timedelta(days=365))
    scene.lead()
    await scene.run_script()
    await scene.settled()
    assert await scene.starts() == [attempt().execution_id]


async def test_an_intent_that_was_only_read_is_offered_after_a_plain_success_of_its_own(scene):
    await scene.add_job(active=attempt(), next_at=START + timedelta(days=365))
    scene.store.faults["job"] = [WriteKind.UNSURE, WriteKind.UNSURE]
    scene.lead()
    await until(lambda: scene.machine.started)
    writes = [ids for database, ids in scene.store.requests if database == JOBS and "job" in ids]
    assert len(writes) == 1 + 3
    await scene.run_script()
    await scene.settled()
    assert await scene.starts() == [attempt().execution_id]


async def test_nothing_is_planned_by_a_clock_that_was_just_set(scene):
    await scene.add_job()
    scene.steady = False
    scene.lead()
    await until(lambda: scene.looks)
    assert scene.machine.started == []
    scene.steady = True
    await scene.run_script()
    await scene.settled()


async def test_planning_gives_way_after_its_time_and_goes_on_later(scene, monkeypatch):
    monkeypatch.setattr(cycle, "DECIDE_SECONDS", -1.0)
    await scene.add_job()
    await scene.add_job("other", uid="01KB0000000000000000000009")
    scene.lead()
    await until(lambda: scene.scheduler._cycle._dirty)
    assert scene.machine.started == []
    monkeypatch.setattr(cycle, "DECIDE_SECONDS", 1.0)
    await until(lambda: len(scene.machine.started) == 2)


async def test_a_job_document_that_somebody_spoilt_stops_no_other(scene):
    await scene.add_job()
    [leaf] = (await scene.store.read(JOBS, ["job"]))[0]
    await scene.store.write(JOBS, [Document("spoilt", {**leaf.body, "place": "gone"})])
    scene.lead()
    await scene.run_script()
    await scene.settled()


async def test_what_is_claimed_and_runs_is_waited_for(scene):
    await scene.add_job(active=attempt())
    await scene.put(a_claim("earlier"))
    scene.lead()
    await until(lambda: scene.scheduler.report().active_count)
    await scene.put(an_outcome("earlier", State.FAILED))
    await scene.settled(State.FAILED)
    assert scene.machine.started == []


async def test_the_end_of_one_attempt_is_not_taken_for_that_of_another_which_was_read_meanwhile(scene):
    job = await scene.add_job(active=attempt(1))
    await scene.put(a_claim("one"))
    scene.lead()
    await until(lambda: scene.scheduler._tracker.get(attempt(1).execution_id))
    await until(lambda: scene.scheduler._tracker.get(attempt(1).execution_id).view.claims)
    assert scene.scheduler._cycle._view(job).claims
    later = replace(job, place=replace(job.place, active=attempt(2)))
    assert scene.scheduler._cycle._view(later) == AttemptView()
    assert scene.scheduler._tracker.doubtful == {attempt(2).execution_id}


async def test_what_ended_before_is_settled(scene):
    await scene.add_job(active=attempt())
    await scene.put(a_claim("earlier"), an_outcome("earlier", State.SUCCEEDED))
    scene.lead()
    await scene.settled()
    assert scene.machine.started == []


async def test_what_a_person_resolved_before_is_settled(scene):
    await scene.add_job(active=attempt())
    verdict = Verdict(attempt().execution_id, VerdictKind.FAILED, "somebody", "it hung", START)
    await scene.put(a_claim("earlier"), verdict)
    scene.lead()
    await scene.settled(State.FAILED)
    assert scene.machine.started == []


@pytest.mark.parametrize("term", [1, TERM])
async def test_what_nobody_started_is_retried_once_no_earlier_offer_can_become_a_claim(scene, term):
    """Also in the same term, where an earlier scheduler of this node may have left offers under way."""
    await scene.add_job(active=attempt(term=term))
    await scene.put(a_claim("earlier"), an_outcome("earlier", State.NOT_STARTED))
    scene.lead()
    await until(lambda: scene.scheduler.report().active_count)
    scene.clock.pass_seconds(CLAIM_SETTLE_SECONDS - 1)
    reads = len(scene.store.requests)
    await until(lambda: attempt().execution_id in scene.scheduler._tracker.doubtful)
    assert scene.machine.started == []
    assert len(scene.store.requests) == reads
    scene.clock.pass_seconds(2)
    await scene.run_script()
    await scene.settled()
    assert await scene.starts() == [attempt(2).execution_id]


async def test_two_branches_of_a_job_become_one_with_one_attempt(scene):
    job = await scene.add_job(active=attempt())
    idle = replace(job, place=replace(job.place, active=None, sequence=0))
    scene.store.branches["job"] = [
        Document("job", job_body(job), "1-a"),
        Document("job", job_body(idle), "1-b"),
    ]
    scene.lead()
    await scene.run_script()
    await until(lambda: len(scene.store.branches["job"]) == 1)
    await scene.settled()
    assert await scene.starts() == [attempt().execution_id]


async def test_a_manual_run_that_waits_is_launched(scene):
    await scene.add_job(next_at=START + timedelta(days=1), waiting=(ManualRun(new_ulid(START, bytes(10))),))
    scene.lead()
    await scene.run_script()
    await scene.settled()


# Jobs that change meanwhile.


async def pause_now(scene: Scene) -> None:
    [[leaf]] = await scene.store.read(JOBS, ["job"])
    paused = pause(job_of("job", leaf.body), START)
    await scene.store.write(JOBS, [Document("job", job_body(paused), leaf.revision)])


async def test_a_pause_while_a_script_runs_stays_and_its_end_is_settled(scene):
    await scene.add_job()
    scene.lead()
    await until(lambda: scene.machine.started)
    await pause_now(scene)
    await scene.run_script()
    assert (await scene.settled()).paused


async def test_a_pause_between_plan_and_intent_starts_nothing(scene):
    await scene.add_job()
    scene.store.faults["job"] = [partial(pause_now, scene)]
    scene.lead()
    book = scene.scheduler._book
    await until(lambda: (job := book.get("job")) is not None and job.paused)
    assert scene.store.faults["job"] == []
    assert (await scene.job()).place.active is None
    assert scene.machine.started == []


async def test_a_job_deleted_while_its_script_runs_is_followed_no_more(scene):
    await scene.add_job()
    scene.lead()
    await until(lambda: scene.machine.started)
    [[leaf]] = await scene.store.read(JOBS, ["job"])
    await scene.store.write(JOBS, [Document("job", {}, leaf.revision, deleted=True)])
    await until(lambda: scene.scheduler.report().active_count == 0)
    await scene.run_script()
    await until(lambda: not scene.worker.folders())
    assert len(await scene.store.outcomes()) == 1


async def test_a_new_job_is_noticed_without_a_poll(scene):
    scene.lead()
    await until(lambda: scene.scheduler._feeds._tasks)
    await scene.add_job()
    await scene.run_script()
    await scene.settled()


# Freeze and thaw.


async def test_a_leader_that_takes_over_a_frozen_cluster_offers_nothing_until_it_thaws(scene):
    await scene.settings(frozen=True, sequence=1)
    await scene.add_job(active=attempt(), next_at=START + timedelta(days=1))
    scene.lead()
    await until(lambda: scene.scheduler.report().waiting_count)
    await until(lambda: "frozen" in scene.scheduler.report().waiting[0].reason)
    assert scene.nodes.offers == []
    await scene.settings(frozen=False, sequence=2)
    await scene.run_script()
    await scene.settled()


async def test_what_falls_due_in_a_frozen_cluster_is_skipped_and_recorded(scene):
    await scene.settings(frozen=True, sequence=1)
    await scene.add_job()
    scene.lead()
    identifier = Skip(UID, START, START, SkipReason.FROZEN, 1).id
    async with asyncio.timeout(10):
        while not (await scene.store.read(MONTH, [identifier]))[0]:
            await asyncio.sleep(0.002)
        while (await scene.job()).place.skips:
            await asyncio.sleep(0.002)
    assert scene.machine.started == []
    assert sum(identifier in ids for _, ids in scene.store.requests) == 1


# What fails around it.


@pytest.fixture
def mute_feeds(scene, monkeypatch):
    async def mute(database, since, *, wait_seconds, limit=1000, known=None):
        if since is not None:
            await asyncio.Event().wait()
        return await type(scene.store).changes(scene.store, database, None, wait_seconds=0)

    monkeypatch.setattr(scene.store, "changes", mute)


@pytest.mark.usefixtures("mute_feeds")
async def test_without_any_news_from_the_feeds_reconciliation_finds_everything(scene, monkeypatch):
    monkeypatch.setattr(scheduler, "POLL_SECONDS", 0.02)
    scene.lead()
    await scene.add_job()
    await scene.run_script()
    await scene.settled()
    assert await scene.starts() == [attempt().execution_id]


@pytest.mark.usefixtures("mute_feeds")
async def test_what_the_first_poll_of_a_term_missed_is_found_soon(scene, monkeypatch):
    monkeypatch.setattr(scheduler, "EARLY_POLL_SECONDS", (0.2, 0.2))
    scene.lead()
    await asyncio.sleep(0.1)
    await scene.add_job()
    await scene.run_script()
    assert await scene.starts() == [attempt().execution_id]


async def test_a_job_that_cannot_be_planned_stops_no_other(scene, monkeypatch):
    step = cycle.step

    def poisoned(job, moment, view):
        if job.name == "bad":
            raise RuntimeError("defect")
        return step(job, moment, view)

    monkeypatch.setattr(cycle, "step", poisoned)
    await scene.add_job("bad")
    await scene.add_job("good", uid="01KB0000000000000000000009")
    scene.lead()
    await scene.run_script()
    await scene.settled(name="good")


async def test_an_unreachable_store_at_take_over_and_later_delays_and_loses_nothing(scene):
    await scene.add_job()
    scene.store.unreachable = True
    scene.lead()
    asked = asyncio.Event()

    async def ask() -> None:
        asked.set()

    scene.store.before_read = ask
    await asked.wait()
    scene.store.unreachable = False
    await until(lambda: scene.machine.started)
    scene.store.unreachable = True
    await scene.run_script()
    await until(lambda: scene.worker.outbox.store_trouble)
    scene.store.unreachable = False
    await scene.settled()
    assert await scene.starts() == [attempt().execution_id]


async def test_an_offer_whose_answer_is_lost_starts_one_attempt(scene):
    await scene.add_job()
    scene.nodes.deaf.add("a:1")
    scene.lead()
    await until(lambda: scene.machine.started)
    scene.nodes.deaf.clear()
    await scene.run_script()
    await scene.settled()
    assert await scene.starts() == [attempt().execution_id]


async def test_a_failed_claim_is_followed_by_one_start(scene):
    await scene.add_job()
    scene.store.faults[attempt().execution_id] = [WriteKind.UNSURE]
    scene.lead()
    await scene.run_script()
    await scene.settled()
    assert len(scene.machine.started) == 1
    assert await scene.starts() == [attempt(2).execution_id]


async def test_two_thousand_jobs_due_at_once_are_all_launched_in_bounded_writes(scene):
    jobs = [
        replace(sample_job(f"job-{number}", schedule="0 12 23 11 *"), uid=f"01KB{number:022d}")
        for number in range(2000)
    ]
    await scene.store.write(JOBS, [Document(job.name, job_body(job)) for job in jobs])
    before = len(scene.store.requests)
    nodes = FakeNodes()
    nodes.always("a", OfferResult.ACCEPTED)
    scene.lead(nodes)

    def offers() -> list[str]:
        return [execution_id for _, attempts in nodes.requests for execution_id in attempts]

    await until(lambda: len(offers()) >= 2000)
    assert len(set(offers())) == len(offers()) == 2000
    intents = [ids for database, ids in scene.store.requests[before:] if database == JOBS]
    assert sum(map(len, intents)) == 2000
    assert max(map(len, intents)) <= 2 * CYCLE_JOBS


# Losing the lead.


async def deposed(scene: Scene) -> None:
    """Wait for the end of the term, and see that nothing is written after it."""
    await asyncio.wait([scene.task])
    error = scene.task.exception()
    assert isinstance(error, ExceptionGroup)
    assert error.subgroup(Deposed) is not None and error.split(Deposed)[1] is None
    scene.task = None
    written = len(scene.store.requests)
    await scene.add_job("later", uid="01KB0000000000000000000008")
    scene.clock.pass_seconds(60)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(scene.store.requests) == written + 1


async def test_a_term_that_is_over_ends_everything(scene):
    await scene.add_job()
    scene.lead()
    await until(lambda: scene.machine.started)
    scene.leading = False
    await deposed(scene)


async def test_a_lead_lost_between_plan_and_intent_writes_nothing(scene):
    await scene.add_job()
    written = scene.job_writes()
    read = scene.store.read

    async def lose(database, ids):
        if ids == [SETTINGS_ID] and scene.scheduler._book.get("job") is not None:
            scene.leading = False
        return await read(database, ids)

    scene.store.read = lose
    scene.lead()
    await deposed(scene)
    assert scene.job_writes() == written + 1  # of `deposed`
    assert (await scene.job()).place.active is None


async def test_a_lead_lost_for_a_moment_ends_the_scheduler_rather_than_dropping_what_is_due(scene):
    await scene.add_job()
    read = scene.store.read

    async def lose(database, ids):
        if ids == [SETTINGS_ID] and scene.scheduler._book.get("job") is not None:
            scene.store.read = read
            scene.leading = False
            asyncio.get_running_loop().call_soon(setattr, scene, "leading", True)
        return await read(database, ids)

    scene.store.read = lose
    scene.lead(renewal_seconds=FAR)
    await deposed(scene)


async def test_a_lead_lost_between_intent_and_offer_offers_nothing_and_the_next_leader_does(scene):
    await scene.add_job()

    async def lose() -> None:
        scene.leading = False

    scene.store.faults["job"] = [lose]
    scene.lead()
    await deposed(scene)
    assert scene.nodes.offers == []
    assert (await scene.job()).place.active.execution_id == attempt().execution_id
    scene.leading = True
    scene.lead(term=TERM + 1)
    await until(lambda: (attempt().execution_id,) in [ids for _, _, ids in scene.nodes.offers])
    await until(lambda: scene.machine.started)
    assert attempt().execution_id in await scene.starts()


async def test_a_skip_record_is_copied_only_from_a_document_that_is_certain(scene):
    skip = Skip(UID, START - timedelta(minutes=2), START - timedelta(minutes=1), SkipReason.FROZEN, 2)
    await scene.add_job(next_at=START + timedelta(days=365), skips=(skip,))
    scene.store.faults["job"] = [WriteKind.UNSURE]
    scene.lead()
    await until(lambda: any(skip.id in ids for _, ids in scene.store.requests))
    order = [ids for _, ids in scene.store.requests if "job" in ids or skip.id in ids]
    assert order[:4] == [("job",), ("job",), ("job",), (skip.id,)], "added, unsure, certain, copied"


async def test_a_months_database_is_made_a_day_before_the_month_begins(scene, monkeypatch):
    made = []
    gone = iter([StoreUnreachable("away")])

    async def make_ready(database):
        for error in gone:
            raise error
        made.append(database)

    scene.store.make_ready = make_ready
    monkeypatch.setattr(scheduler, "POLL_SECONDS", 0.005)
    next_month = (START.replace(day=1) + timedelta(days=40)).replace(day=1, hour=0, minute=0, second=0)
    scene.clock.set_forward(next_month - timedelta(hours=25) - scene.clock.now())
    scene.lead()
    await until(lambda: made)
    assert set(made) == {MONTH}
    scene.clock.set_forward(timedelta(hours=2))
    await until(lambda: made[-1] == executions_database(next_month))


async def test_an_active_job_that_only_the_poll_names_is_followed(scene, monkeypatch):
    """The index of active jobs may be behind: it did not name this one at the take-over."""
    await scene.add_job(active=attempt(), next_at=START + timedelta(minutes=1))
    await scene.put(a_claim("earlier"), an_outcome("earlier", State.SUCCEEDED))
    find = scene.store.find

    async def behind(database, index, **bounds):
        return [] if index == "active_since" else await find(database, index, **bounds)

    monkeypatch.setattr(scene.store, "find", behind)
    scene.lead()
    await scene.settled()


@pytest.fixture
def far_ahead(monkeypatch):
    """As if very many were due."""
    monkeypatch.setattr(book, "AHEAD_PER_JOB", timedelta(seconds=2))


@pytest.mark.usefixtures("far_ahead")
async def test_an_occurrence_is_intended_and_claimed_ahead_and_starts_at_its_instant(scene):
    scene.clock.pass_seconds(-1.0)
    offers = []
    offer = scene.nodes.offer

    async def note(*arguments):
        offers.extend(arguments[-1])
        return await offer(*arguments)

    scene.nodes.offer = note
    await scene.add_job()
    scene.lead()
    await until(lambda: offers)
    assert [each.start_in_seconds for each in offers] == [1.0]
    active = (await scene.job()).place.active
    assert active.intended_at == START - timedelta(seconds=1)
    assert active.ahead_seconds == 1.0
    await until(lambda: scene.worker.executor._ahead)
    assert not scene.machine.started
    await scene.run_script()
    await scene.settled()
    assert await scene.starts() == [attempt().execution_id]


@pytest.mark.usefixtures("far_ahead")
async def test_what_is_paused_before_it_is_launched_ahead_is_left_alone(scene):
    scene.clock.pass_seconds(-3.0)
    job = await scene.add_job()
    scene.lead()
    await until(lambda: scene.scheduler._book.get("job"))
    [leaves] = await scene.store.read(JOBS, ["job"])
    await scene.store.write(JOBS, [Document("job", job_body(pause(job, START)), leaves[0].revision)])
    scene.clock.pass_seconds(2.0)
    await until(lambda: scene.scheduler._book.get("job") and scene.scheduler._book.get("job").paused)
    scene.clock.pass_seconds(1.5)
    await asyncio.sleep(0.05)
    assert not await scene.store.claims()


@pytest.mark.usefixtures("far_ahead")
async def test_what_falls_due_soon_in_a_frozen_cluster_is_decided_on_at_its_instant(scene):
    scene.clock.pass_seconds(-1.0)
    await scene.settings(frozen=True, sequence=1)
    job = await scene.add_job()
    scene.lead()
    await asyncio.sleep(0.05)
    assert (await scene.job()).place == job.place
    scene.clock.pass_seconds(1.0)
    await until(lambda: scene.scheduler._book.get("job").place.next_at > START)
    assert not scene.machine.started
