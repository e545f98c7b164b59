"""A leader goes on with what another one left, and leaves what it has when it must not lead any more."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from dcron.domain.attempt_results import AttemptView
from dcron.domain.documents import SETTINGS_ID, claim_body
from dcron.domain.ids import new_ulid
from dcron.domain.job_documents import job_body
from dcron.domain.model import ManualRun, State, Verdict, VerdictKind
from dcron.ports import JOBS, Document, WriteKind
from dcron.services.leader import decider
from dcron.services.leader.dispatcher import CLAIM_SETTLE_SECONDS
from dcron.services.leader.mandate import Deposed
from tests.doubles import START, until
from tests.unit.services.leader.scheduler.scene import FAR, TERM, Scene, a_claim, an_outcome, attempt

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
    monkeypatch.setattr(decider, "DECIDE_SECONDS", -1.0)
    await scene.add_job()
    await scene.add_job("other", uid="01KB0000000000000000000009")
    scene.lead()
    await until(lambda: scene.scheduler._decider._dirty)
    assert scene.machine.started == []
    monkeypatch.setattr(decider, "DECIDE_SECONDS", 1.0)
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
    assert scene.scheduler._decider._view(job).claims
    later = replace(job, place=replace(job.place, active=attempt(2)))
    assert scene.scheduler._decider._view(later) == AttemptView()
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


async def test_what_its_claimant_has_closed_is_retried_without_waiting_for_earlier_offers(scene):
    await scene.add_job(active=attempt())
    closing = replace(an_outcome("earlier", State.NOT_STARTED), closes=True)
    await scene.put(a_claim("earlier"), closing)
    scene.lead()
    await scene.run_script()
    await scene.settled()
    assert await scene.starts() == [attempt(2).execution_id]


async def test_what_one_claimant_has_closed_waits_for_every_other_that_is_read(scene):
    await scene.add_job(active=attempt())
    scene.store.branches[attempt().execution_id] = [
        Document(attempt().execution_id, claim_body(a_claim(token)), f"1-{token}") for token in ("one", "two")
    ]
    await scene.put(replace(an_outcome("one", State.NOT_STARTED), closes=True))
    scene.lead()
    await until(lambda: scene.scheduler._tracker.get(attempt().execution_id))
    await until(lambda: scene.scheduler._tracker.get(attempt().execution_id).view.claims)
    await scene.put(an_outcome("two", State.SUCCEEDED))
    job = await scene.settled()
    assert job.place.last.execution_id == attempt().execution_id
    assert scene.machine.started == []


async def test_a_next_attempt_goes_on_under_a_new_leader_once_the_one_before_it_was_closed(scene):
    await scene.add_job(active=attempt(2, after=("earlier",)), next_at=START + timedelta(days=365))
    await scene.put(a_claim("earlier"), replace(an_outcome("earlier", State.NOT_STARTED), closes=True))
    scene.lead()
    await scene.run_script()
    await scene.settled()
    assert await scene.starts() == [attempt(2).execution_id]


async def test_silence_that_earlier_leaders_measured_counts_and_is_told_on(scene):
    await scene.add_job(active=attempt())
    await scene.put(a_claim("silent", node_id="gone"))
    since = {"silent": scene.clock.monotonic() - FAR, "settled": scene.clock.monotonic() - 2 * FAR}
    scene.lead(claims_since=since)
    assert scene.scheduler.report().claims_known_seconds == {"silent": FAR, "settled": 2 * FAR}
    await until(lambda: scene.scheduler.report().claims_known_seconds == {"silent": FAR})
    await scene.run_script()
    await scene.settled()
    assert await scene.starts() == [attempt(2).execution_id]


async def test_an_attempt_that_was_intended_without_cause_is_taken_back(scene):
    """On a copy of the store that was cut off: it did not know who had claimed the one before meanwhile."""
    await scene.add_job(active=attempt(2, after=("refused",)), next_at=START + timedelta(days=365))
    await scene.put(a_claim("meanwhile"))
    scene.lead()
    await until(lambda: scene.scheduler._tracker.get(attempt(2).execution_id))
    scene.clock.pass_seconds(CLAIM_SETTLE_SECONDS + 1)
    await until(lambda: scene.scheduler._tracker.get(attempt(1).execution_id))
    await scene.put(an_outcome("meanwhile", State.SUCCEEDED))
    job = await scene.settled()
    assert job.place.last.execution_id == attempt(1).execution_id
    assert scene.machine.started == []


@pytest.mark.parametrize("state", [None, State.TIMED_OUT, State.NOT_STARTED])
async def test_an_attempt_that_was_intended_with_cause_is_offered(scene, state):
    """Without an outcome its leader had waited for it in vain."""
    await scene.add_job(active=attempt(2, after=("earlier",)), next_at=START + timedelta(days=365))
    await scene.put(a_claim("earlier"), *([an_outcome("earlier", state)] if state else []))
    scene.lead()
    await until(lambda: scene.scheduler._tracker.get(attempt(2).execution_id))
    scene.clock.pass_seconds(CLAIM_SETTLE_SECONDS + 1)
    await scene.run_script()
    await scene.settled()
    assert await scene.starts() == [attempt(2).execution_id]


async def test_an_attempt_whose_predecessor_succeeded_after_all_is_not_started(scene):
    await scene.add_job(active=attempt(2, after=("late",)), next_at=START + timedelta(days=365))
    await scene.put(a_claim("late"), an_outcome("late", State.SUCCEEDED))
    scene.lead()
    await until(lambda: scene.scheduler._tracker.get(attempt(2).execution_id))
    scene.clock.pass_seconds(CLAIM_SETTLE_SECONDS + 1)
    job = await scene.settled()
    assert job.place.last.execution_id == attempt(1).execution_id
    assert scene.machine.started == []


async def test_an_attempt_that_waits_for_a_worker_is_withdrawn_when_its_predecessor_has_succeeded(scene):
    await scene.add_job(active=attempt(2, after=("late",)), next_at=START + timedelta(days=365))
    await scene.put(a_claim("late"))
    scene.nodes.unreachable.add("a:1")
    scene.lead()
    await until(lambda: scene.scheduler.report().waiting_count)
    await scene.put(an_outcome("late", State.SUCCEEDED))
    scene.scheduler._tracker.doubt(attempt(2).execution_id)
    await until(lambda: not scene.scheduler.report().waiting_count)
    scene.clock.pass_seconds(CLAIM_SETTLE_SECONDS + 1)
    job = await scene.settled()
    assert job.place.last.execution_id == attempt(1).execution_id
    assert scene.machine.started == []


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
