"""What is launched ahead of its instant."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from dcron.domain.changes import pause
from dcron.domain.job_documents import job_body
from dcron.ports import JOBS, Document
from dcron.services.leader import due_queue
from tests.doubles import START, until
from tests.unit.services.leader.scheduler.scene import attempt


@pytest.fixture
def far_ahead(monkeypatch):
    """As if very many were due."""
    monkeypatch.setattr(due_queue, "AHEAD_PER_JOB", timedelta(seconds=2))


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
    # On a busy machine the book may not have the job yet.
    await until(lambda: (held := scene.scheduler._book.get("job")) and held.place.next_at > START)
    assert not scene.machine.started
