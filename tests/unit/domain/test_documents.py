"""What is written down is read back unchanged, and ids sort as the indexes need them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcron.domain import documents, job_documents
from dcron.domain.instants import floor_second, format_instant
from dcron.domain.model import (
    Active,
    Claim,
    ClusterSettings,
    Coalesced,
    Job,
    LastOutcome,
    LogObject,
    ManualRun,
    Occurrence,
    Outcome,
    Place,
    Script,
    Skip,
    SkipReason,
    Specification,
    State,
    Verdict,
    VerdictKind,
)
from tests.doubles import LATER_UID, START, UID, request_id, sample_job

INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
SECONDS = INSTANTS.map(floor_second)
TEXT = st.text(max_size=8)
COUNTS = st.integers(0, 10**6)
AMOUNTS = st.floats(0, 1e6)
PAIRS = st.dictionaries(TEXT, TEXT, max_size=3)
REQUESTS = st.integers(0, 10**6).map(request_id)
SCRIPTS = st.builds(Script, TEXT, COUNTS, TEXT)
STATES = st.sampled_from([state for state in State if state is not State.RUNNING])
COALESCED = st.none() | st.builds(Coalesced, SECONDS, st.none() | COUNTS)
SPECIFICATIONS = st.builds(
    Specification,
    schedule=TEXT,
    script=SCRIPTS,
    timezone=TEXT,
    interpreter=TEXT,
    arguments=st.lists(TEXT, max_size=3).map(tuple),
    environment=PAIRS,
    labels=PAIRS,
    timeout_seconds=AMOUNTS,
    grace_seconds=AMOUNTS,
    max_attempts=COUNTS,
    failure_retries=COUNTS,
)
SKIPS = st.builds(
    Skip, st.just(UID), SECONDS, SECONDS, st.sampled_from(SkipReason), st.none() | COUNTS, into=TEXT
)


def whole_second(occurrence: Occurrence) -> Occurrence:
    return replace(occurrence, scheduled_at=floor_second(occurrence.scheduled_at))


# The time of a manual run has milliseconds in its ULID; beside it, documents keep the second.
OCCURRENCES = st.one_of(
    st.builds(lambda instant: Occurrence.of_schedule(UID, instant), SECONDS),
    st.builds(lambda request: whole_second(Occurrence.of_request(UID, request)), REQUESTS),
)
ACTIVE = st.builds(
    Active,
    occurrence=OCCURRENCES,
    attempt=st.integers(1, 999),
    term=COUNTS,
    intended_at=INSTANTS,
    coalesced=COALESCED,
    spent=COUNTS,
    failures=COUNTS,
    avoid=st.lists(TEXT, max_size=3).map(tuple),
)
PLACES = st.builds(
    Place,
    sequence=COUNTS,
    term=COUNTS,
    next_at=st.none() | SECONDS,
    counts_from=INSTANTS,
    paused_from=st.none() | SECONDS,
    active=st.none() | ACTIVE,
    waiting=st.lists(st.builds(ManualRun, REQUESTS), max_size=3).map(tuple),
    skips=st.lists(SKIPS, max_size=3).map(tuple),
    last=st.none() | st.builds(LastOutcome, TEXT, STATES, INSTANTS),
)
JOBS = st.builds(Job, TEXT, st.just(UID), COUNTS, SPECIFICATIONS, INSTANTS, INSTANTS, PLACES, st.booleans())
CLAIMS = st.builds(
    Claim,
    execution_id=TEXT,
    token=TEXT,
    node_id=TEXT,
    job=TEXT,
    term=COUNTS,
    revision=COUNTS,
    script=SCRIPTS,
    scheduled_at=SECONDS,
    manual=st.booleans(),
    claimed_at=INSTANTS,
    timeout_seconds=AMOUNTS,
    coalesced=COALESCED,
)
OUTCOMES = st.builds(
    Outcome,
    execution_id=TEXT,
    token=TEXT,
    node_id=TEXT,
    state=STATES,
    finished_at=INSTANTS,
    started_at=st.none() | INSTANTS,
    exit_code=st.none() | COUNTS,
    signal=st.none() | COUNTS,
    message=TEXT,
    cpu_seconds=AMOUNTS,
    peak_memory_bytes=COUNTS,
    log=st.none() | st.builds(LogObject, TEXT, COUNTS, COUNTS),
    closes=st.booleans(),
)
VERDICTS = st.builds(Verdict, TEXT, st.sampled_from(VerdictKind), TEXT, TEXT, INSTANTS)
SETTINGS = st.builds(ClusterSettings, COUNTS, INSTANTS, st.booleans(), st.none() | INSTANTS, COUNTS)


def stored(body: documents.Body) -> documents.Body:
    """The body as another node of a newer version might have it."""
    return json.loads(json.dumps({**body, "of_a_newer_version": [1]}))


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
