"""Every occurrence is accounted for exactly once, and none starts without cause."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dcron.domain.attempt_results import AttemptView
from dcron.domain.changes import MAX_WAITING_RUNS, change, create, pause, request_run, resume
from dcron.domain.cron import MAX_STEPS
from dcron.domain.documents import INITIAL_SETTINGS
from dcron.domain.errors import FailedPrecondition, Overloaded
from dcron.domain.model import Job, Skip, SkipReason, Specification, State
from dcron.domain.planning import MAX_PENDING_SKIPS, Moment, step
from tests.doubles import SCRIPT, START, UID, request_id, sample_job
from tests.unit.domain.planning_samples import MINUTE, active_job, moment, view

# What is due.


def test_a_job_is_launched_at_its_instant_and_not_before() -> None:
    job = sample_job()
    assert step(job, moment(START - timedelta(microseconds=1)), None) is None
    decision = step(job, moment(START), None)
    assert decision.launch
    assert decision.job.place.active.execution_id == f"{UID}:20261123T120000Z:001"
    assert decision.job.place.next_at == START + MINUTE
    assert decision.job.place.term == 7
    assert decision.job.place.skips == ()


def test_what_fell_due_meanwhile_is_coalesced_into_the_first_and_named_in_it() -> None:
    decision = step(sample_job(), moment(START + 3.5 * MINUTE), None)
    [skip] = decision.job.place.skips
    assert (skip.scheduled_at, skip.until, skip.count) == (START + MINUTE, START + 3 * MINUTE, 3)
    assert (skip.reason, skip.into) == (SkipReason.COALESCED, "20261123T120000Z")
    assert decision.job.place.active.coalesced.count == 3
    assert decision.job.place.active.coalesced.until == START + 3 * MINUTE
    assert decision.job.place.next_at == START + 4 * MINUTE


def test_a_per_second_job_away_for_a_year_takes_a_bounded_number_of_steps() -> None:
    now = START + timedelta(days=365, microseconds=5)
    decision = step(sample_job(schedule="* * * * * *"), moment(now), None)
    [skip] = decision.job.place.skips
    assert skip.count is None
    assert skip.until == now.replace(microsecond=0)
    assert decision.job.place.next_at == now.replace(microsecond=0) + timedelta(seconds=1)
    assert decision.job.place.active.coalesced.count is None


def test_a_count_is_given_only_when_it_is_certain() -> None:
    job = sample_job(schedule="* * * * * *")
    decision = step(job, moment(START + timedelta(seconds=MAX_STEPS - 1)), None)
    assert decision.job.place.skips[0].count == MAX_STEPS - 1


def test_a_job_whose_schedule_has_ended_is_left_alone() -> None:
    assert step(sample_job(next_at=None), moment(START), None) is None


def test_an_active_job_waits_for_its_outcome_however_much_falls_due() -> None:
    job = active_job()
    assert step(job, moment(START + 10 * MINUTE), view(job, None)) is None
    assert step(job, moment(START + 10 * MINUTE), None) is None


def test_the_next_occurrence_is_launched_with_the_settling_of_the_last() -> None:
    job = active_job()
    decision = step(job, moment(START + 3 * MINUTE), view(job, State.SUCCEEDED))
    assert decision.launch
    assert decision.job.place.last.state is State.SUCCEEDED
    assert decision.job.place.active.occurrence.scheduled_at == START + MINUTE
    assert decision.job.place.active.coalesced.count == 2


def test_what_is_older_than_the_floor_is_missed_and_the_rest_goes_on() -> None:
    decision = step(sample_job(), moment(START + 5 * MINUTE, floor=START + 2 * MINUTE), None)
    assert not decision.launch
    [skip] = decision.job.place.skips
    assert (skip.reason, skip.scheduled_at, skip.until) == (SkipReason.MISSED, START, START + MINUTE)
    assert decision.job.place.next_at == START + 2 * MINUTE


def test_frozen_nothing_starts_and_what_is_due_is_recorded() -> None:
    waiting = request_run(sample_job(), request_id(1))
    decision = step(waiting, moment(START + MINUTE, frozen=True), None)
    assert not decision.launch
    assert decision.job.place.skips[0].reason is SkipReason.FROZEN
    assert decision.job.place.skips[0].count == 2
    assert decision.job.place.waiting
    assert step(decision.job, moment(START + MINUTE, frozen=True), None) is None
    assert step(decision.job, moment(START + MINUTE), None).job.place.active.occurrence.manual


def test_frozen_a_running_attempt_is_settled_but_not_tried_again() -> None:
    job = active_job()
    assert step(job, moment(frozen=True), view(job, State.TIMED_OUT)) is None
    assert step(job, moment(), view(job, State.TIMED_OUT)).job.place.active.attempt == 2
    assert step(job, moment(frozen=True), view(job, State.SUCCEEDED)).job.place.active is None


def test_nothing_is_decided_while_too_many_skip_records_wait_to_be_copied() -> None:
    skips = tuple(
        Skip(UID, START - (n + 1) * MINUTE, START - (n + 1) * MINUTE, SkipReason.PAUSED, 1)
        for n in range(MAX_PENDING_SKIPS)
    )
    assert step(sample_job(skips=skips), moment(), None) is None
    assert step(sample_job(skips=skips[1:]), moment(), None).launch
    with pytest.raises(FailedPrecondition):
        resume(pause(sample_job(skips=skips), START), START + MINUTE)


def test_manual_runs_go_first_in_the_order_they_were_asked_for_even_when_paused() -> None:
    job = request_run(request_run(pause(sample_job(), START), request_id(1)), request_id(2))
    decision = step(job, moment(START + MINUTE), None)
    assert decision.job.place.active.execution_id == f"{UID}:{request_id(1)}:001"
    assert [run.request_id for run in decision.job.place.waiting] == [request_id(2)]


def test_a_run_asked_for_twice_waits_once() -> None:
    job = request_run(sample_job(), request_id(1))
    assert request_run(job, request_id(1)) is job
    launched = step(job, moment(), None).job
    assert request_run(launched, request_id(1)) is launched


def test_the_runs_that_may_wait_are_bounded() -> None:
    job = sample_job()
    for number in range(MAX_WAITING_RUNS):
        job = request_run(job, request_id(number))
    with pytest.raises(Overloaded):
        request_run(job, request_id(MAX_WAITING_RUNS))
    assert request_run(job, request_id(0)) is job


# The account, against a calendar of its own.


def named(every_minutes: int, after: datetime, until: datetime) -> list[datetime]:
    """Instants in (after, until] whose minute of the hour is a multiple: by counting, without cron."""
    minute = after.replace(second=0, microsecond=0)
    found = []
    while minute <= until:
        if minute > after and minute.minute % every_minutes == 0:
            found.append(minute)
        minute += MINUTE
    return found


class Account(RuleBasedStateMachine):
    """Time passes, a leader plans now and then, people change the job; each occurrence ends in one column."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START + timedelta(seconds=0.5)
        self.every = 5
        self.job = create("job", UID, self.specification(), self.now, paused=False)
        self.frozen = False
        self.due: dict[datetime, bool] = {}
        """Occurrences that have come, and whether the job was paused then."""
        self.accounted: set[datetime] = set()
        self.runs: set[str] = set()
        self.ran: set[str] = set()
        self.skip_ids: set[str] = set()
        self.requests = 0

    def specification(self) -> Specification:
        return Specification(f"*/{self.every} * * * *", SCRIPT, timeout_seconds=60.0, failure_retries=1)

    def moment(self) -> Moment:
        return moment(self.now, frozen=self.frozen)

    def write(self, job: Job) -> None:
        """What the store would take in, and what it means for the account."""
        before, self.job = self.job, job
        assert job.place.sequence > before.place.sequence
        for skip in job.place.skips[len(before.place.skips) :]:
            self.enter(skip)
        active, earlier = job.place.active, before.place.active
        if active is None or (earlier is not None and active.occurrence == earlier.occurrence):
            return
        assert active.attempt == 1
        assert not self.frozen
        key = active.occurrence.key
        if active.occurrence.manual:
            assert key not in self.ran
            self.ran.add(key)
        else:
            scheduled_at = active.occurrence.scheduled_at
            assert scheduled_at in self.due
            assert scheduled_at not in self.accounted
            assert not self.due[scheduled_at], "launched for the time of a pause"
            self.accounted.add(scheduled_at)

    def enter(self, skip: Skip) -> None:
        assert skip.id not in self.skip_ids
        self.skip_ids.add(skip.id)
        covered = {each for each in self.due if skip.scheduled_at <= each <= skip.until} - self.accounted
        assert {skip.scheduled_at, skip.until} <= covered
        assert skip.count == len(covered)
        self.accounted |= covered

    @rule(seconds=st.integers(1, 1800))
    def time_passes(self, seconds: int) -> None:
        later = self.now + timedelta(seconds=seconds)
        self.due |= dict.fromkeys(named(self.every, self.now, later), self.job.paused)
        self.now = later

    @rule()
    def the_leader_plans(self) -> None:
        self.plan(None)

    def plan(self, known: AttemptView | None) -> None:
        decision = step(self.job, self.moment(), known)
        if decision is not None:
            self.write(decision.job)

    @precondition(lambda self: self.job.place.active is not None)
    @rule(state=st.sampled_from([*State][1:]))
    def the_attempt_ends(self, state: State) -> None:
        self.plan(view(self.job, state))

    @rule()
    def skips_are_copied(self) -> None:
        self.job = replace(
            self.job, place=replace(self.job.place, skips=(), sequence=self.job.place.sequence + 1)
        )

    @precondition(lambda self: not self.job.paused)
    @rule()
    def someone_pauses(self) -> None:
        self.write(pause(self.job, self.now))

    @precondition(lambda self: self.job.paused and len(self.job.place.skips) < MAX_PENDING_SKIPS)
    @rule()
    def someone_resumes(self) -> None:
        self.write(resume(self.job, self.now))

    @precondition(lambda self: len(self.job.place.skips) < MAX_PENDING_SKIPS)
    @rule(every=st.sampled_from([1, 2, 5, 7, 30]))
    def someone_changes_the_schedule(self, every: int) -> None:
        if every != self.every:
            self.every = every
            self.write(change(self.job, self.specification(), self.now))

    @precondition(lambda self: len(self.job.place.waiting) < MAX_WAITING_RUNS)
    @rule()
    def someone_asks_for_a_run(self) -> None:
        self.requests += 1
        self.runs.add(request_id(self.requests))
        self.write(request_run(self.job, request_id(self.requests)))

    @rule()
    def freeze_or_thaw(self) -> None:
        self.frozen = not self.frozen

    @invariant()
    def skip_records_are_bounded(self) -> None:
        assert len(self.job.place.skips) <= MAX_PENDING_SKIPS

    @invariant()
    def nothing_is_accounted_for_beyond_the_place(self) -> None:
        first = self.job.place.next_at or self.job.place.paused_from
        assert first is not None
        # What an earlier schedule named after its last due occurrence is coalesced into that one.
        counted = [each for each in self.accounted if each > self.job.place.counts_from]
        assert not [each for each in counted if each >= first]

    def teardown(self) -> None:
        """In the end all is thawed, resumed and settled: nothing that has come is missing."""
        self.frozen = False
        self.skips_are_copied()
        if self.job.paused:
            self.someone_resumes()
        for _ in range(50):
            self.skips_are_copied()
            self.plan(view(self.job, State.CANCELLED) if self.job.place.active else None)
        assert self.job.place.active is None
        assert self.accounted == set(self.due)
        assert self.ran == self.runs


TestAccount = Account.TestCase
TestAccount.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_resume_by_a_clock_behind_the_leader_s_goes_on_where_the_schedule_stands() -> None:
    launched = step(sample_job(), moment(START + 3 * MINUTE), None).job
    resumed = resume(pause(launched, START + MINUTE), START + MINUTE)
    assert resumed.place.next_at == START + 4 * MINUTE
    assert resumed.place.skips == launched.place.skips


def test_what_no_worker_may_take_any_more_is_given_up_once_nobody_can_have_started_it():
    raised = replace(INITIAL_SETTINGS, floor=START + timedelta(hours=1))
    scheduled = step(sample_job(), Moment(START, 1, INITIAL_SETTINGS), None).job
    asked = step(
        request_run(sample_job(next_at=None), request_id(1)), Moment(START, 1, INITIAL_SETTINGS), None
    ).job
    for job, skipped in ((scheduled, 1), (asked, 0)):
        moment = Moment(START + timedelta(hours=1), 2, raised)
        assert step(job, moment, AttemptView(verified=True)) is None, "an offer may still become a claim"
        given_up = step(job, moment, AttemptView(verified=True, claims_closed=True))
        assert given_up.job.place.active is None
        assert not given_up.launch
        assert [skip.reason for skip in given_up.job.place.skips] == [SkipReason.MISSED] * skipped


@pytest.mark.parametrize("state", [State.TIMED_OUT, State.LOST])
def test_what_is_from_before_the_floor_is_not_tried_again(state):
    job = active_job()
    raised = moment(START + timedelta(seconds=2), floor=START + timedelta(seconds=1))
    settled = step(job, raised, view(job, state)).job
    assert settled.place.active is None
    assert settled.place.last.state is state


def test_what_was_not_started_before_the_floor_was_raised_is_missed():
    job = active_job()
    missed = step(
        job, moment(START + MINUTE, floor=START + timedelta(seconds=1)), view(job, State.NOT_STARTED)
    )
    assert missed.job.place.active is None
    assert [skip.reason for skip in missed.job.place.skips] == [SkipReason.MISSED]


def test_what_fell_due_in_a_freeze_and_waited_is_skipped_after_the_thaw():
    frozen_at, thawed_at = START - timedelta(minutes=1), START + timedelta(minutes=3)
    thawed = replace(INITIAL_SETTINGS, frozen_at=frozen_at, thawed_at=thawed_at)
    skipped = step(sample_job(), Moment(START + timedelta(minutes=5), 1, thawed), None)
    assert not skipped.launch
    [skip] = skipped.job.place.skips
    assert (skip.reason, skip.scheduled_at, skip.until, skip.count) == (
        SkipReason.FROZEN,
        START,
        thawed_at,
        4,
    )
    assert skipped.job.place.next_at == START + timedelta(minutes=4)
    assert step(skipped.job, Moment(START + timedelta(minutes=5), 1, thawed), None).launch


def test_an_occurrence_that_a_pause_revoked_is_accounted_for_though_the_pause_is_over() -> None:
    job = active_job(revoked=True)
    resumed = replace(job, place=replace(job.place, counts_from=START + timedelta(seconds=3)))
    given_up = step(resumed, moment(START + timedelta(seconds=30)), view(job))
    assert given_up.job.place.active is None
    assert given_up.job.place.skips == (Skip(UID, START, START, SkipReason.PAUSED, 1),)


def test_an_occurrence_that_a_change_of_the_schedule_revoked_was_never_due() -> None:
    job = active_job(revoked=True)
    specification = replace(job.specification, schedule="30 * * * *")
    changed = replace(job, specification=specification, place=replace(job.place, counts_from=START))
    given_up = step(changed, moment(START + timedelta(seconds=30)), view(job))
    assert (given_up.job.place.active, given_up.job.place.skips) == (None, ())
