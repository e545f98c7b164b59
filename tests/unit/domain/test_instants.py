"""Instants are written with fixed width in UTC, so that byte order is time order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcron.domain.instants import (
    floor_second,
    format_instant,
    format_key,
    format_precise,
    parse_instant,
    parse_key,
)

ZONES = st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-14 * 60, 14 * 60))
INSTANTS = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=ZONES)  # noqa: DTZ001 - hypothesis adds the zone


def test_the_forms_are_those_of_the_documents() -> None:
    instant = datetime(2026, 11, 23, 14, 0, 5, 42, tzinfo=timezone(timedelta(hours=1)))
    assert format_key(instant) == "20261123T130005Z"
    assert format_instant(instant) == "2026-11-23T13:00:05Z"
    assert format_precise(instant) == "2026-11-23T13:00:05.000042Z"


@given(INSTANTS)
def test_what_is_written_is_read_back(instant: datetime) -> None:
    assert parse_instant(format_precise(instant)) == instant
    assert parse_instant(format_instant(instant)) == floor_second(instant)
    assert parse_key(format_key(instant)) == floor_second(instant)
    for read in (parse_instant(format_instant(instant)), parse_key(format_key(instant))):
        assert read.tzinfo is UTC


@given(INSTANTS, INSTANTS)
def test_byte_order_is_time_order_and_widths_are_fixed(one: datetime, other: datetime) -> None:
    assert (format_precise(one) < format_precise(other)) == (one < other)
    for write in (format_key, format_instant):
        assert (write(one) < write(other)) == (floor_second(one) < floor_second(other))
        assert len(write(one)) == len(write(other))


@pytest.mark.parametrize(
    "text", ["", "20261123", "20261323T130000Z", "2026-11-23T13:00:00Z", "20261123T130000Z "]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"match format|unconverted"):
        parse_key(text)


def test_what_is_no_instant_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid isoformat"):
        parse_instant("yesterday")
