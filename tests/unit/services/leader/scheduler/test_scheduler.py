"""An occurrence has one attempt at a time, whatever is lost between intent, offer and settlement."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from dcron.domain.errors import StoreUnreachable
from dcron.domain.job_documents import job_body
from dcron.domain.model import Skip, SkipReason
from dcron.domain.offers import OfferResult
from dcron.ports import JOBS, Document, WriteKind, executions_database
from dcron.services.leader import decider, scheduler
from dcron.services.leader.decider import CYCLE_JOBS
from tests.doubles import START, UID, FakeNodes, sample_job, until
from tests.service_doubles import MONTH
from tests.unit.services.leader.scheduler.scene import attempt


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
    step = decider.step

    def poisoned(job, moment, view):
        if job.name == "bad":
            raise RuntimeError("defect")
        return step(job, moment, view)

    monkeypatch.setattr(decider, "step", poisoned)
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
