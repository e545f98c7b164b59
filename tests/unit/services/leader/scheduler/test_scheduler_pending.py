"""What waits for a worker follows what becomes of its job, of the nodes and of the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from dcron.domain.changes import change, pause, request_run
from dcron.domain.documents import node_key
from dcron.domain.job_documents import job_body, job_of
from dcron.domain.model import Job, State
from dcron.domain.nodes import NodeRecord, node_body
from dcron.domain.offers import OfferAnswer, OfferResult
from dcron.ports import CLUSTER, JOBS, Document, WriteKind
from dcron.services.leader import dispatcher
from dcron.services.leader.dispatcher import CLAIM_SETTLE_SECONDS
from tests.doubles import START, request_id, until
from tests.unit.services.leader.scheduler.scene import Scene, a_claim, an_outcome, attempt

YEAR = timedelta(days=365)
MISSPELT = {"zone": "ood"}


async def rewrite(scene: Scene, changed: Callable[[Job], Job]) -> None:
    """A client's change that was answered."""
    [[leaf]] = await scene.store.read(JOBS, ["job"])
    body = job_body(changed(job_of("job", leaf.body)))
    [result] = await scene.store.write(JOBS, [Document("job", body, leaf.revision)])
    assert result.done


def labelled(**labels: str) -> Callable[[Job], Job]:
    return lambda job: change(job, replace(job.specification, labels=labels), START)


async def relabel_node(scene: Scene, **labels: str) -> None:
    record = NodeRecord("a", "t", "s", "a:1", "1", 50, START, START, labels=labels)
    [leaves] = await scene.store.read(CLUSTER, [node_key("a")])
    await scene.store.write(CLUSTER, [Document(node_key("a"), node_body(record), leaves[0].revision)])


def reasons(scene: Scene) -> list[str]:
    return [each.reason for each in scene.scheduler.report().waiting]


async def waits(scene: Scene, for_what: str) -> None:
    await until(lambda: [for_what in reason for reason in reasons(scene)] == [True])


async def test_a_job_with_a_misspelt_label_starts_once_that_is_mended(scene):
    await scene.add_job()
    await rewrite(scene, labelled(**MISSPELT))
    scene.lead()
    await waits(scene, "zone=ood")
    await rewrite(scene, labelled())
    await scene.run_script()
    await scene.settled()
    [claim] = await scene.store.claims()
    assert claim.revision == 3
    assert await scene.starts() == [attempt().execution_id]


async def test_a_job_that_is_changed_twice_waits_for_what_it_says_last(scene):
    await scene.add_job()
    await rewrite(scene, labelled(**MISSPELT))
    scene.lead()
    await waits(scene, "zone=ood")
    await rewrite(scene, labelled(zone="even"))
    await waits(scene, "zone=even")
    await rewrite(scene, labelled(disk="ssd"))
    await waits(scene, "disk=ssd")
    assert scene.machine.started == []


@pytest.mark.parametrize("result", [OfferResult.BUSY, OfferResult.UNABLE, OfferResult.DRAINING])
async def test_what_is_changed_while_it_is_offered_and_then_refused_is_offered_as_it_is_now(scene, result):
    offer, go_on, offered = scene.nodes.offer, asyncio.Event(), asyncio.Event()

    async def refuse(*_):
        offered.set()
        await go_on.wait()
        scene.nodes.offer = offer
        return [OfferAnswer(result)]

    scene.nodes.offer = refuse
    await scene.add_job()
    scene.lead()
    await offered.wait()
    await rewrite(scene, labelled(zone="odd"))
    await until(lambda: (job := scene.scheduler._book.get("job")) is not None and job.revision == 2)
    await until(lambda: not scene.scheduler._knowledge.tracker.doubtful)
    await asyncio.sleep(0.1)  # The leader has time to trust what it has read.
    go_on.set()
    await waits(scene, "zone=odd")


async def test_a_next_attempt_that_waits_follows_its_job_too(scene):
    await scene.add_job(active=attempt(2, after=("one",)), next_at=START + YEAR)
    await rewrite(scene, labelled(**MISSPELT))
    await scene.put(a_claim("one"), an_outcome("one", State.TIMED_OUT))
    scene.lead()
    await waits(scene, "zone=ood")
    await rewrite(scene, labelled())
    await scene.run_script()
    await scene.settled()
    assert await scene.starts() == [attempt(2).execution_id]


async def test_a_change_that_the_store_does_not_confirm_to_the_leader_is_not_offered_yet(scene):
    await scene.add_job()
    await rewrite(scene, labelled(**MISSPELT))
    scene.lead()
    await waits(scene, "zone=ood")
    await rewrite(scene, labelled())
    scene.store.faults["job"] = [WriteKind.UNSURE] * 3
    await until(lambda: not scene.store.faults["job"])
    assert scene.nodes.offers == []
    await scene.run_script()
    await scene.settled()


async def test_a_manual_run_that_comes_to_a_job_changes_nothing_of_what_waits(scene):
    await scene.add_job()
    await rewrite(scene, labelled(**MISSPELT))
    scene.lead()
    await waits(scene, "zone=ood")
    written = scene.job_writes()
    await rewrite(scene, lambda job: request_run(job, request_id(1)))
    await until(lambda: (job := scene.scheduler._book.get("job")) is not None and job.place.waiting)
    await waits(scene, "zone=ood")
    assert scene.job_writes() == written + 1


async def test_what_waited_when_its_job_was_paused_runs_under_the_newest_revision(scene):
    """It was due before the pause."""
    await scene.add_job()
    await rewrite(scene, labelled(zone="odd"))
    scene.lead()
    await waits(scene, "zone=odd")
    await rewrite(scene, lambda job: pause(job, START))
    await until(lambda: (job := scene.scheduler._book.get("job")) is not None and job.paused)
    await relabel_node(scene, zone="odd")
    await scene.run_script()
    assert (await scene.settled()).paused
    [claim] = await scene.store.claims()
    assert claim.revision == 3


async def test_what_waits_of_a_job_that_is_deleted_waits_no_more(scene):
    await scene.add_job()
    await rewrite(scene, labelled(**MISSPELT))
    scene.lead()
    await waits(scene, "zone=ood")
    [[leaf]] = await scene.store.read(JOBS, ["job"])
    await scene.store.write(JOBS, [Document("job", {}, leaf.revision, deleted=True)])
    await until(lambda: not scene.scheduler.report().waiting_count)
    assert scene.scheduler.report().active_count == 0


async def test_what_waits_from_before_a_raised_floor_is_given_up(scene):
    """No worker would take it ever again."""
    await scene.add_job()
    await rewrite(scene, labelled(**MISSPELT))
    scene.lead()
    await waits(scene, "zone=ood")
    await scene.settings(floor=START + timedelta(seconds=1), sequence=1)
    await until(lambda: not scene.scheduler.report().waiting_count)
    scene.clock.pass_seconds(CLAIM_SETTLE_SECONDS + 1)
    async with asyncio.timeout(10):
        while (await scene.job()).place.active is not None:
            await asyncio.sleep(0.002)
    assert scene.nodes.offers == []


@pytest.mark.parametrize("by_feed", [True, False])
async def test_what_is_claimed_though_the_answer_was_lost_waits_no_more(scene, by_feed):
    """The claimant cannot be asked again: else it would be told to wait for a worker while it runs."""
    await scene.add_job(active=attempt(), next_at=START + YEAR)
    scene.nodes.unreachable.add("a:1")
    if not by_feed:
        scene.store.changes = silent_feed(scene)
    scene.lead()
    await until(lambda: scene.nodes.offers or scene.scheduler.report().waiting_count)
    await waits(scene, "no answer")
    await scene.put(a_claim("lost"))
    await until(lambda: not scene.scheduler.report().waiting_count)
    assert scene.scheduler.report().active_count == 1


def silent_feed(scene: Scene) -> Callable[..., object]:
    """The feed of executions tells nothing."""
    changes = scene.store.changes

    async def silent(database, since, **options):
        batch = await changes(database, since, **options)
        return batch if database in (JOBS, CLUSTER) else replace(batch, documents=[])

    return silent


async def test_what_waited_for_a_thaw_says_so_no_more_while_all_slots_are_taken(scene):
    await scene.settings(frozen=True, sequence=1)
    await scene.add_job(active=attempt(), next_at=START + YEAR)
    scene.lead()
    await waits(scene, "frozen")
    scene.worker.worker._slots = 0
    await scene.settings(frozen=False, sequence=2)
    await waits(scene, "all slots are taken")
    scene.worker.worker._slots = 1
    scene.clock.pass_seconds(dispatcher.SWEEP_SECONDS * 2)
    await scene.run_script()
    await scene.settled()


async def test_a_node_that_comes_back_with_other_labels_takes_what_waited_for_them(scene):
    await scene.add_job()
    await rewrite(scene, labelled(zone="odd"))
    scene.lead()
    await waits(scene, "zone=odd")
    await relabel_node(scene, zone="odd")
    await scene.run_script()
    await scene.settled()


async def test_an_intent_that_is_written_over_before_its_answer_comes_is_offered_as_that_says(scene):
    """The leader reads the job for another reason, before it hears that its own write was done."""
    await scene.add_job()
    write = scene.store.write

    async def overtaken(database, documents):
        results = await write(database, documents)
        if database == JOBS and documents[0].body.get("active_since"):
            scene.store.write = write
            await rewrite(scene, labelled(zone="odd"))
            await scene.scheduler._book.load(["job"])
        return results

    scene.store.write = overtaken
    scene.lead()
    await waits(scene, "zone=odd")
    assert scene.nodes.offers == []
    await relabel_node(scene, zone="odd")
    await scene.run_script()
    await scene.settled()
    [claim] = await scene.store.claims()
    assert claim.revision == 2
