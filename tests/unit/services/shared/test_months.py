from __future__ import annotations

from datetime import UTC, datetime

from dcron.services.shared.months import by_month

NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
LAST_SECOND = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_items_are_grouped_by_the_month_of_their_instant_and_keep_their_order() -> None:
    items = [("b", LAST_SECOND), ("a", NEW_YEAR), ("c", LAST_SECOND)]
    assert by_month(items, lambda item: item[1]) == {
        "executions-2026-12": [("b", LAST_SECOND), ("c", LAST_SECOND)],
        "executions-2027-01": [("a", NEW_YEAR)],
    }


def test_nothing_has_no_month() -> None:
    assert by_month([], lambda item: item) == {}
