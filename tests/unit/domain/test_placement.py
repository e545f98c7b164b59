"""Workers are asked in turn, those that match only, and those to be avoided last."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dcron.domain.placement import MAX_NAMED, Candidate, candidates, refused

WORKERS = [
    Candidate("a", "a:1", {"zone": "north"}),
    Candidate("b", "b:1", {"zone": "south", "disk": "ssd"}),
    Candidate("c", "c:1", {"zone": "north", "disk": "ssd"}),
]
NODE_IDS = st.sets(st.sampled_from("abc"))


def asked(wanted: dict[str, str], avoid: tuple[str, ...] = (), turn: int = 0) -> list[str]:
    return [worker.node_id for worker in candidates(WORKERS, wanted, avoid, turn)]


def test_each_turn_begins_with_the_next_worker() -> None:
    assert [asked({}, turn=turn) for turn in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_only_workers_with_all_wanted_labels_are_asked() -> None:
    assert asked({"zone": "north"}) == ["a", "c"]
    assert asked({"zone": "north", "disk": "ssd"}) == ["c"]
    assert asked({"zone": "west"}) == []
    assert asked({"disk": ""}) == []


def test_nodes_to_avoid_come_last_and_are_asked_when_there_is_no_other() -> None:
    assert asked({}, ("a",)) == ["b", "c", "a"]
    assert asked({}, ("a", "b", "c"), turn=1) == ["b", "c", "a"]
    assert asked({"disk": "ssd", "zone": "north"}, ("c",)) == ["c"]


def test_without_workers_nobody_is_asked() -> None:
    assert candidates([], {}, (), 5) == []


@given(NODE_IDS, st.integers(0, 10**9))
def test_every_matching_worker_is_asked_once_whatever_the_turn(avoid, turn) -> None:
    order = asked({}, tuple(avoid), turn)
    assert sorted(order) == ["a", "b", "c"]
    assert all(node_id in avoid for node_id in order[3 - len(avoid) :])


@given(st.integers(0, 10**6), st.integers(1, 20))
def test_over_full_rounds_each_worker_is_first_equally_often(turn, rounds) -> None:
    first = Counter(asked({}, turn=turn + number)[0] for number in range(3 * rounds))
    assert set(first.values()) == {rounds}


def test_workers_that_refuse_for_one_reason_are_named_together() -> None:
    assert refused({}) == ""
    assert refused({"b": "busy", "a": "busy", "c": "draining"}) == "a, b: busy; c: draining"


def test_of_many_workers_that_refuse_some_are_named_and_the_others_counted() -> None:
    nodes = [f"n{number:02d}" for number in range(MAX_NAMED + 3)]
    assert refused(dict.fromkeys(nodes, "busy")) == f"{', '.join(nodes[:MAX_NAMED])} and 3 more: busy"
