"""ULIDs carry their time, sort by it, and are written in one way only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcron.domain.ids import ULID_RANDOMNESS_BYTES, is_ulid, new_ulid, ulid_time

INSTANTS = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
RANDOMNESS = st.binary(min_size=ULID_RANDOMNESS_BYTES, max_size=ULID_RANDOMNESS_BYTES)


def test_the_text_is_that_of_the_ulid_specification() -> None:
    # 1469918176385 ms is the example of the ULID specification: its time reads 01ARYZ6S41.
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=1469918176385)
    assert new_ulid(instant, bytes(10)) == "01ARYZ6S410000000000000000"
    assert new_ulid(instant, b"\xff" * 10) == "01ARYZ6S41ZZZZZZZZZZZZZZZZ"


@given(INSTANTS, RANDOMNESS)
def test_a_ulid_gives_back_its_time_to_the_millisecond(instant: datetime, randomness: bytes) -> None:
    ulid = new_ulid(instant, randomness)
    assert is_ulid(ulid)
    assert ulid_time(ulid) == instant.replace(microsecond=instant.microsecond // 1000 * 1000)


@given(INSTANTS, INSTANTS, RANDOMNESS, RANDOMNESS)
def test_ulids_of_different_milliseconds_sort_by_time(a: datetime, b: datetime, x: bytes, y: bytes) -> None:
    first, second = new_ulid(a, x), new_ulid(b, y)
    if ulid_time(first) != ulid_time(second):
        assert (first < second) == (ulid_time(first) < ulid_time(second))
    else:
        assert (first < second) == (x < y)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "01ARYZ6S41000000000000000",  # one short
        "01ARYZ6S4100000000000000000",  # one long
        "01aryz6s410000000000000000",  # lower case
        "01ARYZ6S41000000000000000U",  # U is not in the alphabet
        "81ARYZ6S410000000000000000",  # more than 128 bits
        "7ZZZZZZZZZ0000000000000000",  # beyond the year 9999
        "01ARYZ6S410000000000000000\n",
    ],
)
def test_what_is_not_a_ulid_is_refused(text: str) -> None:
    assert not is_ulid(text)
    with pytest.raises(ValueError, match="not a ULID"):
        ulid_time(text)


def test_a_ulid_takes_ten_random_bytes_and_no_time_before_1970() -> None:
    with pytest.raises(ValueError, match="10 random bytes"):
        new_ulid(datetime(2026, 1, 1, tzinfo=UTC), bytes(9))
    with pytest.raises(ValueError, match="before 1970"):
        new_ulid(datetime(1969, 12, 31, tzinfo=UTC), bytes(10))
