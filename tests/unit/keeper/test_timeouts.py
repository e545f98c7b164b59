"""The next timeout is known without looking at all scripts, and ended scripts leave nothing behind."""

from __future__ import annotations

import math

from dcron.keeper import timeouts as timeouts_module
from dcron.keeper.timeouts import Timeouts


def test_what_is_due_is_taken_once_and_in_order():
    timeouts = Timeouts()
    for token, at in (("c", 30.0), ("a", 10.0), ("b", 20.0)):
        timeouts.add(token, at)
    assert timeouts.next_at() == 10.0
    assert timeouts.take_due(9.0) == []
    assert timeouts.take_due(20.0) == ["a", "b"]
    assert timeouts.take_due(20.0) == []
    assert timeouts.next_at() == 30.0


def test_a_script_that_has_ended_is_not_stopped():
    timeouts = Timeouts()
    timeouts.add("a", 10.0)
    timeouts.add("b", 20.0)
    timeouts.discard("a")
    assert timeouts.next_at() == 20.0
    assert timeouts.take_due(15.0) == []


def test_without_a_timeout_nothing_is_due():
    timeouts = Timeouts()
    timeouts.add("a", math.inf)
    assert timeouts.next_at() == math.inf
    timeouts.discard("a")
    timeouts.discard("never there")
    assert timeouts.take_due(1e18) == []


def test_many_scripts_that_end_long_before_their_timeout_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(timeouts_module, "LEFT_MAX", 10)
    timeouts = Timeouts()
    timeouts.add("stays", 5_000.0)
    for number in range(1_000):
        timeouts.add(f"short{number}", 10_000.0 + number)
        timeouts.discard(f"short{number}")
        assert len(timeouts._heap) <= 2 * 1 + 10
    assert timeouts.take_due(1e9) == ["stays"]
