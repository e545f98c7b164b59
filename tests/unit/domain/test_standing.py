"""Where an active attempt stands: one row for each reason to offer it, or not to."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from dcron.domain.attempt_results import AttemptView
from dcron.domain.model import Job, State, Verdict, VerdictKind
from dcron.domain.standing import Standing, standing
from tests.doubles import START
from tests.unit.domain.planning_samples import FLOOR, MINUTE, active_job, moment, view

FIRST = active_job()
SECOND = active_job(2, after=("t0",))
REVOKED = active_job(revoked=True)
VERDICT = Verdict(FIRST.place.active.execution_id, VerdictKind.SUCCEEDED, "operator", "seen", START)

TIMED_OUT_BEFORE = view(active_job(), State.TIMED_OUT)
SUCCEEDED_BEFORE = view(active_job(), State.SUCCEEDED)
AT_WORK_BEFORE = view(active_job(), None, claims_closed=False)
OPEN_BEFORE = view(active_job(), State.NOT_STARTED, claims_closed=False)


def stands(
    job: Job,
    known: AttemptView,
    *,
    held: bool = True,
    confirmed: bool = True,
    looked_back: bool = True,
    floor_minutes: float | None = None,
) -> Standing:
    floor = FLOOR if floor_minutes is None else START + floor_minutes * MINUTE
    settings = moment(floor=floor).settings
    return standing(
        job.place.active, known, settings, held=held, confirmed=confirmed, looked_back=looked_back
    )


def unclaimed(job: Job, **fields) -> AttemptView:
    return view(job, **fields)


@pytest.mark.parametrize(
    ("job", "known", "circumstances", "expected"),
    [
        # Nobody has claimed it.
        (FIRST, unclaimed(FIRST), {}, Standing.OFFER),
        (FIRST, unclaimed(FIRST, claims_closed=False), {}, Standing.OFFER),
        (FIRST, unclaimed(FIRST), {"confirmed": False}, Standing.WRITE_AGAIN_FIRST),
        (FIRST, unclaimed(FIRST), {"held": False}, Standing.AWAIT_JOB),
        (FIRST, unclaimed(FIRST), {"held": False, "confirmed": False}, Standing.AWAIT_JOB),
        # Nothing is known of it, or something was heard since it was read.
        (FIRST, AttemptView(), {}, Standing.READ_AGAIN),
        (FIRST, AttemptView(), {"confirmed": False}, Standing.READ_AGAIN),
        (FIRST, view(FIRST, None, verified=False), {}, Standing.READ_AGAIN),
        (FIRST, view(FIRST, State.NOT_STARTED, verified=False), {}, Standing.READ_AGAIN),
        # The attempt before it.
        (SECOND, unclaimed(SECOND, before=TIMED_OUT_BEFORE), {}, Standing.OFFER),
        (SECOND, unclaimed(SECOND, before=TIMED_OUT_BEFORE), {"looked_back": False}, Standing.READ_AGAIN),
        (
            SECOND,
            unclaimed(SECOND, before=TIMED_OUT_BEFORE),
            {"looked_back": False, "confirmed": False},
            Standing.WRITE_AGAIN_FIRST,
        ),
        (SECOND, unclaimed(SECOND, before=SUCCEEDED_BEFORE), {}, Standing.TAKE_BACK),
        (SECOND, unclaimed(SECOND, before=SUCCEEDED_BEFORE), {"confirmed": False}, Standing.TAKE_BACK),
        (SECOND, unclaimed(SECOND, before=OPEN_BEFORE), {}, Standing.TAKE_BACK),
        (SECOND, unclaimed(SECOND, before=AT_WORK_BEFORE), {}, Standing.OFFER),
        # No worker may take it.
        (REVOKED, unclaimed(REVOKED, claims_closed=False), {}, Standing.LET_CLOSE),
        (REVOKED, unclaimed(REVOKED), {}, Standing.WAIT),
        (REVOKED, unclaimed(REVOKED), {"confirmed": False}, Standing.WAIT),
        (FIRST, unclaimed(FIRST, claims_closed=False), {"floor_minutes": 1}, Standing.LET_CLOSE),
        (FIRST, unclaimed(FIRST), {"floor_minutes": 1}, Standing.WAIT),
        (FIRST, unclaimed(FIRST), {"floor_minutes": 0}, Standing.OFFER),
        # Somebody has claimed it.
        (FIRST, view(FIRST, None), {}, Standing.WAIT),
        (FIRST, view(FIRST, None, claims_closed=False), {"confirmed": False}, Standing.WAIT),
        (FIRST, view(FIRST, State.NOT_STARTED, None, claims_closed=False), {}, Standing.WAIT),
        (FIRST, view(FIRST, State.NOT_STARTED, claims_closed=False), {}, Standing.LET_CLOSE),
        (FIRST, view(FIRST, State.NOT_STARTED), {}, Standing.WAIT),
        (REVOKED, view(REVOKED, None, claims_closed=False), {}, Standing.WAIT),
        # A person has resolved it.
        (FIRST, unclaimed(FIRST, verdict=VERDICT), {}, Standing.WAIT),
        (FIRST, unclaimed(FIRST, verdict=VERDICT, claims_closed=False), {}, Standing.WAIT),
    ],
)
def test_an_attempt_stands_where_all_that_is_known_puts_it(
    job: Job, known: AttemptView, circumstances: dict[str, object], expected: Standing
) -> None:
    assert stands(job, known, **circumstances) is expected


def test_an_attempt_is_offered_only_while_nothing_speaks_against_it() -> None:
    """Every combination of facts: nothing but the one in which all is well may reach a worker."""
    known = {
        "unclaimed": unclaimed(SECOND, before=TIMED_OUT_BEFORE),
        "unread": unclaimed(SECOND, before=TIMED_OUT_BEFORE, verified=False),
        "claimed": view(SECOND, None, before=TIMED_OUT_BEFORE),
        "without cause": unclaimed(SECOND, before=SUCCEEDED_BEFORE),
        "resolved": unclaimed(SECOND, before=TIMED_OUT_BEFORE, verdict=VERDICT),
    }
    revoked = replace(SECOND, place=replace(SECOND.place, active=replace(SECOND.place.active, revoked=True)))
    flags = (False, True)
    offered = [
        (name, job is SECOND, held, confirmed, looked_back, floor)
        for name, job, held, confirmed, looked_back, floor in product(
            known, (SECOND, revoked), flags, flags, flags, (None, 1)
        )
        if stands(
            job, known[name], held=held, confirmed=confirmed, looked_back=looked_back, floor_minutes=floor
        )
        is Standing.OFFER
    ]
    assert offered == [("unclaimed", True, True, True, True, None)]


@pytest.mark.parametrize("each", Standing)
def test_only_another_reading_leads_on_from_a_doubt(each: Standing) -> None:
    doubts = {Standing.READ_AGAIN, Standing.TAKE_BACK, Standing.LET_CLOSE}
    assert each.is_doubtful is (each in doubts)


@pytest.mark.parametrize("each", Standing)
def test_what_may_be_offered_yet_is_not_withdrawn(each: Standing) -> None:
    """Else an attempt would vanish from the list of what waits at each change of its job."""
    kept = {Standing.OFFER, Standing.WRITE_AGAIN_FIRST, Standing.READ_AGAIN, Standing.AWAIT_JOB}
    assert each.is_withdrawn is (each not in kept)
