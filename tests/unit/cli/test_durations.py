from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcron.cli.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("45", 45),
        ("1.5", 1.5),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1d2h3m4s", 93_784),
        ("0.5h", 1800),
        (" 30s ", 30),
    ],
)
def test_a_time_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["-1", "-5s"])
def test_a_negative_time_is_refused_by_that_word(text: str) -> None:
    with pytest.raises(ValueError, match="is negative"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", " ", "s", "5x", "1m1h", "5m5m", "1e3", "nan", "inf", "٣s", "1h 30m"])
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="30s, 5m"):
        parse_duration(text)


@given(st.integers(0, 10**7))
def test_what_is_written_reads_as_the_same(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds
