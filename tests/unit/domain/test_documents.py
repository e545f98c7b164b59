"""What is written down is read back unchanged, and ids sort as the indexes need them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcron.domain import documents, job_documents
from dcron.domain.instants import format_instant
from dcron.domain.model import (
    Active,
    Claim,
    ClusterSettings,
    Job,
    ManualRun,
    Occurrence,
    Outcome,
    Skip,
    SkipReason,
    Specification,
    State,
    Verdict,
)
from dcron.domain.records import Body
from tests.doubles import LATER_UID, START, UID, request_id, sample_job
from tests.unit.domain.document_samples import (
    CLAIMS,
    INSTANTS,
    JOBS,
    OUTCOMES,
    SECONDS,
    SETTINGS,
    SKIPS,
    SPECIFICATIONS,
    VERDICTS,
)


def stored(body: Body) -> Body:
    return json.loads(json.dumps(body))


@given(JOBS)
def test_a_job_is_read_back_as_it_was_written(job: Job) -> None:
    assert job_documents.job_of(job.name, stored(job_documents.job_body(job))) == job


@given(SPECIFICATIONS)
def test_a_specification_is_read_back_as_it_was_written(specification: Specification) -> None:
    body = stored(job_documents.specification_body(specification))
    assert job_documents.specification_of(body) == specification


@given(CLAIMS)
def test_a_claim_is_read_back_as_it_was_written(claim: Claim) -> None:
    assert documents.claim_of(claim.execution_id, stored(documents.claim_body(claim))) == claim


@given(OUTCOMES)
def test_an_outcome_is_read_back_as_it_was_written(outcome: Outcome) -> None:
    assert documents.outcome_of(stored(documents.outcome_body(outcome))) == outcome


@given(OUTCOMES)
def test_an_outcome_of_an_older_node_closes_nothing(outcome: Outcome) -> None:
    body = documents.outcome_body(outcome)
    del body["closes"]
    assert documents.outcome_of(stored(body)) == replace(outcome, closes=False)


@given(VERDICTS)
def test_a_verdict_is_read_back_as_it_was_written(verdict: Verdict) -> None:
    assert documents.verdict_of(stored(documents.verdict_body(verdict))) == verdict


@given(SKIPS)
def test_a_skip_is_read_back_as_it_was_written(skip: Skip) -> None:
    assert documents.skip_of(stored(documents.skip_body(skip))) == skip


@given(SETTINGS)
def test_settings_are_read_back_as_they_were_written(settings: ClusterSettings) -> None:
    assert documents.settings_of(stored(documents.settings_body(settings))) == settings


@given(JOBS)
def test_a_job_is_in_the_index_of_what_is_due_by_its_place(job: Job) -> None:
    next_at = job.place.next_at
    assert job_documents.job_body(job)["next_at"] == (format_instant(next_at) if next_at else None)


def test_a_job_is_in_the_index_of_work_while_the_leader_has_any_left_for_it() -> None:
    def since(**place: object) -> str | None:
        return job_documents.job_body(sample_job(**place))["active_since"]

    occurrence = Occurrence.of_schedule(UID, START)
    assert since() is None
    assert since(active=Active(occurrence, 1, 1, START)) is not None
    assert since(waiting=(ManualRun(request_id(1)),)) is not None
    assert since(skips=(Skip(UID, START, START, SkipReason.PAUSED, 1),)) is not None


@given(st.integers(1, 999), st.integers(1, 999), SECONDS, SECONDS)
def test_executions_of_a_job_sort_by_time_then_attempt(one, other, earlier, later) -> None:
    first = Active(Occurrence.of_schedule(UID, earlier), one, 1, START)
    second = Active(Occurrence.of_schedule(UID, later), other, 1, START)
    assert (first.execution_id < second.execution_id) == ((earlier, one) < (later, other))


@pytest.mark.parametrize("key", [documents.term_key, lambda number: documents.revision_id(UID, number)])
@given(st.integers(0, 10**8), st.integers(0, 10**8))
def test_numbers_in_ids_sort_as_numbers(key: Callable[[int], str], one: int, other: int) -> None:
    assert (key(one) < key(other)) == (one < other)


def test_jobs_are_one_range_of_ids_and_their_revisions_another() -> None:
    assert "zzz" < documents.REVISIONS_START < documents.revision_id(UID, 1)
    assert documents.revision_id(UID, 10**8) < documents.revision_id(LATER_UID, 1)


def test_a_node_s_documents_name_it() -> None:
    assert documents.node_id_of(documents.node_key("a:b")) == "a:b"
    assert documents.node_id_of(documents.drain_id("a")) == "a"
    assert documents.verdict_id("u:k:001") == "u:k:001:verdict"


@given(INSTANTS, st.integers(1, 10**9))
def test_outcomes_of_one_state_are_indexed_by_time(instant: datetime, microseconds: int) -> None:
    later = instant + timedelta(microseconds=microseconds)
    first, second = (documents.state_key(State.FAILED, each) for each in (instant, later))
    assert "failed " < first < second < "failed!"
