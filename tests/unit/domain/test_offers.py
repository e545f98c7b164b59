"""An offer carries what a worker needs to run an attempt."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from dcron.domain.model import Active, Coalesced, Occurrence
from dcron.domain.offers import offered
from dcron.domain.planning import AHEAD_SECONDS
from tests.doubles import START, UID, request_id, sample_job


def test_an_offer_names_the_attempt_and_the_present_revision() -> None:
    job = replace(sample_job(), revision=4)
    active = Active(Occurrence.of_schedule(UID, START), 2, 7, START, coalesced=Coalesced(START, 3))
    offer = offered(job, active)
    assert offer.execution_id == f"{UID}:20261123T120000Z:002"
    assert (offer.job, offer.revision, offer.specification) == ("job", 4, job.specification)
    assert (offer.scheduled_at, offer.manual, offer.coalesced) == (START, False, Coalesced(START, 3))


def test_the_offer_of_a_manual_run_says_so() -> None:
    active = Active(Occurrence.of_request(UID, request_id(1)), 1, 7, START)
    offer = offered(sample_job(), active)
    assert offer.manual
    assert offer.execution_id == f"{UID}:{request_id(1)}:001"


def test_what_is_offered_ahead_says_how_long_it_is_until_its_instant() -> None:
    offer = offered(sample_job(), Active(Occurrence.of_schedule(UID, START), 1, 7, START))
    assert offer.at(START - timedelta(seconds=0.5)).start_in_seconds == 0.5
    assert offer.at(START).start_in_seconds == 0.0
    assert offer.at(START + timedelta(hours=1)).start_in_seconds == 0.0
    # The leader's clock was set back since it decided.
    assert offer.at(START - timedelta(hours=1)).start_in_seconds == AHEAD_SECONDS


def test_a_manual_run_starts_at_once_though_the_clock_of_who_asked_is_ahead() -> None:
    offer = offered(sample_job(), Active(Occurrence.of_request(UID, request_id(1)), 1, 7, START))
    assert offer.at(offer.scheduled_at - timedelta(seconds=1)).start_in_seconds == 0.0
