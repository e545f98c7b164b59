"""Trouble is said once when it begins and once when it is over."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from dcron.domain.errors import StoreUnreachable
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


def test_errors_of_a_kind_are_the_trouble_until_nothing_is_raised() -> None:
    trouble = Trouble("poll", "cannot look", "looks again")
    with trouble.of(StoreUnreachable, TimeoutError):
        raise StoreUnreachable("gone")
    assert trouble.reason == "gone"
    with trouble.of(StoreUnreachable, TimeoutError):
        raise TimeoutError
    assert trouble.reason == "TimeoutError", "an error without words is a trouble, too"
    with trouble.of(StoreUnreachable):
        pass
    assert not trouble


def test_other_errors_go_on_and_neither_begin_nor_end_it() -> None:
    trouble = Trouble("poll", "cannot look", "looks again")
    for reason in ("", "gone"):
        if reason:
            trouble.met(reason)
        with pytest.raises(ValueError, match="defect"), trouble.of(StoreUnreachable):
            raise ValueError("defect")
        assert trouble.reason == reason
