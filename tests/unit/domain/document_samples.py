"""Every value that is stored, as hypothesis may draw it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import strategies as st

from dcron.domain.instants import floor_second
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
from tests.doubles import UID, request_id

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
MAYBE_INSTANTS = st.none() | INSTANTS
SETTINGS = st.builds(
    ClusterSettings,
    format_version=COUNTS,
    floor=INSTANTS,
    frozen=st.booleans(),
    frozen_at=MAYBE_INSTANTS,
    sequence=COUNTS,
    thawed_at=MAYBE_INSTANTS,
    said_at=MAYBE_INSTANTS,
)
