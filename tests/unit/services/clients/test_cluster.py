"""A freeze and its end, on a store that may have been split meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from dcron.adapters.memory import MemoryDocumentStore
from dcron.domain.documents import INITIAL_SETTINGS, SETTINGS_ID, settings_body, settings_of
from dcron.ports import CLUSTER, Document
from dcron.services.clients import cluster
from dcron.services.clients.cluster import ClusterService
from dcron.services.shared.cluster_settings import KnownSettings, merge_settings, read_settings
from tests.doubles import START, ManualClock

SAID = replace(INITIAL_SETTINGS, said_at=START, sequence=4)
LATER = START + timedelta(seconds=20)


class Leaderless:
    """An `ElectorView` of a node whose clock is fine."""

    def clock_trouble(self) -> str:
        return ""


def test_of_two_branches_the_last_word_counts_though_the_other_was_written_more_often():
    freeze = replace(SAID, frozen=True, frozen_at=START, sequence=9)
    thaw = replace(SAID, said_at=LATER)
    for leaves in ([freeze, thaw], [thaw, freeze]):
        assert merge_settings(leaves) == thaw


def test_of_two_words_at_once_the_careful_one_counts():
    freeze = replace(SAID, frozen=True, frozen_at=START)
    for leaves in ([freeze, SAID], [SAID, freeze]):
        assert merge_settings(leaves).frozen


def test_a_freeze_ended_when_it_was_first_said_to():
    """What was due after that is not skipped for it, although a copy that was cut off was told later."""
    end = replace(SAID, frozen_at=START, thawed_at=LATER, said_at=LATER)
    told_late = LATER + timedelta(seconds=10)
    again = replace(end, thawed_at=told_late, said_at=told_late, sequence=99)
    other_freeze = replace(end, frozen_at=START - timedelta(seconds=60), thawed_at=START)
    assert merge_settings([end, again, other_freeze]) == replace(again, thawed_at=LATER)


def test_a_floor_that_was_raised_stays_raised():
    raised = replace(SAID, floor=LATER)
    assert merge_settings([raised, replace(SAID, said_at=LATER)]).floor == LATER


def test_settings_come_back_from_the_store_as_they_were():
    settings = replace(SAID, frozen=True, frozen_at=START, thawed_at=LATER)
    assert settings_of(settings_body(settings)) == settings


async def test_what_was_read_is_not_taken_back_for_what_a_copy_alone_still_has():
    store = MemoryDocumentStore()
    known = KnownSettings(store)

    async def stored(settings):
        [leaves] = await store.read(CLUSTER, [SETTINGS_ID])
        document = Document(SETTINGS_ID, settings_body(settings), leaves[0].revision if leaves else None)
        assert (await store.write(CLUSTER, [document]))[0].done

    freeze = replace(SAID, frozen=True, frozen_at=START)
    thaw = replace(SAID, said_at=LATER, sequence=5)
    for settings in (thaw, freeze):
        await stored(settings)
        assert await known.read() == thaw
    # Said later, by a clock that is behind.
    again = replace(freeze, sequence=6, said_at=START - timedelta(seconds=1))
    await stored(again)
    assert await known.read() == again


async def test_a_word_that_changes_nothing_counts_as_said_nevertheless():
    store, clock = MemoryDocumentStore(), ManualClock()
    service = ClusterService(store, clock, Leaderless(), lambda: ())
    await store.write(CLUSTER, [Document(SETTINGS_ID, settings_body(INITIAL_SETTINGS))])
    await service._set_frozen(frozen=True)
    frozen_at = clock.now()
    clock.pass_seconds(20)
    await service._set_frozen(frozen=True)
    settings = await read_settings(store)
    assert (settings.frozen_at, settings.said_at) == (frozen_at, clock.now())
    clock.pass_seconds(20)
    for _ in range(2):
        await service._set_frozen(frozen=False)
    settings = await read_settings(store)
    assert (settings.frozen, settings.thawed_at, settings.said_at) == (False, clock.now(), clock.now())


async def test_a_freeze_is_answered_once_what_was_launched_ahead_has_come(monkeypatch):
    monkeypatch.setattr(cluster, "AHEAD_SECONDS", 0.2)
    store = MemoryDocumentStore()
    service = ClusterService(store, ManualClock(), Leaderless(), lambda: ())

    async def status():
        return await read_settings(store)

    monkeypatch.setattr(service, "status", status)
    freezing = asyncio.create_task(service.freeze())
    async with asyncio.timeout(5):
        while not (await read_settings(store)).frozen:
            await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    assert not freezing.done()
    assert (await freezing).frozen
