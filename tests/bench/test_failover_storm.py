"""The account of a storm counts what died between claim and start, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dcron.domain.model import Claim, Script
from tests.bench.failover_load import Account, Mark, Records
from tests.bench.failover_storm import TARGET_SECONDS, Death, Stormed, followed, misses

DIED = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
FIRST, SECOND = "UID:20261123T120000Z:001", "UID:20261123T120000Z:002"
DEATH = Death("n1", FIRST, "won", DIED.timestamp())


def records(**claims: tuple[str, float]) -> Records:
    """Claims by `first` and `second`: the token, and how long after the death it was claimed."""
    known = Records()
    for name, (token, seconds) in claims.items():
        each = FIRST if name == "first" else SECOND
        known.claims[each] = Claim(
            each, token, "n1", "job", 1, 1, Script("0" * 64, 1), DIED, manual=False,
            claimed_at=DIED + timedelta(seconds=seconds), timeout_seconds=60.0,
        )  # fmt: skip
    return known


def stormed(*deaths: Death, leaders_ended: int = 3, account: Account | None = None) -> Stormed:
    return Stormed(60.0, leaders_ended, deaths, account or Account(due=1, started=1), machine=None)


def test_what_was_claimed_and_never_started_is_counted_until_the_next_claim():
    [death] = followed([DEATH], [], records(first=("won", -1.0), second=("other", 12.5)))
    assert death.stood_still_seconds == pytest.approx(12.5)


def test_what_nothing_follows_stands_still_for_ever():
    [death] = followed([DEATH], [], records(first=("won", -1.0)))
    assert death.stood_still_seconds == float("inf")


@pytest.mark.parametrize(
    ("marks", "claims"),
    [
        ([Mark(FIRST, 0.0)], {"first": ("won", -1.0)}),
        ([], {"first": ("somebody's", -1.0)}),
        ([], {}),
    ],
    ids=["it was started", "another claim won", "the claim never arrived"],
)
def test_what_did_not_die_between_claim_and_start_is_left_out(marks, claims):
    assert followed([DEATH], marks, records(**claims)) == []


def test_each_miss_is_named():
    in_time = replace(DEATH, followed_at=DEATH.died_at + TARGET_SECONDS - 0.1)
    late = replace(DEATH, followed_at=DEATH.died_at + TARGET_SECONDS + 0.1)
    assert misses(stormed(in_time)) == []
    assert "20.10 s after n1 died" in misses(stormed(in_time, late))[0]
    assert "no worker died" in misses(stormed())[0]
    assert "no leader was ended" in misses(stormed(in_time, leaders_ended=0))[0]
    unkept = Account(due=2, started=1, lost=["UID:a"], doubled=["UID:b"])
    assert len(misses(stormed(in_time, account=unkept))) == 2
