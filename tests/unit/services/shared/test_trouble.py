"""Trouble is said once when it begins and once when it is over."""

from __future__ import annotations

from structlog.testing import capture_logs

from dcron.services.shared.trouble import StoreTrouble, Trouble
from tests.doubles import ManualClock


def test_trouble_is_said_once_however_often_it_is_met() -> None:
    trouble = Trouble("poll", "cannot look", "looks again", database="jobs")
    with capture_logs() as lines:
        trouble.over()
        for reason in ("one", "two", "two"):
            trouble.met(reason)
        assert trouble and trouble.reason == "two"
        trouble.over()
        trouble.over()
    assert not trouble
    assert [(line["log_level"], line["event"], line["action"], line["database"]) for line in lines] == [
        ("warning", "cannot look", "poll", "jobs"),
        ("info", "looks again", "poll", "jobs"),
    ]


def test_trouble_with_the_store_has_a_beginning() -> None:
    clock = ManualClock()
    trouble = StoreTrouble(clock)
    began_at = clock.now()
    trouble.met("gone")
    clock.pass_seconds(5.0)
    trouble.met("still gone")
    assert trouble.since == began_at
    trouble.over()
    assert trouble.since is None
