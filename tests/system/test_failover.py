"""`make failover`, with a few rounds: what it finds of correctness holds on any machine; times do not."""

from __future__ import annotations

import json

import pytest

from tests.bench.failover import TARGET_SECONDS, measure, print_change
from tests.bench.failover_report import print_report, write_results

ROUNDS = 3


@pytest.mark.timeout(300)
def test_leaders_that_are_killed_and_stopped_lose_and_double_nothing(tmp_path, couch_url, capsys):
    measured = measure(tmp_path, couch_url, ROUNDS, on_change=print_change)

    assert [change.kind for change in measured.changes] == ["SIGKILL", "clean stop"] * ROUNDS
    assert (measured.account.lost, measured.account.doubled) == ([], [])
    assert measured.account.started > 0
    print_report(measured, TARGET_SECONDS)
    printed = capsys.readouterr().out
    assert "lost: 0, doubled: 0" in printed
    for kind in TARGET_SECONDS:
        assert f"{kind}: the first offer" in printed
    stored = json.loads(write_results(measured, tmp_path).read_text())
    assert len(stored["changes"]) == 2 * ROUNDS
