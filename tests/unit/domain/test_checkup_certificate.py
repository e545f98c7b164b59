"""What doctor makes of a node's certificate."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dcron.domain.checkup import Level
from dcron.domain.checkup_certificate import CertificateFacts, judge_certificate

NOW = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
GOOD = CertificateFacts(
    name="n1",
    units=("dcron-node",),
    hosts=("n1.example", "192.0.2.1", "*.nodes.example"),
    not_before=NOW - DAY,
    not_after=NOW + 90 * DAY,
    of_ca=True,
    key_open_to_all=False,
)


@pytest.mark.parametrize("advertise", ["n1.example:7420", "192.0.2.1:7420", "a.nodes.example:7420"])
def test_a_good_certificate_says_until_when(advertise):
    [finding] = judge_certificate(GOOD, advertise, NOW)
    assert (finding.level, finding.message) == (Level.OK, "n1, valid until 2026-05-31")


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"not_after": NOW}, Level.FAILED, "has expired on 2026-03-02"),
        ({"not_after": NOW + 30 * DAY}, Level.WARNING, "expires on 2026-04-01"),
        ({"not_before": NOW + DAY}, Level.FAILED, "is not valid before"),
        ({"units": ("dcron-admin",)}, Level.FAILED, "no organizational unit dcron-node"),
        ({"of_ca": False}, Level.FAILED, "of no CA in tls_ca"),
        ({"hosts": ("other.example",)}, Level.FAILED, "does not name n1.example"),
        ({"key_open_to_all": True}, Level.WARNING, "may read the key"),
    ],
)
def test_each_thing_that_is_wrong_is_named_with_its_remedy(change, level, words):
    [finding] = judge_certificate(replace(GOOD, **change), "n1.example:7420", NOW)
    assert finding.level is level
    assert words in finding.message
    assert finding.remedy
