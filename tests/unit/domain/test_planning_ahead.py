"""What is launched ahead of its instant."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dcron.domain.changes import pause, request_run
from dcron.domain.model import ClusterSettings, Job, Skip, SkipReason
from dcron.domain.planning import AHEAD_SECONDS, Moment, launch_ahead
from tests.doubles import START, UID, request_id, sample_job
from tests.unit.domain.planning_samples import FLOOR, MINUTE, active_job, moment

SOON = START - timedelta(seconds=1)


def test_an_idle_job_is_launched_ahead_for_the_very_occurrence_that_comes() -> None:
    launched = launch_ahead(sample_job(), moment(SOON))
    active = launched.job.place.active
    assert launched.launch
    assert (active.occurrence.scheduled_at, active.intended_at, active.coalesced) == (START, SOON, None)
    assert active.ahead_seconds == 1.0
    assert launched.job.place.next_at == START + MINUTE
    assert not launched.job.place.skips


@pytest.mark.parametrize(
    "job",
    [
        active_job(),
        pause(sample_job(), SOON),
        request_run(sample_job(), request_id(1)),
        sample_job(skips=(Skip(UID, START - MINUTE, START - MINUTE, SkipReason.PAUSED, 1),)),
        sample_job(next_at=None),
    ],
    ids=["active", "paused", "waiting", "skips", "never"],
)
def test_what_else_there_is_to_decide_is_decided_at_the_instant(job: Job) -> None:
    assert launch_ahead(job, moment(SOON)) is None


def test_what_is_not_about_to_come_is_not_launched() -> None:
    assert launch_ahead(sample_job(), moment(START - timedelta(seconds=AHEAD_SECONDS))).launch
    assert launch_ahead(sample_job(), moment(START - timedelta(seconds=AHEAD_SECONDS + 0.1))) is None


def test_what_a_freeze_or_the_floor_holds_back_is_not_launched_ahead() -> None:
    job = sample_job()
    assert launch_ahead(job, moment(SOON, frozen=True)) is None
    assert launch_ahead(job, moment(SOON, floor=START + MINUTE)) is None
    thawed = ClusterSettings(1, FLOOR, frozen_at=SOON, thawed_at=START + MINUTE)
    assert launch_ahead(job, Moment(SOON, 7, thawed)) is None
