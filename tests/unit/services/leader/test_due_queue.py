"""The queue names what is due, each job once, the earlier ahead of its instant the more are due at that."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcron.domain.planning import AHEAD_SECONDS
from dcron.services.leader import due_queue as module
from dcron.services.leader.due_queue import AHEAD_PER_JOB, DueQueue
from tests.doubles import START

MINUTE = timedelta(minutes=1)
MANY = 100


def queue(**due_at: datetime) -> DueQueue:
    made = DueQueue()
    for name, instant in due_at.items():
        made.put(name, instant, by_clock=True)
    return made


def test_jobs_come_due_in_order_each_once_and_in_bounded_number() -> None:
    due = queue(**{name: START + number * MINUTE for number, name in enumerate("dcba")})
    assert due.next_due_at() == START
    assert due.take_due(START - MINUTE, 10) == []
    assert due.take_due(START + 2 * MINUTE, 2) == ["d", "c"]
    assert due.take_due(START + 2 * MINUTE, 2) == ["b"]
    assert due.take_due(START + 2 * MINUTE, 2) == []
    assert due.next_due_at() == START + 3 * MINUTE


def test_a_job_is_taken_ahead_of_its_instant_and_may_be_left_for_it() -> None:
    due = queue(a=START, b=START + MINUTE)
    before = START - AHEAD_PER_JOB
    assert due.next_due_at(early=True) == before
    assert due.take_due(before - AHEAD_PER_JOB, 10, early=True) == []
    assert due.take_due(before, 10) == []
    assert due.take_due(before, 10, early=True) == ["a"]
    due.leave("a", before)
    assert due.next_due_at(early=True) == START
    assert due.take_due(before, 10, early=True) == []
    assert due.take_due(START, 10, early=True) == ["a"]
    # What nothing can be decided about at its instant waits for news, not for the clock.
    due.leave("a", START)
    assert due.next_due_at(early=True) == START + MINUTE - AHEAD_PER_JOB


def test_the_more_are_due_at_an_instant_the_earlier_they_are_taken() -> None:
    due = queue(**{f"a{number}": START for number in range(4)}, later=START + MINUTE)
    assert due.next_due_at(early=True) == START - 4 * AHEAD_PER_JOB
    assert len(due.take_due(START - 4 * AHEAD_PER_JOB, 2, early=True)) == 2
    # What is left takes half as long.
    assert due.next_due_at(early=True) == START - 2 * AHEAD_PER_JOB


def test_nothing_is_taken_earlier_than_answers_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AHEAD_PER_JOB", MINUTE)
    assert queue(a=START).next_due_at(early=True) == START - timedelta(seconds=AHEAD_SECONDS)


def test_a_job_that_was_put_at_another_instant_comes_at_that_alone() -> None:
    due = queue(a=START, b=START)
    due.put("a", START + MINUTE, by_clock=True)
    assert due.take_due(START, 10) == ["b"]
    assert due.take_due(START + MINUTE, 10) == ["a"]


def test_a_job_that_is_removed_or_has_nothing_due_any_more_does_not_come() -> None:
    due = queue(a=START, b=START, c=START)
    due.remove("a")
    due.put("b", None, by_clock=True)
    assert due.take_due(START, 10) == ["c"]


def test_what_waits_for_the_end_of_an_attempt_is_not_taken_by_the_clock() -> None:
    due = DueQueue()
    due.put("a", START, by_clock=False)
    assert due.next_due_at() is None
    assert due.take_due(START, 10) == []


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 3), st.booleans()), max_size=MANY),
    st.integers(0, 3),
)
def test_exactly_those_that_wait_for_the_clock_until_then_are_taken(
    puts: list[tuple[str, int | None, bool]], until: int
) -> None:
    due = DueQueue()
    wanted: dict[str, int] = {}
    for name, minutes, removed in puts:
        wanted.pop(name, None)
        if removed:
            due.remove(name)
        else:
            due.put(name, None if minutes is None else START + minutes * MINUTE, by_clock=True)
            if minutes is not None:
                wanted[name] = minutes
    taken = due.take_due(START + until * MINUTE, MANY)
    assert sorted(taken) == sorted(name for name, minutes in wanted.items() if minutes <= until)
    assert [wanted[name] for name in taken] == sorted(wanted[name] for name in taken)
    assert due.take_due(START + until * MINUTE, MANY) == []
