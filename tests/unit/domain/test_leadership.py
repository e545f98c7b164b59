"""A leader has stopped before anybody may count it as gone; each node goes by its own clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcron.domain.leadership import (
    Action,
    Lease,
    Reading,
    TermView,
    claims_since,
    decide,
    lead_until,
    observe,
    silent_holder,
)

LEASE = Lease(6.0)
LEADING = Reading(3, "a", "incarnation-a", "5-x", holder_leading=3)
SECONDS = st.floats(0, 1e6)


def after(view: TermView | None, reading: Reading, seconds: float) -> TermView:
    return observe(view, reading, seconds)


def test_a_lease_is_renewed_twice_before_a_leader_stops_and_it_stops_before_the_lease_is_over() -> None:
    assert LEASE.renewal_seconds == 2.0
    assert LEASE.renewal_seconds < LEASE.leading_seconds < LEASE.length_seconds


def test_without_any_term_the_first_one_is_claimed() -> None:
    assert decide(None, "incarnation-b", LEASE, 10.0).action is Action.CLAIM


def test_a_follower_believes_the_holder_for_a_lease_since_its_last_sign_of_life() -> None:
    view = after(None, LEADING, 100.0)
    decision = decide(view, "incarnation-b", LEASE, 105.9)
    assert decision.action is Action.FOLLOW
    assert decision.again_seconds == pytest.approx(0.1)
    assert decide(view, "incarnation-b", LEASE, 101.0).again_seconds == LEASE.renewal_seconds
    assert decide(view, "incarnation-b", LEASE, 106.0).action is Action.CLAIM


def claims_after(view: TermView, incarnation: str) -> float:
    """How long after the lease this node claims the next term, by a clock that began with the term."""
    waits = (number / 100 for number in range(1_000))
    claims = (each for each in waits if decide(view, incarnation, LEASE, 6.0 + each).action is Action.CLAIM)
    return next(claims)


def test_after_a_term_that_nobody_led_nodes_take_turns_each_time_in_another_order() -> None:
    unsure = replace(LEADING, holder_leading=0)
    first, second = after(None, unsure, 0.0), after(None, replace(unsure, term=4), 0.0)
    nodes = [f"incarnation-{each}" for each in "bcde"]
    turns = [[claims_after(view, node) for node in nodes] for view in (first, second)]
    assert all(0.0 <= each <= LEASE.renewal_seconds for each in (*turns[0], *turns[1]))
    assert len(set(turns[0])) == len(set(turns[1])) == len(nodes)
    assert sorted(nodes, key=dict(zip(nodes, turns[0], strict=True)).get) != sorted(
        nodes, key=dict(zip(nodes, turns[1], strict=True)).get
    )


def test_once_a_term_was_led_nobody_waits_longer_than_the_lease() -> None:
    view = after(after(None, replace(LEADING, holder_leading=0), 0.0), LEADING, 0.0)
    restarted = after(view, replace(LEADING, holder_leading=0, holder_revision="6-y"), 1.0)
    assert [claims_after(restarted, f"incarnation-{each}") for each in "bcde"] == [0.0] * 4


def test_a_new_revision_that_says_it_leads_is_a_sign_of_life() -> None:
    view = after(after(None, LEADING, 100.0), replace(LEADING, holder_revision="6-y"), 105.0)
    assert decide(view, "incarnation-b", LEASE, 110.9).action is Action.FOLLOW
    assert decide(view, "incarnation-b", LEASE, 111.0).action is Action.CLAIM


def test_the_same_revision_seen_again_is_none() -> None:
    view = after(after(None, LEADING, 100.0), LEADING, 105.0)
    assert decide(view, "incarnation-b", LEASE, 106.0).action is Action.CLAIM


@pytest.mark.parametrize("leading", [0, 2])
def test_a_new_revision_that_does_not_lead_this_term_is_none(leading: int) -> None:
    following = replace(LEADING, holder_revision="6-y", holder_leading=leading)
    view = after(after(None, LEADING, 100.0), following, 105.0)
    assert view.reading == following
    assert decide(view, "incarnation-b", LEASE, 106.0).action is Action.CLAIM


def test_a_holder_that_vanished_is_believed_for_the_rest_of_its_lease() -> None:
    gone = Reading(3, "a", "incarnation-a")
    view = after(after(None, LEADING, 100.0), gone, 103.0)
    assert decide(view, "incarnation-b", LEASE, 105.9).action is Action.FOLLOW
    assert decide(view, "incarnation-b", LEASE, 106.0).action is Action.CLAIM


def test_a_newer_term_is_believed_from_when_it_is_seen_and_an_older_reading_changes_nothing() -> None:
    view = after(after(None, LEADING, 100.0), Reading(4, "c", "incarnation-c"), 105.0)
    assert after(view, LEADING, 106.0) is view
    decision = decide(view, "incarnation-b", LEASE, 110.0)
    assert decision.action is Action.FOLLOW
    assert "follows c in term 4" in decision.why


def test_a_resigned_term_is_claimed_at_once() -> None:
    view = after(None, replace(LEADING, holder_leading=0, holder_resigned=3), 100.0)
    decision = decide(view, "incarnation-b", LEASE, 100.0)
    assert decision.action is Action.CLAIM
    assert decision.again_seconds == 0.0


def test_a_resignation_of_an_earlier_term_says_nothing_of_this_one() -> None:
    view = after(None, replace(LEADING, holder_resigned=2), 100.0)
    assert decide(view, "incarnation-b", LEASE, 100.0).action is Action.FOLLOW


def test_the_holder_leads() -> None:
    decision = decide(after(None, LEADING, 100.0), "incarnation-a", LEASE, 500.0)
    assert (decision.action, decision.again_seconds) == (Action.LEAD, LEASE.renewal_seconds)


def test_a_term_of_this_node_s_earlier_life_is_not_led_but_waited_for() -> None:
    view = after(None, LEADING, 100.0)
    assert decide(view, "incarnation-a-after-restart", LEASE, 100.0).action is Action.FOLLOW
    assert decide(view, "incarnation-a-after-restart", LEASE, 106.0).action is Action.CLAIM


def test_a_term_given_up_is_led_no_more_and_followed_by_another_once_nothing_hinders() -> None:
    view = after(None, replace(LEADING, holder_leading=0, holder_resigned=3), 100.0)
    hindered = decide(view, "incarnation-a", LEASE, 101.0, hindrance="its clock is off")
    assert hindered.action is Action.FOLLOW
    assert decide(view, "incarnation-a", LEASE, 200.0).action is Action.CLAIM


@pytest.mark.parametrize(
    "view",
    [
        None,
        TermView(LEADING, 0.0),
        TermView(replace(LEADING, holder_resigned=3), 100.0),
    ],
)
def test_a_hindered_node_claims_nothing_and_says_why(view: TermView | None) -> None:
    decision = decide(view, "incarnation-b", LEASE, 100.0, hindrance="its clock is off")
    assert decision.action is Action.FOLLOW
    assert "its clock is off" in decision.why
    assert decision.again_seconds == LEASE.renewal_seconds


@given(
    length=st.floats(0.5, 600),
    offset=st.floats(-1e6, 1e6),
    started_at=SECONDS,
    seen_later=st.floats(0, 100),
    looks=st.lists(st.floats(0, 100), max_size=5),
)
def test_no_follower_gives_a_leader_up_before_it_has_stopped(
    length, offset, started_at, seen_later, looks
) -> None:
    """The follower's clock is any amount off, and it sees the last renewal after it was sent."""
    lease = Lease(length)
    stops_at = lead_until(lease, started_at)
    seen_at = started_at + seen_later
    view = observe(
        TermView(LEADING, seen_at - 3 * length + offset),
        replace(LEADING, holder_revision="6-y"),
        seen_at + offset,
    )
    for look in looks:
        view = observe(view, replace(LEADING, holder_revision="6-y"), seen_at + look + offset)
    for moment in (started_at, stops_at):
        decision = decide(view, "incarnation-b", lease, moment + offset)
        assert decision.action is Action.FOLLOW


def test_a_holder_is_silent_that_led_did_not_resign_and_is_not_oneself() -> None:
    assert silent_holder(TermView(LEADING, 0.0), "incarnation-b") == {"a": "5-x"}
    assert silent_holder(TermView(LEADING, 0.0), "incarnation-a") == {}
    assert (
        silent_holder(TermView(replace(LEADING, holder_leading=0, holder_resigned=3), 0.0), "incarnation-b")
        == {}
    )
    # It was started again, and renews as another incarnation.
    assert silent_holder(TermView(replace(LEADING, holder_leading=0), 0.0), "incarnation-b") == {}
    assert silent_holder(None, "incarnation-b") == {}


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 4), st.integers(0, 3), st.floats(0, 10)), max_size=20
    )
)
def test_a_view_never_goes_back_in_term_or_time(steps) -> None:
    view: TermView | None = None
    now = 0.0
    for term, leading, revision, seconds in steps:
        now += seconds
        reading = Reading(term, "a", f"incarnation-{term}", f"{revision}-x", holder_leading=leading)
        before, view = view, observe(view, reading, now)
        assert view.seen_at <= now
        if before is not None:
            assert view.reading.term == max(term, before.reading.term)
            assert view.seen_at >= before.seen_at


@pytest.mark.parametrize(
    ("before", "told_seconds", "since"),
    [
        ({}, {"a": 5.0}, {"a": 95.0}),
        ({"a": 90.0}, {"a": 5.0}, {"a": 90.0}),
        ({"a": 99.0}, {"a": 5.0}, {"a": 95.0}),
        ({"a": 90.0, "settled": 10.0}, {"a": 5.0, "new": 0.0}, {"a": 90.0, "new": 100.0}),
        ({"a": 90.0}, {}, {}),
    ],
    ids=["heard of", "known for longer", "known for less", "one is settled, one is new", "all are settled"],
)
def test_what_leaders_have_measured_only_grows(before, told_seconds, since) -> None:
    assert claims_since(before, told_seconds, 100.0) == since
