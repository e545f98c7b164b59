"""Branches of a job become one job that has lost nothing and repeats nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from dcron.domain.attempt_results import AttemptView
from dcron.domain.changes import MAX_WAITING_RUNS, change, merge, pause, request_run, resume
from dcron.domain.documents import INITIAL_SETTINGS
from dcron.domain.model import ClusterSettings, Job, Skip, SkipReason, Specification, State
from dcron.domain.planning import MAX_PENDING_SKIPS, Moment, step
from tests.doubles import LATER_UID, SCRIPT, START, UID, request_id, sample_claim, sample_job, sample_outcome

MINUTE = timedelta(minutes=1)


def lead(job: Job, minutes: float, *, term: int = 1, frozen: bool = False, ends: bool = True) -> Job:
    """What a leader makes of a job at a time; with `ends`, its active attempt has succeeded."""
    known = None
    if job.place.active is not None and ends:
        execution = job.place.active.execution_id
        outcome = sample_outcome(execution, "t", State.SUCCEEDED)
        known = AttemptView((sample_claim(execution, "t"),), {"t": outcome}, verified=True)
    settings = ClusterSettings(1, START - timedelta(days=1), frozen=frozen)
    decision = step(job, Moment(START + minutes * MINUTE, term, settings), known)
    return job if decision is None else decision.job


def both_ways(one: Job, other: Job) -> list[Job]:
    return [merge([one, other]), merge([other, one])]


def test_a_pause_on_one_branch_and_a_launch_on_the_other_both_count() -> None:
    base = sample_job()
    launched, paused = lead(base, 0), pause(base, START - MINUTE)
    for merged in both_ways(launched, paused):
        assert merged.paused
        assert merged.revision == paused.revision
        assert merged.place.active == replace(launched.place.active, revoked=True)
        assert merged.place.next_at is None
        assert merged.place.paused_from == START + MINUTE


def test_a_launch_counts_though_clients_wrote_more_often_on_the_other_branch() -> None:
    base = sample_job()
    launched = lead(base, 0)
    asked = request_run(request_run(base, request_id(1)), request_id(2))
    for merged in both_ways(launched, asked):
        assert merged.place.active == launched.place.active
        assert len(merged.place.waiting) == 2


def test_a_change_of_the_script_repeats_nothing_of_the_schedule() -> None:
    base = sample_job()
    changed = change(base, replace(base.specification, arguments=("new",)), START - MINUTE)
    progressed = lead(lead(lead(base, 0), 1), 2)
    for merged in both_ways(progressed, changed):
        assert merged.specification.arguments == ("new",)
        assert merged.place.next_at == START + 3 * MINUTE
        assert merged.place.active == progressed.place.active


def test_what_was_skipped_while_frozen_is_not_fired_after_a_merge() -> None:
    base = sample_job()
    skipped = lead(base, 5, frozen=True)
    changed = change(base, replace(base.specification, arguments=("new",)), START - MINUTE)
    for merged in both_ways(skipped, changed):
        assert merged.place.next_at == START + 6 * MINUTE


def test_a_new_schedule_counts_from_its_change_and_keeps_what_runs() -> None:
    base = sample_job()
    changed = change(base, Specification("30 * * * *", SCRIPT), START - MINUTE)
    launched = lead(base, 0)
    for merged in both_ways(launched, changed):
        assert merged.place.active == replace(launched.place.active, revoked=True)
        assert merged.place.next_at == START + 30 * MINUTE
        assert merged.place.counts_from == START - MINUTE


def test_a_later_revision_does_not_move_the_instant_from_which_its_schedule_counts() -> None:
    base = sample_job()
    changed = change(base, Specification("30 * * * *", SCRIPT), START - MINUTE)
    renamed = change(changed, replace(changed.specification, arguments=("new",)), START + 45 * MINUTE)
    for merged in both_ways(lead(base, 0), renamed):
        assert merged.place.next_at == START + 30 * MINUTE


def test_a_resume_on_a_branch_that_is_behind_fires_nothing_of_the_pause() -> None:
    base = pause(sample_job(), START - MINUTE)
    resumed = resume(base, START + 10.5 * MINUTE)
    ran = lead(request_run(base, request_id(1)), 2, term=2)
    for merged in both_ways(ran, resumed):
        assert not merged.paused
        assert merged.place.next_at == START + 11 * MINUTE
        assert merged.place.paused_from is None
        assert merged.place.skips == resumed.place.skips
        assert merged.place.active == ran.place.active


def test_a_pause_beside_a_newer_revision_that_is_not_paused_repeats_nothing() -> None:
    base = sample_job()
    paused = pause(lead(base, 1), START + 1.5 * MINUTE)
    changed = change(base, replace(base.specification, arguments=("new",)), START + MINUTE)
    changed = replace(changed, revision=paused.revision + 1)
    for merged in both_ways(paused, changed):
        assert not merged.paused
        assert merged.place.next_at == START + 2 * MINUTE


def test_a_run_launched_on_the_branch_that_is_behind_waits_again() -> None:
    base = sample_job()
    ran = lead(request_run(base, request_id(1)), -1)
    assert ran.place.active.occurrence.manual
    for merged in both_ways(ran, lead(base, 1, term=2)):
        assert [run.request_id for run in merged.place.waiting] == [request_id(1)]


def test_a_run_that_the_branch_ahead_has_settled_does_not_wait_again() -> None:
    asked = request_run(sample_job(), request_id(1))
    settled = lead(lead(asked, -1), -0.5)
    assert settled.place.last.execution_id.endswith(f"{request_id(1)}:001")
    settled = replace(settled, place=replace(settled.place, term=2))
    for merged in both_ways(asked, settled):
        assert merged.place.waiting == ()


def test_more_than_may_be_asked_for_on_one_branch_is_kept_of_two() -> None:
    one = other = sample_job()
    for number in range(MAX_WAITING_RUNS):
        one, other = request_run(one, request_id(number)), request_run(other, request_id(100 + number))
    skips = [
        tuple(
            Skip(UID, START - (hours + n) * MINUTE, START - (hours + n) * MINUTE, SkipReason.PAUSED, 1)
            for n in range(MAX_PENDING_SKIPS)
        )
        for hours in (60, 120)
    ]
    one = replace(one, place=replace(one.place, skips=skips[0]))
    other = replace(other, place=replace(other.place, skips=skips[1]))
    for merged in both_ways(one, other):
        assert len(merged.place.waiting) == 2 * MAX_WAITING_RUNS
        assert set(merged.place.skips) == {*skips[0], *skips[1]}


def test_a_branch_of_a_removed_job_of_that_name_has_no_part_in_the_present_one() -> None:
    removed = replace(request_run(sample_job(), request_id(1)), revision=9)
    present = replace(sample_job(), uid=LATER_UID)
    for merged in both_ways(removed, present):
        assert (merged.uid, merged.revision) == (LATER_UID, 1)
        assert merged.place.waiting == ()


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["lead", "pause", "resume", "script", "schedule", "run", "freeze"]), st.integers(1, 9)
    ),
    max_size=8,
)


def branch(job: Job, operations: list[tuple[str, int]], side: int, term: int) -> Job:
    """What became of a job on one side of a split. Revision numbers belong to one writer: as in the store."""
    minutes = 0.0
    for number, (operation, amount) in enumerate(operations):
        minutes += amount
        now = START + minutes * MINUTE
        before = job
        if operation in ("lead", "freeze"):
            job = lead(job, minutes, term=term, frozen=operation == "freeze")
        elif operation == "run":
            job = request_run(job, request_id(100 * side + number))
        elif operation == "script":
            job = change(job, replace(job.specification, arguments=(f"{side}{number}",)), now)
        elif operation == "schedule":
            job = change(job, replace(job.specification, schedule=f"*/{amount + side} * * * *"), now)
        else:
            job = pause(job, now) if operation == "pause" else resume(job, now)
        if job.revision != before.revision:
            job = replace(job, revision=(before.revision // 2 + 1) * 2 + side)
    return job


def runs_of(job: Job) -> set[str]:
    active = job.place.active
    running = {active.occurrence.key} if active is not None and active.occurrence.manual else set()
    return running | {run.request_id for run in job.place.waiting}


@given(OPERATIONS, OPERATIONS, st.integers(1, 2), st.integers(1, 2))
def test_a_merge_loses_no_run_and_goes_back_in_nothing(one, other, one_term, other_term) -> None:
    base = sample_job()
    leaves = [branch(base, one, 0, one_term), branch(base, other, 1, other_term)]
    for merged in both_ways(*leaves):
        newest = max(leaves, key=lambda job: job.revision)
        assert merged.revision == newest.revision
        assert (merged.specification, merged.paused) == (newest.specification, newest.paused)
        assert merged.place.sequence > max(job.place.sequence for job in leaves)
        assert merged.place.term == max(job.place.term for job in leaves)
        assert set(merged.place.skips) == {skip for job in leaves for skip in job.place.skips}
        settled = merged.place.last.execution_id.split(":")[1] if merged.place.last else ""
        assert runs_of(leaves[0]) | runs_of(leaves[1]) <= runs_of(merged) | {settled}
        assert (merged.place.next_at is None) == merged.paused
        assert (merged.place.paused_from is None) == (not merged.paused)


@given(OPERATIONS.filter(lambda each: all(name != "schedule" for name, _ in each)), OPERATIONS)
def test_where_the_schedule_is_the_same_no_occurrence_comes_again(one, other) -> None:
    base = sample_job()
    same = [each for each in other if each[0] != "schedule"]
    leaves = [branch(base, one, 0, 1), branch(base, same, 1, 1)]
    for merged in both_ways(*leaves):
        first_open = merged.place.next_at or merged.place.paused_from
        assert first_open == max(job.place.next_at or job.place.paused_from for job in leaves)


@given(OPERATIONS)
def test_merging_what_is_the_same_changes_only_the_sequence(operations) -> None:
    job = branch(sample_job(), operations, 0, 1)
    merged = merge([job, job])
    assert replace(merged, place=replace(merged.place, sequence=job.place.sequence)) == job


def test_an_intent_that_a_pause_came_before_is_revoked_and_falls_to_the_pause() -> None:
    base = sample_job()
    launched = lead(base, 1.1)
    paused = pause(base, START + 0.9 * MINUTE)
    assert launched.place.active.occurrence.scheduled_at == START
    launched = lead(lead(base, 0), 1.1)  # the occurrence a minute later, due after the pause
    for merged in both_ways(launched, paused):
        active = merged.place.active
        assert active.revoked
        assert merged.paused
        # Nobody has claimed it, and nobody can any more: the pause covers it.
        nobody = AttemptView(verified=True, claims_closed=True)
        given_up = step(merged, Moment(START + 2 * MINUTE, 3, INITIAL_SETTINGS), nobody)
        assert not given_up.launch
        assert given_up.job.place.active is None
        assert given_up.job.place.paused_from == START + MINUTE
        # But if it runs, its end is waited for, and it stays what it was.
        claim = sample_claim(active.execution_id, "t")
        assert step(merged, Moment(START + 2 * MINUTE, 3, INITIAL_SETTINGS), AttemptView((claim,))) is None
        ended = AttemptView((claim,), {"t": sample_outcome(active.execution_id, "t", State.SUCCEEDED)})
        assert step(merged, Moment(START + 2 * MINUTE, 3, INITIAL_SETTINGS), ended).job.place.last is not None


def test_an_intent_from_before_a_pause_is_not_revoked() -> None:
    base = sample_job()
    launched, paused = lead(base, 0.1), pause(base, START + 0.5 * MINUTE)
    for merged in both_ways(launched, paused):
        assert merged.place.active == launched.place.active
