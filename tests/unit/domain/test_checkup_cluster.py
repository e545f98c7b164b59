"""What doctor makes of the other nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dcron.domain.checkup import Finding, Level
from dcron.domain.checkup_cluster import (
    Peer,
    ThisNode,
    judge_addresses,
    judge_format,
    judge_id,
    judge_leases,
    judge_versions,
    wanted_interpreters,
)
from dcron.domain.documents import FORMAT_VERSION
from dcron.domain.nodes import NodeRecord

NOW = datetime(2026, 3, 2, tzinfo=UTC)
THIS = ThisNode("n1", "spool-1", "h1:7420", "0.2.0", 6.0, in_use=True)


def peer(node_id: str = "n2", *, alive: bool = True, trouble: str = "", **facts: object) -> Peer:
    known = {"address": f"h-{node_id}:7420", "version": "0.2.0", "lease_seconds": 6.0, "spool_id": "spool-2"}
    record = NodeRecord(node_id, "t", slots=4, started_at=NOW, renewed_at=NOW, **{**known, **facts})
    return Peer(record, alive, trouble)


def levels(findings: Iterable[Finding]) -> list[Level]:
    found = list(findings)
    for each in found:
        assert bool(each.remedy) is (each.level is not Level.OK), each
    return [each.level for each in found]


@pytest.mark.parametrize(
    ("peers", "level"),
    [
        ([], Level.OK),
        ([peer()], Level.OK),
        ([peer("n1", spool_id="spool-1")], Level.OK),
        ([peer("n1")], Level.FAILED),
        ([peer("n1", alive=False)], Level.WARNING),
    ],
)
def test_an_id_belongs_to_one_spool(peers: list[Peer], level: Level) -> None:
    assert levels([judge_id(THIS, peers)]) == [level]


@pytest.mark.parametrize(
    ("own", "others", "level"),
    [
        (6.0, [], Level.OK),
        (6.0, [peer(), peer("n3", lease_seconds=0.0)], Level.OK),
        (6.0, [peer(lease_seconds=30.0)], Level.FAILED),
        (6.0, [peer("n1", lease_seconds=30.0)], Level.OK),
        (3.0, [], Level.WARNING),
        (120.0, [], Level.WARNING),
    ],
)
def test_all_nodes_are_to_have_one_sane_lease(own: float, others: list[Peer], level: Level) -> None:
    assert levels(judge_leases(replace(THIS, lease_seconds=own), others)) == [level]


def test_an_older_node_is_to_be_upgraded() -> None:
    assert levels(judge_versions(THIS, [peer()])) == [Level.OK]
    [finding] = judge_versions(THIS, [peer(version="0.3.0")])
    assert (finding.level, finding.message) == (Level.WARNING, "older than others: n1 (0.2.0)")


def test_stored_data_of_a_newer_format_are_not_for_this_node() -> None:
    assert levels(map(judge_format, (FORMAT_VERSION, FORMAT_VERSION + 1))) == [Level.OK, Level.FAILED]


def test_nodes_are_to_reach_each_other() -> None:
    assert levels(judge_addresses(THIS, "", [peer(), peer("n3")])) == [Level.OK, Level.OK]
    assert levels(judge_addresses(THIS, "in use", [])) == [Level.FAILED]
    blocked = [peer(trouble="no answer in time"), peer("n3", trouble="connection refused", alive=False)]
    assert levels(judge_addresses(THIS, "", blocked)) == [Level.OK, Level.FAILED, Level.WARNING]


def test_a_loopback_address_does_for_nodes_of_one_machine_only() -> None:
    here = replace(THIS, advertise="127.0.0.1:7420")
    assert levels(judge_addresses(here, "", [peer(address="localhost:7421")])) == [Level.OK, Level.OK]
    assert levels(judge_addresses(here, "", [peer()])) == [Level.FAILED, Level.OK]


def test_only_jobs_that_the_node_may_be_offered_count() -> None:
    asked = [
        ("a", "sh", {}),
        ("b", "ruby", {"disk": "ssd"}),
        ("c", "perl", {"disk": "hdd"}),
        ("d", "", {}),
        ("e", "sh", {"disk": "ssd"}),
    ]
    assert wanted_interpreters(asked, {"disk": "ssd"}) == {"sh": ["a", "e"], "ruby": ["b"]}
