"""A node's document says all that the node knows of itself, and is read back unchanged."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dcron.domain.nodes import LeaderReport, NodeRecord, Waiting, node_body, node_of

INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
TEXT = st.text(max_size=10)
COUNTS = st.integers(0, 10**9)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
REPORTS = st.builds(
    LeaderReport,
    alive=TEXTS,
    waiting=st.lists(st.builds(Waiting, TEXT, TEXT, TEXT), max_size=3).map(tuple),
    waiting_count=COUNTS,
    attention=TEXTS,
    active_count=COUNTS,
    claims_known_seconds=st.none() | st.dictionaries(TEXT, st.floats(0, 1e6), max_size=3),
)
RECORDS = st.builds(
    NodeRecord,
    node_id=TEXT,
    incarnation=TEXT,
    spool_id=TEXT,
    address=TEXT,
    version=TEXT,
    slots=COUNTS,
    started_at=INSTANTS,
    renewed_at=INSTANTS,
    running=COUNTS,
    draining=st.booleans(),
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    spooled=COUNTS,
    warnings=TEXTS,
    leading=COUNTS,
    resigned=COUNTS,
    stopped=st.booleans(),
    report=st.none() | REPORTS,
    spooled_since=st.none() | INSTANTS,
    lease_seconds=st.floats(0, 600),
)


@given(RECORDS)
def test_a_node_is_read_back_as_it_was_written(record: NodeRecord) -> None:
    assert node_of(record.node_id, json.loads(json.dumps(node_body(record)))) == record


@given(RECORDS)
def test_fields_of_a_newer_version_are_ignored(record: NodeRecord) -> None:
    assert node_of(record.node_id, {**node_body(record), "mood": "good"}) == record


def test_what_an_older_version_does_not_tell_is_not_known() -> None:
    now = datetime(2026, 3, 2, tzinfo=UTC)
    record = NodeRecord("n1", "t", "s", "n1:1", "0", 4, now, now, spooled_since=now, lease_seconds=6.0)
    body = node_body(record)
    del body["spooled_since"], body["lease_seconds"]
    read = node_of("n1", body)
    assert (read.spooled_since, read.lease_seconds) == (None, 0.0)


def test_a_leader_of_an_older_version_does_not_tell_for_how_long_it_knows_claims() -> None:
    now = datetime(2026, 3, 2, tzinfo=UTC)
    report = LeaderReport(claims_known_seconds={"token": 3.5})
    body = node_body(NodeRecord("n1", "t", "s", "n1:1", "0", 4, now, now, report=report))
    del body["report"]["claims_known_seconds"]
    assert node_of("n1", body).report == LeaderReport(claims_known_seconds=None)
