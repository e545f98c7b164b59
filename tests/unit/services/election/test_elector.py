"""One node leads at a time, by a term that it won for certain, and stops before others may take over."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from dcron.domain.documents import INITIAL_SETTINGS, SETTINGS_ID, node_key, settings_body, term_key
from dcron.ports import CLUSTER, Document, WriteKind
from dcron.services.election import clock_check
from dcron.services.election import elector as elector_module
from dcron.services.leader.mandate import Deposed
from tests.doubles import START, until
from tests.unit.services.election.scene import LEASE


async def test_the_first_node_leads_the_first_term_and_says_so(scene):
    node = await scene.leader()
    assert await scene.terms() == [1]
    record = await scene.record("a")
    assert (record.leading, record.running, record.spooled, record.warnings) == (1, 1, 2, ("something",))
    assert node.elector.leader_id() == "a"
    assert node.elector.summary() == "a leads term 1"
    await node.round()
    assert (await scene.record("a")).report.active_count == 7


async def test_of_two_that_claim_at_once_one_leads(scene):
    first, second = scene.node("a"), scene.node("b")
    await asyncio.gather(first.elector._round(), second.elector._round())
    await asyncio.sleep(0)
    assert [first.leads(), second.leads()].count(True) == 1
    assert await scene.terms() == [1]


async def test_a_silent_leader_is_followed_for_a_lease_and_then_replaced(scene):
    await scene.leader("a")
    follower = scene.node("b")
    await follower.round()
    await follower.rounds(LEASE.length_seconds - LEASE.renewal_seconds)
    assert not follower.leads()
    assert follower.elector.leader_id() == "a"
    await follower.rounds(LEASE.renewal_seconds * 2)
    assert follower.leads()
    assert await scene.terms() == [1, 2]


async def test_a_new_leader_knows_which_revision_the_silent_one_stayed_at(scene):
    await scene.leader("a")
    follower = scene.node("b")
    await follower.round()
    [[leaf]] = await scene.store.read(CLUSTER, [node_key("a")])
    await follower.rounds(LEASE.length_seconds + LEASE.renewal_seconds)
    assert follower.leads()
    assert follower.schedulers[0].leadership.silent == {"a": leaf.revision}


async def test_a_new_leader_goes_on_from_the_silence_that_the_last_one_measured(scene):
    leader = await scene.leader("a")
    leader.schedulers[0].claims_known_seconds = {"token": 30.0, "settled soon": 5.0}
    await leader.rounds(LEASE.renewal_seconds)
    follower = scene.node("b")
    await follower.round()
    began = scene.clock.monotonic()
    leader.schedulers[0].claims_known_seconds = {"token": 32.0}
    await leader.rounds(LEASE.renewal_seconds)
    await follower.rounds(LEASE.length_seconds + LEASE.renewal_seconds)
    assert follower.leads()
    assert follower.schedulers[0].leadership.claims_since == {"token": began - 30.0}


async def test_a_leader_that_tells_nothing_yet_takes_nothing_away_from_what_is_known(scene):
    leader = await scene.leader("a")
    leader.schedulers[0].claims_known_seconds = {"token": 30.0}
    await leader.rounds(LEASE.renewal_seconds)
    follower = scene.node("b")
    await follower.round()
    began = scene.clock.monotonic()
    leader.schedulers[0].claims_known_seconds = None
    await leader.rounds(LEASE.renewal_seconds)
    await follower.rounds(LEASE.length_seconds + LEASE.renewal_seconds)
    assert follower.schedulers[0].leadership.claims_since == {"token": began - 30.0}


async def test_a_claimant_that_was_paused_past_a_lease_does_not_lead_when_it_wakes(scene):
    node, other = scene.node("a"), scene.node("b")
    await node.elector.join()

    async def sleep_past_the_lease() -> None:
        scene.clock.pass_seconds(LEASE.length_seconds)
        body = {
            "kind": "term",
            "node": "b",
            "token": other.elector._own.record.incarnation,
            "claimed_at": "-",
        }
        await scene.store.write(CLUSTER, [Document(term_key(2), body)])

    scene.store.faults[node_key("a")] = [sleep_past_the_lease]
    await node.round()
    assert not node.leads()
    assert node.elector.term() == 2


async def test_a_leader_that_renews_is_never_replaced(scene):
    leader = await scene.leader("a")
    follower = scene.node("b")
    for _ in range(20):
        scene.clock.pass_seconds(LEASE.renewal_seconds)
        await follower.round()
        await leader.round()
    assert leader.leads() and not follower.leads()
    assert await scene.terms() == [1]
    assert len(leader.schedulers) == 1


async def test_a_store_outage_ends_leading_before_the_lease_and_the_same_term_goes_on_after_it(scene):
    leader = await scene.leader()
    scene.store.unreachable = True
    await leader.rounds(2.0)
    assert leader.leads()
    await leader.rounds(2.0)
    assert not leader.leads()
    assert leader.schedulers[0].ended
    assert "cannot reach the document store" in leader.elector.summary()
    since = leader.elector.store_trouble.since
    assert since is not None and since < leader.clock.now()
    assert leader.elector.leader_id() == ""
    scene.store.unreachable = False
    await leader.round()
    assert leader.leads()
    assert leader.elector.store_trouble.since is None
    assert leader.elector.summary() == "a leads term 1"
    assert await scene.terms() == [1]


async def test_a_leader_whose_lease_ends_says_that_it_stops_leading(scene):
    leader = await scene.leader()
    scene.store.unreachable = True
    with capture_logs() as logs:
        await leader.rounds(4.0)
    assert not leader.leads()
    assert {"event": "stops leading", "action": "lead", "term": 1, "log_level": "info"} in logs


async def test_a_renewal_whose_answer_was_lost_costs_no_leadership(scene):
    leader = await scene.leader()
    scene.store.faults["node:a"] = ["committed"]
    await leader.rounds(2.0)
    await leader.rounds(2.0)
    assert leader.leads()
    assert len(leader.schedulers) == 1


async def test_a_renewal_without_a_quorum_does_not_prolong_the_lease(scene):
    leader = await scene.leader()
    until_before = leader.elector._lead_until
    scene.store.faults["node:a"] = [WriteKind.UNSURE] * 2
    await leader.rounds(2.0)
    assert leader.elector._lead_until == until_before


async def test_a_node_document_that_was_deleted_is_written_anew(scene):
    leader = await scene.leader()
    [[leaf]] = await scene.store.read(CLUSTER, [node_key("a")])
    await scene.store.write(CLUSTER, [Document(leaf.id, {}, leaf.revision, deleted=True)])
    await leader.rounds(2.0)
    assert leader.leads()
    assert (await scene.record("a")).leading == 1


@pytest.mark.parametrize("fault", [WriteKind.UNSURE, "committed"])
async def test_a_term_without_a_plain_success_is_never_led_and_the_next_one_comes_after_a_lease(scene, fault):
    node = scene.node()
    scene.store.faults["term:"] = [fault]
    await node.round()
    await node.rounds(LEASE.length_seconds - LEASE.renewal_seconds)
    assert node.schedulers == []
    assert await scene.terms() == [1]
    assert (await scene.record("a")).leading == 0
    await node.rounds(LEASE.renewal_seconds * 3)
    assert node.leads()
    assert node.schedulers[0].leadership.term == 2


async def test_a_term_that_cannot_be_claimed_nor_read_is_not_claimed_in_a_tight_loop(scene):
    node = scene.node()
    scene.store.faults["term:"] = [WriteKind.LOST]
    began_at = scene.clock.monotonic()
    await node.round()
    assert node.elector._pause_seconds(began_at) >= LEASE.renewal_seconds / 2


async def test_a_slow_store_does_not_make_renewals_rarer(scene):
    leader = await scene.leader()
    began_at = scene.clock.monotonic()
    assert leader.elector._pause_seconds(began_at) == LEASE.renewal_seconds
    assert leader.elector._pause_seconds(began_at - 1.5) == pytest.approx(0.5)
    assert leader.elector._pause_seconds(began_at - 60) == elector_module.MIN_PAUSE_SECONDS


async def test_a_leader_that_was_paused_may_not_act_when_it_wakes(scene):
    leader = await scene.leader("a")
    may_lead = leader.schedulers[0].leadership.may_lead
    assert may_lead()
    scene.clock.pass_seconds(LEASE.leading_seconds)
    assert not may_lead()
    follower = scene.node("b")
    await follower.round()
    await follower.rounds(LEASE.length_seconds)
    assert follower.leads()

    async def look() -> None:
        assert not may_lead()

    scene.store.before_read = look
    await leader.round()
    assert scene.store.before_read is None
    assert not may_lead()
    assert not leader.leads()
    assert leader.elector.leader_id() == "b"


async def test_a_leader_whose_machine_slept_may_not_act_when_it_wakes(scene, monkeypatch):
    leader = await scene.leader()
    asleep_until = scene.clock.boottime() + 3600
    monkeypatch.setattr(scene.clock, "boottime", lambda: asleep_until)
    assert not leader.schedulers[0].leadership.may_lead()


async def test_a_clock_that_goes_wrong_resigns_and_one_that_comes_right_leads_again(scene):
    leader = await scene.leader()
    scene.store.offset = timedelta(seconds=30)
    await leader.rounds(clock_check.CHECK_SECONDS + 2)
    assert not leader.leads()
    assert (await scene.record("a")).resigned == 1
    assert "clock is -30 s off" in leader.elector.summary()
    scene.store.offset = timedelta()
    await leader.rounds(clock_check.CHECK_SECONDS + 2)
    assert leader.leads()
    assert await scene.terms() == [1, 2]


async def test_a_resignation_is_taken_up_at_once(scene):
    await scene.leader("a")
    follower = scene.node("b")
    await follower.round()
    scene.store.offset = timedelta(seconds=30)
    scene.clock.pass_seconds(clock_check.CHECK_SECONDS)
    follower.elector._clock_check._compared_boottime = scene.clock.boottime()
    follower.elector._clock_check._compared_wall = scene.clock.now()
    await scene.made[0].round()
    await follower.round()
    assert follower.leads()
    assert follower.schedulers[0].leadership.silent == {}


async def test_a_wall_clock_that_is_set_is_distrusted_at_once_and_compared_with_the_stores(scene):
    leader = await scene.leader()
    steady = leader.elector._clock_check.is_steady
    assert steady()
    scene.clock.set_forward(timedelta(hours=1))
    scene.store.offset = -timedelta(hours=1)
    assert not steady()
    assert "being compared" in leader.elector.clock_trouble()
    await leader.round()
    assert not leader.leads()
    assert "+3600 s" in leader.elector.clock_trouble()


async def test_a_defect_in_the_scheduler_makes_another_one_after_a_pause(scene, monkeypatch):
    monkeypatch.setattr(elector_module, "RESTART_SECONDS", 1000.0)
    leader = scene.node()
    leader.failure = RuntimeError("defect")
    for _ in range(5):
        await leader.round()
    assert len(leader.schedulers) == 1
    monkeypatch.setattr(elector_module, "RESTART_SECONDS", 0.0)
    await leader.stop()
    await leader.round()
    await until(leader.elector._leading.done)
    leader.failure = None
    await leader.round()
    assert leader.leads()


async def test_a_scheduler_that_cannot_be_made_is_tried_again(scene, monkeypatch):
    monkeypatch.setattr(elector_module, "RESTART_SECONDS", 0.0)
    leader = scene.node()
    make, failures = leader.elector._make_scheduler, [RuntimeError("defect")]

    def make_later(leadership):
        if failures:
            raise failures.pop()
        return make(leadership)

    leader.elector._make_scheduler = make_later
    await leader.round()
    await until(leader.elector._leading.done)
    assert leader.elector._leading.exception() is None
    await leader.round()
    assert leader.leads()


async def test_a_scheduler_that_was_deposed_is_made_anew_when_its_term_is_still_held(scene):
    leader = scene.node()
    leader.failure = Deposed()
    await leader.round()
    await until(leader.elector._leading.done)
    leader.failure = None
    await leader.round()
    assert leader.leads()


async def test_a_higher_term_ends_leading(scene):
    leader = await scene.leader("a")
    body = {
        "kind": "term",
        "node": "b",
        "token": "incarnation-b",
        "claimed_at": "2026-11-23T12:00:00.000000Z",
    }
    await scene.store.write(CLUSTER, [Document(term_key(2), body)])
    await leader.round()
    assert not leader.leads()
    assert leader.local.newest_term == 2


async def test_a_drain_and_the_floor_are_learnt_with_each_round(scene):
    node = await scene.leader()
    body = settings_body(replace(INITIAL_SETTINGS, floor=START, sequence=1))
    [[settings]] = await scene.store.read(CLUSTER, [SETTINGS_ID])
    await scene.store.write(CLUSTER, [Document(SETTINGS_ID, body, settings.revision)])
    await scene.store.write(CLUSTER, [Document("drain:a", {"draining": True})])
    await node.round()
    assert node.local.draining
    assert node.local.floor == START
    await node.round()
    assert (await scene.record("a")).draining


async def test_a_copy_that_knows_of_no_drain_and_no_floor_ends_neither(scene):
    node = await scene.leader()
    node.local.draining = True
    node.local.saw_floor(START)
    [[settings]] = await scene.store.read(CLUSTER, [SETTINGS_ID])
    await scene.store.write(CLUSTER, [Document(SETTINGS_ID, {}, settings.revision, deleted=True)])
    await node.round()
    assert node.local.draining
    assert node.local.floor == START
