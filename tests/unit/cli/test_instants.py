"""Instants on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from dcron.cli.instants import PastType


def instant(text: str) -> datetime:
    return PastType().convert(text, None, None)


@pytest.mark.parametrize("text", ["20251231", "2025-12-31", "2025-12-31T00:00", "20251231T000000Z"])
def test_a_date_is_one_however_it_is_written(text: str) -> None:
    assert instant(text) == datetime(2025, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(("text", "hours"), [("2h", 2), ("7d", 7 * 24), ("3600", 1), ("0", 0)])
def test_a_span_is_that_long_ago(text: str, hours: int) -> None:
    assert abs(datetime.now(UTC) - timedelta(hours=hours) - instant(text)) < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["", "yesterday", "20251331T", "99999999d"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="neither a time"):
        instant(text)
