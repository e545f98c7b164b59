"""`dcron audit`: what is asked for, and what a person sees."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from dcron.rpc import dcron_pb2 as pb
from tests.unit.cli.fake_node import instant

RECORDS = [
    pb.AuditRecord(
        id="2",
        asked_at=instant("2026-11-23T13:00:00.5Z"),
        who="alice",
        address="192.0.2.1:5000",
        node_id="n1",
        method="UpdateJob",
        subject="report",
        content={"schedule": "@daily", "fields": "schedule", "labels": ""},
        result="OK",
    ),
    pb.AuditRecord(id="1", asked_at=instant("2026-11-23T12:00:00Z"), who="bob\x1b", method="PauseJob"),
]


@pytest.fixture
def audited(node):
    node.on("ListAudit", pb.ListAuditResponse(records=RECORDS))
    return node


def test_records_are_a_table(dcron, audited):
    done = dcron("audit", "--server", audited.address)
    assert (done.exit_code, done.err) == (0, "")
    header, first, second = done.out.splitlines()
    assert header.split() == ["TIME", "WHO", "FROM", "NODE", "CHANGE", "SUBJECT", "RESULT", "CONTENT"]
    assert first.startswith("2026-11-23 13:00:00Z  alice  192.0.2.1:5000  n1")
    assert first.endswith("UpdateJob  report   OK       fields=schedule schedule=@daily")
    assert "unknown" in second
    assert "\x1b" not in second


def test_records_are_json(dcron, audited):
    done = dcron("audit", "--output", "json", "--server", audited.address)
    assert [record["who"] for record in json.loads(done.out)["records"]] == ["alice", "bob\x1b"]


def test_what_is_asked_for_is_passed_on(dcron, audited):
    words = ("--since", "2026-11-23T13:00", "--until", "2026-11-23T15:00:00+01:00")
    done = dcron("audit", *words, "--job", "report", "--who", "alice", "-n", "7", "--server", audited.address)
    assert done.exit_code == 0
    [asked] = audited.asked("ListAudit")
    assert asked == pb.ListAuditRequest(
        since=instant("2026-11-23T13:00:00Z"),
        until=instant("2026-11-23T14:00:00Z"),
        job="report",
        who="alice",
        page_size=7,
    )


def test_a_time_may_be_one_ago(dcron, audited):
    before = datetime.now(UTC)
    assert dcron("audit", "--since", "2h", "--server", audited.address).exit_code == 0
    after = datetime.now(UTC)
    since = audited.asked("ListAudit")[0].since.ToDatetime(tzinfo=UTC)
    assert before - timedelta(hours=2) <= since <= after - timedelta(hours=2)


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "-1h"])
def test_a_time_that_is_none_is_a_wrong_usage(dcron, audited, text):
    done = dcron("audit", f"--since={text}", "--server", audited.address)
    assert done.exit_code == 2
    assert text in done.err


def test_a_search_that_comes_short_goes_on_by_itself(dcron, node):
    pages = {"": pb.ListAuditResponse(next_page_token="on"), "on": pb.ListAuditResponse(records=RECORDS)}
    node.on("ListAudit", lambda request, context: pages[request.page_token])
    done = dcron("audit", "--job", "report", "--server", node.address)
    assert len(done.out.splitlines()) == 3
    assert [request.job for request in node.asked("ListAudit")] == ["report", "report"]


def test_nothing_found_is_said(dcron, node):
    node.on("ListAudit", pb.ListAuditResponse())
    done = dcron("audit", "--server", node.address)
    assert (done.exit_code, done.err) == (0, "no changes found\n")
