"""The account of `make failover` finds what is lost and what is doubled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dcron.domain.model import Claim, Script, Skip, SkipReason
from tests.bench.failover_load import Mark, Records, Watched, take_account

BEGAN = datetime(2026, 11, 23, 12, 0, 0, 500_000, tzinfo=UTC)
JOB = Watched("job", "UID", since=BEGAN, until=BEGAN + timedelta(seconds=3))
"""Due at 12:00:01, :02 and :03."""


def execution(second: int, attempt: int = 1) -> str:
    return f"UID:20261123T1200{second:02}Z:{attempt:03}"


def records(*execution_ids: str, skipped: tuple[int, ...] = ()) -> Records:
    known = Records()
    for each in execution_ids:
        known.claims[each] = Claim(
            each, "token", "n1", "job", 1, 1, Script("0" * 64, 1), BEGAN, manual=False, claimed_at=BEGAN,
            timeout_seconds=60.0,
        )  # fmt: skip
    for second in skipped:
        at = BEGAN.replace(second=second, microsecond=0)
        known.skips["UID"].append(Skip("UID", at, at, SkipReason.COALESCED, 1))
    return known


def marks(*execution_ids: str) -> list[Mark]:
    return [Mark(each, 0.0) for each in execution_ids]


def test_a_start_or_a_skip_record_accounts_for_an_occurrence():
    ran = (execution(1), execution(3))

    account = take_account([JOB], [], marks(*ran), records(*ran, skipped=(2,)))

    assert (account.due, account.started, account.skipped) == (3, 2, {"coalesced": 1})
    assert (account.lost, account.doubled) == ([], [])


def test_an_occurrence_without_either_is_lost():
    ran = (execution(1), execution(3))

    account = take_account([JOB], [], marks(*ran), records(*ran))

    assert account.lost == ["UID:20261123T120002Z"]


def test_a_claim_that_never_started_is_no_account():
    claimed = (execution(1), execution(2), execution(3))

    account = take_account([JOB], [], marks(execution(1), execution(3)), records(*claimed))

    assert account.lost == ["UID:20261123T120002Z"]


def test_a_start_that_the_store_does_not_know_of_is_no_account():
    ran = (execution(1), execution(2), execution(3))

    account = take_account([JOB], [], marks(*ran), records(execution(1), execution(3)))

    assert account.lost == ["UID:20261123T120002Z"]


@pytest.mark.parametrize("again", [execution(2), execution(2, attempt=2)])
def test_two_starts_of_one_occurrence_are_doubled(again):
    ran = (execution(1), execution(2), execution(3), again)

    account = take_account([JOB], [], marks(*ran), records(*ran))

    assert account.doubled == ["UID:20261123T120002Z"]


def test_a_start_of_what_is_told_as_skipped_is_doubled():
    ran = (execution(1), execution(2), execution(3))

    account = take_account([JOB], [], marks(*ran), records(*ran, skipped=(2,)))

    assert account.doubled == ["UID:20261123T120002Z"]


def test_a_run_that_was_asked_for_starts_once():
    ran = (execution(1), execution(2), execution(3), "UID:ASKED:001")

    account = take_account([JOB], ["UID:ASKED:001", "UID:UNHEARD:001"], marks(*ran), records(*ran))

    assert (account.due, account.started, account.lost) == (5, 4, ["UID:UNHEARD"])
