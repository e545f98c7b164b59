"""What clients do to jobs: nothing fires for the past, nothing due is dropped, branches become one job."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcron.domain import changes
from dcron.domain.changes import MAX_WAITING_RUNS
from dcron.domain.errors import FailedPrecondition, Overloaded
from dcron.domain.ids import new_ulid
from dcron.domain.model import (
    Active,
    ClusterSettings,
    Job,
    LastOutcome,
    Occurrence,
    Script,
    SkipReason,
    Specification,
    State,
)
from dcron.domain.planning import MAX_PENDING_SKIPS, Moment, step

START = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)
UID = new_ulid(START, b"j" * 10)
HOURLY = Specification(schedule="0 * * * *", script=Script("0" * 64, 10))
DAILY = replace(HOURLY, schedule="0 6 * * *")
HOUR = timedelta(hours=1)
SETTINGS = ClusterSettings(1, datetime(2000, 1, 1, tzinfo=UTC))


def job_at_start(specification: Specification = HOURLY, *, paused: bool = False) -> Job:
    return changes.create("report", UID, specification, START, paused=paused)


def hour(number: int) -> datetime:
    return START.replace(hour=number, minute=0, second=0)


def planned(job: Job, now: datetime, term: int = 1) -> Job:
    """The job as a leader of this term writes it at `now`."""
    result = step(job, Moment(now, term, SETTINGS), None)
    assert result is not None
    return result.job


def request(number: int) -> str:
    return new_ulid(START, bytes([number]) * 10)


class TestCreating:
    def test_the_first_occurrence_is_after_the_registration(self) -> None:
        job = job_at_start()
        assert (job.revision, job.place.next_at, job.place.counts_from) == (1, hour(13), START)

    def test_a_job_registered_paused_has_nothing_due(self) -> None:
        job = job_at_start(paused=True)
        assert (job.place.next_at, job.place.paused_from) == (None, hour(13))


class TestPausing:
    def test_a_pause_holds_back_what_was_not_launched(self) -> None:
        paused = changes.pause(job_at_start(), hour(13) + HOUR / 2)
        assert (paused.place.next_at, paused.place.paused_from) == (None, hour(13))
        assert step(paused, Moment(hour(15), 1, SETTINGS), None) is None

    def test_a_resume_accounts_for_the_pause_and_goes_on_after_now(self) -> None:
        paused = changes.pause(job_at_start(), START)
        resumed = changes.resume(paused, hour(15) + HOUR / 2)
        [skip] = resumed.place.skips
        assert (skip.reason, skip.scheduled_at, skip.until, skip.count) == (
            SkipReason.PAUSED,
            hour(13),
            hour(15),
            3,
        )
        assert (resumed.place.next_at, resumed.place.paused_from) == (hour(16), None)
        assert resumed.revision == 3

    def test_a_short_pause_leaves_nothing_to_account_for(self) -> None:
        job = job_at_start()
        resumed = changes.resume(changes.pause(job, START), START)
        assert (resumed.place.skips, resumed.place.next_at) == ((), hour(13))

    def test_pausing_and_resuming_twice_changes_nothing(self) -> None:
        job = job_at_start()
        paused = changes.pause(job, START)
        assert changes.pause(paused, hour(14)) is paused
        assert changes.resume(job, hour(14)) is job

    def test_a_pause_leaves_what_runs_alone(self) -> None:
        launched = planned(job_at_start(), hour(13))
        assert changes.pause(launched, hour(13)).place.active == launched.place.active

    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 10_000)), max_size=8))
    def test_nothing_ever_fires_for_the_past(self, steps: list[tuple[bool, int]]) -> None:
        job, now = job_at_start(), START
        for pause, minutes in steps:
            now += timedelta(minutes=minutes)
            job = changes.pause(job, now) if pause else changes.resume(job, now)
            if job.changed_at == now and not job.paused:
                assert job.place.next_at is not None
                assert job.place.next_at > now
            assert (job.place.next_at is None) is job.paused

    @given(st.lists(st.integers(1, 3000), min_size=1, max_size=MAX_PENDING_SKIPS))
    def test_every_occurrence_of_the_pauses_is_accounted_for_once(self, pauses: list[int]) -> None:
        job, now = job_at_start(), START
        for minutes in pauses:
            job = changes.pause(job, now)
            now += timedelta(minutes=minutes)
            job = changes.resume(job, now)
        accounted = sum(skip.count or 0 for skip in job.place.skips)
        assert accounted == int((now - START.replace(minute=0, second=0)) / HOUR)


class TestChanging:
    def test_a_change_of_anything_else_keeps_the_place(self) -> None:
        job = job_at_start()
        changed = changes.change(job, replace(HOURLY, timeout_seconds=5), hour(12) + HOUR / 2)
        assert (changed.revision, changed.place) == (2, job.place)

    def test_a_new_schedule_counts_from_the_change(self) -> None:
        changed = changes.change(job_at_start(), DAILY, START + HOUR / 4)
        assert changed.place.next_at == hour(6) + timedelta(days=1)
        assert changed.place.counts_from == START + HOUR / 4

    def test_what_was_due_before_stays_due_and_stands_for_the_rest(self) -> None:
        changed = changes.change(job_at_start(), DAILY, hour(15))
        assert changed.place.next_at == hour(13)
        [skip] = changed.place.skips
        assert (skip.reason, skip.scheduled_at, skip.until, skip.count) == (
            SkipReason.COALESCED,
            hour(14),
            hour(15),
            2,
        )
        launched = planned(changed, hour(15) + HOUR / 2)
        assert launched.place.active.coalesced.count == 2
        assert launched.place.next_at == hour(6) + timedelta(days=1)

    def test_a_paused_job_accounts_for_the_old_schedule_first(self) -> None:
        paused = changes.pause(job_at_start(), START)
        changed = changes.change(paused, DAILY, hour(15))
        [skip] = changed.place.skips
        assert (skip.reason, skip.count) == (SkipReason.PAUSED, 3)
        assert changed.place.paused_from == hour(6) + timedelta(days=1)
        assert changed.place.next_at is None

    def test_more_changes_than_the_leader_has_copied_are_refused(self) -> None:
        job, now = job_at_start(), START
        for _ in range(MAX_PENDING_SKIPS):
            job = changes.pause(job, now)
            now += 2 * HOUR
            job = changes.resume(job, now)
        assert len(job.place.skips) == MAX_PENDING_SKIPS
        job = changes.pause(job, now)
        with pytest.raises(FailedPrecondition, match="try again"):
            changes.resume(job, now + 2 * HOUR)


class TestRequesting:
    def test_asking_twice_waits_once(self) -> None:
        asked = changes.request_run(job_at_start(), request(1))
        assert changes.request_run(asked, request(1)) is asked
        assert asked.revision == 1

    def test_a_run_that_is_active_is_not_asked_for_again(self) -> None:
        launched = planned(changes.request_run(job_at_start(), request(1)), START)
        assert launched.place.active.occurrence.key == request(1)
        assert changes.request_run(launched, request(1)) is launched

    def test_runs_that_wait_are_bounded(self) -> None:
        job = job_at_start()
        for number in range(MAX_WAITING_RUNS):
            job = changes.request_run(job, request(number))
        with pytest.raises(Overloaded, match="wait already"):
            changes.request_run(job, request(99))

    def test_a_paused_job_can_be_run(self) -> None:
        asked = changes.request_run(job_at_start(paused=True), request(1))
        assert planned(asked, START).place.active is not None


class TestMerging:
    """`launched` is what the leader wrote on one branch, the rest what clients wrote on another."""

    def test_runs_that_wait_on_any_branch_are_kept(self) -> None:
        job = job_at_start()
        one, other = changes.request_run(job, request(1)), changes.request_run(job, request(2))
        merged = changes.merge([one, other])
        assert {run.request_id for run in merged.place.waiting} == {request(1), request(2)}

    def test_the_newest_specification_is_kept(self) -> None:
        job = job_at_start()
        changed = changes.change(job, replace(HOURLY, interpreter="bash"), START)
        for leaves in ([job, changed], [changed, job]):
            merged = changes.merge(leaves)
            assert (merged.revision, merged.specification) == (2, changed.specification)

    def test_a_later_term_is_ahead(self) -> None:
        job = job_at_start()
        old = planned(job, hour(13), term=1)
        settled = LastOutcome(old.place.active.execution_id, State.SUCCEEDED, hour(13))
        new = replace(old, place=replace(old.place, term=2, active=None, last=settled))
        for leaves in ([old, new], [new, old]):
            assert changes.merge(leaves).place.active is None

    @pytest.mark.parametrize(("settled_by", "at_work"), [(1, False), (2, False), (0, True)])
    def test_what_is_settled_on_one_branch_is_not_begun_again(self, settled_by: int, at_work: bool) -> None:
        """An intent without a plain success comes back when all is over; a later attempt is waited for."""
        intended = planned(job_at_start(), hour(13))
        assert intended.place.active is not None
        occurrence, _, _ = intended.place.active.execution_id.rpartition(":")
        last = LastOutcome(f"{occurrence}:{settled_by:03d}", State.FAILED, hour(13))
        settled = replace(
            intended,
            place=replace(intended.place, active=None, last=last, sequence=intended.place.sequence + 3),
        )
        for leaves in ([intended, settled], [settled, intended]):
            assert (changes.merge(leaves).place.active is not None) is at_work

    def test_what_a_leader_intended_before_it_settled_the_occurrence_on_a_quorum_is_taken_back(self) -> None:
        """It had heard from one copy alone that the first attempt was not started."""
        first = planned(job_at_start(), hour(13))
        assert first.place.active is not None
        second = replace(
            first,
            place=replace(
                first.place, active=replace(first.place.active, attempt=2), sequence=first.place.sequence + 1
            ),
        )
        last = LastOutcome(first.place.active.execution_id, State.SUCCEEDED, hour(13))
        settled = replace(
            first, place=replace(first.place, active=None, last=last, sequence=first.place.sequence + 2)
        )
        for leaves in ([second, settled], [settled, second]):
            assert changes.merge(leaves, settled).place.active is None
            assert changes.merge(leaves, second).place.active == second.place.active

    def test_an_attempt_that_may_have_been_offered_stays_though_another_branch_is_further_ahead(self) -> None:
        """A leader wrote the next occurrence to one copy alone, then a run on a quorum, and offered that."""
        base = planned_idle()
        unsure = planned(base, hour(13))
        confirmed = planned(changes.request_run(base, request(1)), START)
        assert confirmed.place.active is not None
        assert confirmed.place.next_at == hour(13)
        for leaves in ([unsure, confirmed], [confirmed, unsure]):
            assert changes.merge(leaves).place.active == unsure.place.active
            merged = changes.merge(leaves, confirmed)
            assert merged.place.active == confirmed.place.active
            # It comes in its turn.
            assert merged.place.next_at == hour(13)
            assert merged.place.waiting == ()

    def test_what_the_offered_attempts_branch_still_has_ahead_is_not_skipped_as_well(self) -> None:
        base = planned_idle()
        frozen = Moment(hour(14), 1, replace(SETTINGS, frozen=True, frozen_at=START))
        skipped = step(base, frozen, None)
        assert skipped is not None
        assert len(skipped.job.place.skips) == 1
        confirmed = planned(changes.request_run(base, request(1)), START)
        merged = changes.merge([skipped.job, confirmed], confirmed)
        assert (merged.place.next_at, merged.place.skips) == (hour(13), ())

    @pytest.mark.parametrize(
        ("fields", "known"),
        [
            ({}, False),
            ({"term": 2}, True),
            ({"active": Active(Occurrence.of_schedule(UID, hour(13)), 2, 1, START)}, True),
            ({"active": Active(Occurrence.of_schedule(UID, hour(14)), 1, 1, START)}, False),
            ({"last": LastOutcome(f"{UID}:20260302T130000Z:001", State.FAILED, START)}, True),
            ({"last": LastOutcome(f"{UID}:20260302T120000Z:001", State.FAILED, START)}, False),
        ],
    )
    def test_a_leaf_knows_of_an_attempt_that_it_has_or_has_come_beyond(
        self, fields: dict[str, object], known: bool
    ) -> None:
        base = planned_idle()
        leaf = replace(base, place=replace(base.place, **fields))
        assert changes.knows_of(leaf, planned(base, hour(13))) is known
        assert changes.knows_of(replace(leaf, uid="another"), planned(base, hour(13)))
        assert changes.knows_of(leaf, base)

    def test_a_merge_is_ahead_of_all_its_branches(self) -> None:
        job = job_at_start()
        leaves = [job, planned(job, hour(13))]
        assert changes.merge(leaves).place.sequence > max(leaf.place.sequence for leaf in leaves)

    def test_a_resumed_job_goes_on_after_its_resume(self) -> None:
        paused = changes.pause(job_at_start(), START)
        ahead = replace(paused, place=replace(paused.place, term=5, sequence=50))
        resumed = changes.resume(paused, hour(15))
        merged = changes.merge([ahead, resumed])
        assert not merged.paused
        assert merged.place.next_at == hour(16)
        assert [skip.reason for skip in merged.place.skips] == [SkipReason.PAUSED]

    def test_a_launch_survives_a_pause_on_another_branch(self) -> None:
        job = planned_idle()
        launched = planned(job, hour(13))
        paused = changes.pause(job, hour(13))
        for leaves in ([launched, paused], [paused, launched]):
            merged = changes.merge(leaves)
            assert merged.paused
            assert merged.place.active == launched.place.active
            assert merged.place.paused_from == hour(14)

    def test_a_launch_survives_several_changes_on_another_branch(self) -> None:
        job = planned_idle()
        launched = planned(job, hour(13))
        changed = changes.request_run(changes.request_run(job, request(1)), request(2))
        for leaves in ([launched, changed], [changed, launched]):
            merged = changes.merge(leaves)
            assert merged.place.active == launched.place.active
            assert len(merged.place.waiting) == 2

    def test_no_run_that_was_promised_is_dropped(self) -> None:
        job = job_at_start()
        leaves = []
        for branch in range(2):
            leaf = job
            for number in range(MAX_WAITING_RUNS):
                leaf = changes.request_run(leaf, request(branch * 100 + number))
            leaves.append(leaf)
        assert len(changes.merge(leaves).place.waiting) == 2 * MAX_WAITING_RUNS

    def test_no_skip_is_dropped(self) -> None:
        leaves = []
        for branch in range(2):
            job, now = job_at_start(), START + branch * HOUR / 4
            for number in range(MAX_PENDING_SKIPS):
                job = changes.pause(job, now)
                now += (2 + number + 40 * branch) * HOUR
                job = changes.resume(job, now)
            leaves.append(job)
        expected = {skip for leaf in leaves for skip in leaf.place.skips}
        assert set(changes.merge(leaves).place.skips) == expected


def planned_idle() -> Job:
    """A job that the leader of term 1 has written before."""
    job = job_at_start()
    return replace(job, place=replace(job.place, term=1))


def test_the_active_occurrence_is_not_part_of_a_client_change() -> None:
    active = Active(Occurrence.of_schedule(UID, hour(12)), 1, 1, START)
    job = replace(job_at_start(), place=replace(job_at_start().place, active=active))
    for changed in (
        changes.pause(job, START),
        changes.change(job, DAILY, START),
        changes.request_run(job, request(1)),
    ):
        assert changed.place.active == active
