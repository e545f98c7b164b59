"""Jobs that change, and a cluster that is frozen, while their occurrences fall due."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

from dcron.domain.changes import pause
from dcron.domain.job_documents import job_body, job_of
from dcron.domain.model import Skip, SkipReason
from dcron.ports import JOBS, Document
from tests.doubles import START, UID, until
from tests.service_doubles import MONTH
from tests.unit.services.leader.scheduler.scene import Scene, attempt

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
