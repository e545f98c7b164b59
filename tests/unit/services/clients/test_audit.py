"""The record of changes: written before and after, listed newest first, and never in the way of the truth."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from dcron.domain.access import Caller
from dcron.domain.audit import AuditQuery, Change
from dcron.domain.errors import InvalidInput, SetupError, StoreUnreachable
from dcron.domain.ids import new_ulid
from dcron.domain.job_documents import job_body
from dcron.domain.pages import page_token
from dcron.ports import AUDIT, JOBS, Document, WriteKind, WriteResult
from dcron.services.clients import audit
from dcron.services.clients.audit import AuditTrail
from tests.doubles import START, ManualClock, sample_job
from tests.service_doubles import FaultyStore

ALICE = Caller("alice", frozenset(), "192.0.2.1:5000")
BOB = Caller("bob", frozenset(), "192.0.2.2:5000")


class Scene:
    def __init__(self) -> None:
        self.store = FaultyStore()
        self.clock = ManualClock()
        self.trail = AuditTrail(self.store, self.clock, "n1")

    async def change(self, subject, *, who=ALICE, method="PauseJob", result="OK"):
        [record_id] = await self.trail.request(who, [Change(method, subject)])
        if result:
            await self.trail.results([record_id], [result])
        self.clock.seconds += 1
        return record_id

    async def subjects(self, **query):
        return [record.change.subject for record in (await self.trail.list(AuditQuery(**query))).records]


@pytest.fixture
async def scene():
    made = Scene()
    await made.store.prepare()
    return made


async def test_a_record_says_who_asked_what_of_whom_from_where_when_and_what_came_of_it(scene):
    [record_id] = await scene.trail.request(ALICE, [Change("CreateJob", "a", {"schedule": "@daily"})])
    scene.clock.seconds += 0.5
    await scene.trail.results([record_id], ["ALREADY_EXISTS"])
    [record] = (await scene.trail.list(AuditQuery())).records
    assert (record.who, record.address, record.node_id) == ("alice", "192.0.2.1:5000", "n1")
    assert record.change == Change("CreateJob", "a", {"schedule": "@daily"})
    assert (record.asked_at, record.answered_at) == (START, START + timedelta(seconds=0.5))
    assert record.result == "ALREADY_EXISTS"


async def test_the_request_is_stored_before_the_result_and_neither_is_ever_updated(scene):
    record_id = await scene.change("a")
    assert scene.store.requests == [(AUDIT, (record_id,)), (AUDIT, (f"{record_id}:result",))]


async def test_what_cannot_be_recorded_is_not_to_be_made(scene):
    scene.store.unreachable = True
    with pytest.raises(StoreUnreachable):
        await scene.change("a")


async def test_what_the_database_rejects_is_not_to_be_made(scene, monkeypatch):
    async def reject(database, documents):
        return [WriteResult(WriteKind.REJECTED, reason="forbidden: no")]

    monkeypatch.setattr(scene.store, "write", reject)
    with pytest.raises(SetupError, match=r"nothing was changed.*forbidden: no"):
        await scene.trail.request(ALICE, [Change("PauseJob", "a")])


async def test_a_record_on_one_copy_is_a_record(scene):
    scene.store.faults[""] = [WriteKind.UNSURE]
    await scene.change("a")
    assert await scene.subjects() == ["a"]


async def test_a_result_that_cannot_be_recorded_is_logged_and_unknown(scene):
    scene.store.faults[":result"] = ["gone"]
    with capture_logs() as logs:
        record_id = await scene.change("a", result="NOT_FOUND")
    [line] = logs
    assert (line["log_level"], line["record"], line["result"]) == ("warning", record_id, "NOT_FOUND")
    [record] = (await scene.trail.list(AuditQuery())).records
    assert (record.result, record.answered_at) == ("", None)


async def test_records_are_listed_newest_first_up_to_a_limit(scene):
    for name in "abc":
        await scene.change(name)
    assert await scene.subjects() == ["c", "b", "a"]
    assert [record.change.subject for record in (await scene.trail.list(AuditQuery(), 2)).records] == [
        "c",
        "b",
    ]
    with pytest.raises(InvalidInput, match="page_size"):
        await scene.trail.list(AuditQuery(), -1)


async def test_records_are_found_by_time_name_and_job(scene):
    await scene.change("a", who=BOB)
    await scene.change("b")
    await scene.change("a")
    assert await scene.subjects(who="bob") == ["a"]
    assert await scene.subjects(job="a") == ["a", "a"]
    assert await scene.subjects(since=START + timedelta(seconds=1)) == ["a", "b"]
    assert await scene.subjects(until=START + timedelta(seconds=1)) == ["a"]


async def test_the_changes_of_a_job_have_those_of_its_executions_in_them(scene):
    job = sample_job("a")
    await scene.store.write(JOBS, [Document("a", job_body(job))])
    await scene.change(f"{job.uid}:20261123T130000Z:001", method="CancelExecution")
    await scene.change("01KB0000000000000000000009:20261123T130000Z:001", method="CancelExecution")
    assert await scene.subjects(job="a") == [f"{job.uid}:20261123T130000Z:001"]


@pytest.mark.parametrize("page", [1, 2, 3, 4])
async def test_a_result_is_found_across_pages(scene, monkeypatch, page):
    monkeypatch.setattr(audit, "RANGE_DOCUMENTS", page)
    for name in "abcd":
        await scene.change(name)
    records = (await scene.trail.list(AuditQuery())).records
    assert [(record.change.subject, record.result) for record in records] == [
        ("d", "OK"), ("c", "OK"), ("b", "OK"), ("a", "OK"),
    ]  # fmt: skip


async def test_a_search_ends_at_its_bound_and_says_where(scene, monkeypatch):
    monkeypatch.setattr(audit, "MAX_DOCUMENTS", 4)
    for name in "abcd":
        await scene.change(name)
    page = await scene.trail.list(AuditQuery(job="a"))
    assert page.records == ()
    assert page.next_token
    found = []
    token = page.next_token
    for _ in "bcd":
        rest = await scene.trail.list(AuditQuery(job="a"), 0, token)
        found += [record.change.subject for record in rest.records]
        token = rest.next_token or token
    assert found == ["a"], "it goes on where it ended"
    with pytest.raises(InvalidInput, match="page_token"):
        await scene.trail.list(AuditQuery(job="b"), 0, page.next_token)


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_pages_tell_each_record_once_with_its_result(scene, size):
    ids = await scene.trail.request(ALICE, [Change("CreateJobs", name) for name in "abcd"])
    await scene.trail.results(ids, ["OK", "ALREADY_EXISTS", "OK", "OK"])
    scene.clock.seconds += 1
    await scene.change("e")
    found, token = [], ""
    for _ in range(9):
        page = await scene.trail.list(AuditQuery(), size, token)
        found += [(record.change.subject, record.result) for record in page.records]
        token = page.next_token
        if not token:
            break
    assert found[0] == ("e", "OK")
    assert sorted(found[1:]) == [("a", "OK"), ("b", "ALREADY_EXISTS"), ("c", "OK"), ("d", "OK")]


@pytest.mark.parametrize("page", [1, 2, 500])
async def test_many_changes_of_one_call_are_recorded_each_by_itself_in_two_writes(scene, monkeypatch, page):
    monkeypatch.setattr(audit, "RANGE_DOCUMENTS", page)
    ids = await scene.trail.request(ALICE, [Change("CreateJobs", name) for name in "abc"])
    await scene.trail.results(ids, ["OK", "ALREADY_EXISTS", "OK"])
    assert scene.store.requests == [(AUDIT, tuple(ids)), (AUDIT, (f"{max(ids)}:result",))]
    until = START + timedelta(milliseconds=1)
    records = (await scene.trail.list(AuditQuery(since=START, until=until))).records
    assert {record.change.subject: record.result for record in records} == {
        "a": "OK", "b": "ALREADY_EXISTS", "c": "OK",
    }  # fmt: skip


async def test_a_call_without_changes_leaves_no_record(scene):
    ids = await scene.trail.request(ALICE, [])
    await scene.trail.results(ids, [])
    assert (await scene.trail.list(AuditQuery())).records == ()


async def test_what_is_long_is_cut(scene):
    [record_id] = await scene.trail.request(
        ALICE, [Change("ResolveExecution", "s" * 999, {"reason": "r" * 999})]
    )
    [[leaf]] = await scene.store.read(AUDIT, [record_id])
    assert (len(leaf.body["subject"]), len(leaf.body["content"]["reason"])) == (200, 500)


async def test_a_forged_token_of_the_last_millisecond_finds_what_there_is(scene):
    await scene.change("a")
    last = new_ulid(datetime.max.replace(tzinfo=UTC), b"\xff" * 10)
    page = await scene.trail.list(AuditQuery(), 0, page_token(AuditQuery(), (last,)))
    assert [record.change.subject for record in page.records] == ["a"]


@pytest.mark.parametrize("field", ["since", "until"])
async def test_a_bound_before_1970_is_refused_by_its_name(scene, field):
    with pytest.raises(InvalidInput, match=f"{field}: "):
        await scene.subjects(**{field: datetime(1969, 12, 31, tzinfo=UTC)})
