"""The oracle is the text itself: what is written here by hand, and Python's own order of tuples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcron.domain.execution_id import MAX_ATTEMPT, ExecutionId, split_document_id
from dcron.domain.ids import new_ulid
from dcron.domain.instants import floor_second
from dcron.domain.model import Active, Occurrence

UID = "01KB0000000000000000000001"
OTHER_UID = "01KB0000000000000000000002"
RUN = "01M84D6QBS78X2GEQR0TKKPTAD"
NOON = "20260302T120030Z"

INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
ULIDS = st.builds(new_ulid, INSTANTS, st.binary(min_size=10, max_size=10))
NUMBERS = st.integers(1, MAX_ATTEMPT)
OCCURRENCES = st.one_of(
    st.builds(Occurrence.of_schedule, ULIDS, INSTANTS.map(floor_second)),
    st.builds(Occurrence.of_request, ULIDS, ULIDS),
)
IDS = st.builds(Occurrence.attempt, OCCURRENCES, NUMBERS)


@pytest.mark.parametrize(
    ("text", "parts", "instant"),
    [
        (f"{UID}:{NOON}:001", (UID, NOON, 1), datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)),
        (f"{UID}:00010101T000000Z:999", (UID, "00010101T000000Z", 999), datetime(1, 1, 1, tzinfo=UTC)),
        (f"{UID}:00000000010000000000000000:042", (UID, "00000000010000000000000000", 42), None),
    ],
)
def test_an_id_is_taken_apart(text: str, parts: tuple[str, str, int], instant: datetime | None) -> None:
    identifier = ExecutionId.parse(text)
    assert identifier == parts
    assert identifier.instant == (instant or datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=1))
    assert identifier.text == str(identifier) == f"{identifier}" == text
    assert text == f"{identifier.occurrence}:{text[-3:]}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "a:b:c",
        f"{UID}:{NOON}",
        f"{UID}:{NOON}:1",
        f"{UID}:{NOON}:0001",
        f"{UID}:{NOON}:000",
        f"{UID}:{NOON}:-01",
        f"{UID}:{NOON}:001:",
        f"{UID}:{NOON}:001\n",
        f" {UID}:{NOON}:001",
        f"{UID}:20260302T1200Z:001",
        f"{UID}:20260302T120030+:001",
        f"{UID}:20261302T120030Z:001",
        f"{UID}:20260230T120030Z:001",
        f"{UID}:20260302T126030Z:001",
        f"{UID}:²:²",
        f"{UID}:{NOON}:00²",
        f"{UID}:{NOON}:00\u0661",
        f"{UID.lower()}:{NOON}:001",
        f"{UID[:-1]}I:{NOON}:001",
        f"8{UID[1:]}:{NOON}:001",
        f"{UID}:{RUN.lower()}:001",
        f"{UID}:{RUN[:-1]}:001",
        f"{UID}:7ZZZZZZZZZZZZZZZZZZZZZZZZZ:001",
    ],
)
def test_what_dcron_does_not_write_is_no_id(text: str) -> None:
    assert ExecutionId.parse_or_none(text) is None
    with pytest.raises(ValueError, match="not an execution id"):
        ExecutionId.parse(text)


@given(IDS)
def test_an_id_is_read_back_as_it_was_written(identifier: ExecutionId) -> None:
    assert ExecutionId.parse(identifier.text) == identifier


@given(st.text())
def test_no_text_is_read_as_another_id_than_it_says(text: str) -> None:
    identifier = ExecutionId.parse_or_none(text)
    assert identifier is None or identifier.text == text


@given(OCCURRENCES, NUMBERS)
def test_its_instant_is_its_occurrence_s(occurrence: Occurrence, number: int) -> None:
    assert floor_second(occurrence.attempt(number).instant) == occurrence.scheduled_at


@given(INSTANTS.map(floor_second), INSTANTS.map(floor_second), NUMBERS, NUMBERS)
def test_ids_of_a_job_sort_by_time_then_attempt(
    earlier: datetime, later: datetime, one: int, other: int
) -> None:
    first, second = (
        Occurrence.of_schedule(UID, instant).attempt(number).text
        for instant, number in ((earlier, one), (later, other))
    )
    assert (first < second) == ((earlier, one) < (later, other))


@pytest.mark.parametrize(
    ("text", "other", "reaches"),
    [
        (f"{UID}:{NOON}:001", f"{UID}:{NOON}:001", True),
        (f"{UID}:{NOON}:010", f"{UID}:{NOON}:009", True),
        (f"{UID}:{NOON}:001", f"{UID}:{NOON}:002", False),
        (f"{UID}:{RUN}:002", f"{UID}:{NOON}:001", False),
        (f"{OTHER_UID}:{NOON}:002", f"{UID}:{NOON}:001", False),
        (f"{UID}:20260302T120031Z:002", f"{UID}:{NOON}:001", False),
    ],
)
def test_an_attempt_reaches_those_before_it_of_its_occurrence(text: str, other: str, reaches: bool) -> None:
    assert ExecutionId.parse(text).reaches(ExecutionId.parse(other)) is reaches


def test_another_attempt_is_of_the_same_occurrence() -> None:
    assert ExecutionId.parse(f"{UID}:{NOON}:001").with_attempt(12).text == f"{UID}:{NOON}:012"


@given(OCCURRENCES, NUMBERS)
def test_an_active_attempt_says_its_id(occurrence: Occurrence, number: int) -> None:
    active = Active(occurrence, number, 1, occurrence.scheduled_at)
    assert active.id == (occurrence.uid, occurrence.key, number)
    before = (f"{occurrence.uid}:{occurrence.key}:{number - 1:03d}",) if number > 1 else ()
    assert active.latest_ids == (active.execution_id, *before)


@pytest.mark.parametrize(
    ("document_id", "expected"),
    [
        (f"{UID}:{NOON}:003", (f"{UID}:{NOON}:003", "")),
        (f"{UID}:{NOON}:003:0f3a", (f"{UID}:{NOON}:003", "0f3a")),
        (f"{UID}:{NOON}:003:a:b", (f"{UID}:{NOON}:003", "a:b")),
        (f"{UID}:{RUN}:001:verdict", (f"{UID}:{RUN}:001", "verdict")),
        (f"{UID}:{NOON}:skipped:{NOON}", None),
        (f"{UID}:{NOON}", None),
        ("_design/dcron", None),
        ("", None),
    ],
)
def test_a_document_s_id_names_its_execution(document_id: str, expected: tuple[str, str] | None) -> None:
    parts = split_document_id(document_id)
    assert (None if parts is None else (parts[0].text, parts[1])) == expected
