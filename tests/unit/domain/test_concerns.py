"""What is not as it should be is told in words, with what to do about it; a healthy cluster is silent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dcron.domain.concerns import SPOOL_PATIENCE, concerns_of, older_versions
from dcron.domain.documents import INITIAL_SETTINGS
from dcron.domain.nodes import LeaderReport, NodeRecord
from dcron.domain.views import ClusterView, NodeView

NOW = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)


def node(node_id: str = "n1", *, alive: bool = True, draining: bool = False, **facts: object) -> NodeView:
    known = {"version": "0.2.0", "slots": 4, "started_at": LONG_AGO, "renewed_at": NOW, "lease_seconds": 6.0}
    record = NodeRecord(node_id, "t", f"spool-{node_id}", f"{node_id}:7420", **{**known, **facts})
    return NodeView(record, alive=alive, leading=False, draining=draining)


def cluster(*nodes: NodeView, **facts: object) -> ClusterView:
    known = {"leader_id": "n1", "term": 4, "summary": "n1 leads term 4", "settings": INITIAL_SETTINGS}
    return ClusterView(answering_id="n1", nodes=nodes, report=LeaderReport(), **{**known, **facts})


def test_of_a_healthy_cluster_there_is_nothing_to_say() -> None:
    busy = node("n2", running=4, spooled=2, spooled_since=NOW - SPOOL_PATIENCE)
    assert concerns_of(cluster(node(), busy, node("n3", stopped=True, alive=False)), NOW) == ()


FROZEN = replace(INITIAL_SETTINGS, frozen=True, frozen_at=LONG_AGO)
CASES = {
    "no leader": (
        cluster(node(), leader_id="", summary="nobody leads: n9 has been silent"),
        ("nobody leads: n9 has been silent", "nothing new starts"),
        "by themselves",
    ),
    "frozen": (cluster(node(), settings=FROZEN), ("froze", "11:00:30Z"), "cluster thaw"),
    "silent": (
        cluster(node(), node("n2", alive=False, running=1, renewed_at=LONG_AGO)),
        ("n2 at n2:7420", "11:00:30Z", "1 script ran there"),
        "start dcron on that machine again",
    ),
    "draining": (cluster(node(draining=True)), ("drained n1",), "node undrain n1"),
    "spool": (
        cluster(node(spooled=3, spooled_since=LONG_AGO, warnings=("the object store does not answer (x)",))),
        ("3 results", "spool of n1", "11:00:30Z", "the object store does not answer (x)"),
        "nothing is lost",
    ),
    "spool without a reason": (
        cluster(node(spooled=1, spooled_since=LONG_AGO)),
        ("1 result or", "11:00:30Z"),
        "nothing is lost",
    ),
    "clock": (
        cluster(node(warnings=("its clock is +3600 s off the store's; set it",))),
        ("n1: its clock is +3600 s off",),
        "",
    ),
    "older version": (
        cluster(node(), node("n2", version="0.1.9")),
        ("n2 (0.1.9)", "older"),
        "upgrade",
    ),
    "leases": (
        cluster(node(), node("n2", lease_seconds=30.0), node("n3", lease_seconds=0.0)),
        ("6 on n1, 30 on n2",),
        "same lease_seconds",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_state_is_told_with_its_remedy(case: str) -> None:
    view, words, remedy = CASES[case]
    [concern] = concerns_of(view, NOW)
    for word in words:
        assert word in concern.what
    assert remedy in concern.remedy


def test_without_the_store_the_first_concern_says_since_when_and_nothing_is_guessed() -> None:
    view = cluster(
        node(), leader_id="", settings=None, store_trouble="no connection", store_trouble_since=LONG_AGO
    )
    [concern] = concerns_of(view, NOW)
    assert "n1 cannot reach the document store since 2026-03-02T11:00:30Z: no connection" in concern.what
    assert "dcron doctor" in concern.remedy


def test_a_node_that_was_stopped_is_no_concern_whatever_it_said_last() -> None:
    gone = node("n2", alive=False, stopped=True, version="0.1.0", lease_seconds=9.0, warnings=("old",))
    assert concerns_of(cluster(node(), gone), NOW) == ()


@pytest.mark.parametrize(
    ("versions", "older"),
    [
        ({}, []),
        ({"a": "0.1.0", "b": "0.1.0"}, []),
        ({"a": "0.10.0", "b": "0.9.1"}, ["b (0.9.1)"]),
        ({"a": "1.0", "b": "1.0.1rc1", "c": "strange"}, ["a (1.0)", "c (strange)"]),
    ],
)
def test_versions_are_compared_by_their_numbers(versions: dict[str, str], older: list[str]) -> None:
    assert older_versions(versions) == older
