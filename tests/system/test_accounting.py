"""The accounts that the other tests close find what is wrong."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.system.accounting import assert_attempts, assert_calendar, assert_no_older_term_was_taken

START = datetime(2026, 1, 1, tzinfo=UTC)
CALENDAR = [START + timedelta(seconds=2 * number) for number in range(4)]


def execution(
    number: int, attempt: int = 1, state: str = "EXECUTION_STATE_SUCCEEDED", **more: Any
) -> dict[str, Any]:
    return {
        "id": f"U:{number}:{attempt}",
        "state": state,
        "scheduledAt": (START + timedelta(seconds=number)).isoformat(),
        "attempt": attempt,
        "manual": False,
        **more,
    }


def skip(first: int, until: int, reason: str = "SKIP_REASON_COALESCED") -> dict[str, Any]:
    end = (START + timedelta(seconds=until)).isoformat()
    return execution(first, 0, "EXECUTION_STATE_SKIPPED", occurrencesUntil=end, skipReason=reason)


COALESCING = execution(0, occurrencesUntil=CALENDAR[3].isoformat())


def test_a_calendar_of_executions_and_what_they_coalesce_is_complete():
    assert_calendar("job", [execution(0), execution(2), execution(4), execution(6)], CALENDAR, 2)
    assert_calendar("job", [COALESCING, skip(2, 6)], CALENDAR, 2)


@pytest.mark.parametrize(
    "records",
    [
        [execution(0), execution(2), execution(6)],
        [COALESCING, skip(2, 6), execution(4)],
        [COALESCING, skip(2, 6), skip(2, 4)],
        [execution(0), skip(2, 6)],
        [COALESCING, skip(2, 6, "SKIP_REASON_MISSED")],
        [execution(0), execution(2), execution(4), execution(6), execution(5)],
    ],
    ids=["lost", "both", "two skips", "nothing coalesces it", "another reason", "not in the schedule"],
)
def test_a_calendar_that_is_not_accounted_for_is_found(records):
    with pytest.raises(AssertionError):
        assert_calendar("job", records, CALENDAR, 2)


def test_a_next_attempt_with_cause_is_fine():
    records = [execution(0, 1, "EXECUTION_STATE_NOT_STARTED"), execution(0, 2)]
    assert_attempts(
        "job", records, Counter(["U:0:2"]), ["EXECUTION_STATE_NOT_STARTED"], "EXECUTION_STATE_SUCCEEDED"
    )


@pytest.mark.parametrize(
    ("records", "starts"),
    [
        ([execution(0)], ["U:0:1", "U:0:1"]),
        ([execution(0)], []),
        ([execution(0, 1, "EXECUTION_STATE_NOT_STARTED"), execution(0, 2)], ["U:0:1", "U:0:2"]),
        ([execution(0), execution(0, 2)], ["U:0:1", "U:0:2"]),
        ([execution(0, 2)], ["U:0:2"]),
        ([execution(0, 1, "EXECUTION_STATE_RUNNING")], ["U:0:1"]),
    ],
    ids=["twice", "never", "started after all", "without cause", "first is missing", "no outcome"],
)
def test_an_attempt_that_ought_not_to_be_is_found(records, starts):
    with pytest.raises(AssertionError):
        assert_attempts(
            "job", records, Counter(starts), ["EXECUTION_STATE_NOT_STARTED"], "EXECUTION_STATE_SUCCEEDED"
        )


def test_a_claim_for_an_older_term_is_found_on_the_node_that_knew_better():
    def claim(node_id: str, term: int, second: int) -> dict[str, Any]:
        return {"nodeId": node_id, "term": str(term), "claimedAt": f"2026-01-01T00:00:{second:02}Z"}

    assert_no_older_term_was_taken([claim("a", 1, 1), claim("b", 2, 2), claim("a", 1, 3), claim("a", 2, 4)])
    with pytest.raises(AssertionError):
        assert_no_older_term_was_taken([claim("a", 2, 4), claim("a", 1, 5)])
