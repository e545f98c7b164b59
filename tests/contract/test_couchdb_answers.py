"""What a cluster says only when parts of it are down, played from a script."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from dcron.adapters.couchdb import own_writes
from dcron.adapters.couchdb.documents import position_of
from dcron.adapters.couchdb.own_writes import REMEMBERED_SECONDS
from dcron.adapters.documents import index_fields
from dcron.domain.errors import StoreUnreachable
from dcron.ports import CLUSTER, JOBS, Document, WriteKind, executions_database

MONTH = executions_database(datetime(2026, 3, 1, tzinfo=UTC))


def _stored(document_id, **more):
    return {"ok": True, "id": document_id, "rev": "1-a", **more}


class TestAnswers:
    async def test_what_was_accepted_is_unsure_although_it_is_ok(self, script, scripted):
        script.answers.append((202, [_stored("a"), _stored("b", accepted=True)]))
        results = await scripted.write(CLUSTER, [Document("a", {}), Document("b", {})])
        assert [result.kind for result in results] == [WriteKind.DONE, WriteKind.UNSURE]
        assert [result.revision for result in results] == ["1-a", "1-a"]

    async def test_a_revision_is_confirmed_by_a_quorum_of_copies_that_take_it_as_it_is(
        self, script, scripted
    ):
        refused = {"id": "a", "error": "forbidden", "reason": "not here"}
        probed = {"ok": True, "id": "_local/probe", "rev": "0-1"}
        taken = (201, [probed])
        script.answers += [
            (201, []),
            taken,
            (202, []),
            taken,
            (201, [refused]),
            taken,
            (201, []),
            (202, [probed]),
        ]
        leaves = [Document("a", {"n": 1}, "1-abc"), Document("b", {}, "1-def")]
        assert await scripted.confirm(CLUSTER, leaves) == [True, True]
        assert await scripted.confirm(CLUSTER, leaves) == [False, False]
        assert await scripted.confirm(CLUSTER, leaves) == [False, True]
        # One copy that is alone says 201 to what it has, but 202 to a write.
        assert await scripted.confirm(CLUSTER, leaves) == [False, False]
        assert all(each["_id"].startswith("_local/") for each in script.requests[1][3]["docs"])
        method, path, _, body = script.requests[0]
        assert (method, path.rpartition("/")[2]) == ("POST", "_bulk_docs")
        sent = body
        assert sent["new_edits"] is False
        assert sent["docs"][0] == {
            "_id": "a",
            "_rev": "1-abc",
            "_revisions": {"start": 1, "ids": ["abc"]},
            "n": 1,
        }

    async def test_what_was_updated_cannot_be_confirmed(self, scripted):
        with pytest.raises(ValueError, match="not as it was created"):
            await scripted.confirm(CLUSTER, [Document("a", {}, "2-abc")])

    async def test_an_update_over_a_write_of_ones_own_is_not_preceded_by_a_question(self, script, scripted):
        script.answers += [(201, [_stored("a")]), (201, [_stored("a", rev="2-b")])]
        await scripted.write(CLUSTER, [Document("a", {})])
        [updated] = await scripted.write(CLUSTER, [Document("a", {}, "1-a")])
        assert (updated.kind, updated.revision) == (WriteKind.DONE, "2-b")
        assert [path.rpartition("/")[2] for _, path, _, _ in script.requests] == ["_bulk_docs"] * 2

    @pytest.mark.parametrize("later", [0.0, REMEMBERED_SECONDS])
    async def test_what_was_written_by_others_or_long_ago_is_looked_for(
        self, script, scripted, monkeypatch, later
    ):
        script.answers += [(201, [_stored("a")]), (200, {"a": {"missing": []}}), (200, {"results": []})]
        await scripted.write(CLUSTER, [Document("a", {})])
        loop = asyncio.get_running_loop()
        now = loop.time() + later
        monkeypatch.setattr(own_writes, "_now", lambda: now)
        [updated] = await scripted.write(CLUSTER, [Document("a", {}, "1-a" if later else "1-b")])
        assert updated.kind is WriteKind.LOST
        asked = [path.rpartition("/")[2] for _, path, _, _ in script.requests]
        assert asked == ["_bulk_docs", "_revs_diff", "_bulk_get"]

    async def test_no_more_writes_are_remembered_than_there_is_room_for(self, script, scripted, monkeypatch):
        monkeypatch.setattr(own_writes, "MAX_REMEMBERED", 1)
        script.answers += [
            (201, [_stored("a"), _stored("b")]),
            (200, {}),
            (201, [_stored("a"), _stored("b")]),
        ]
        await scripted.write(CLUSTER, [Document("a", {}), Document("b", {})])
        await scripted.write(CLUSTER, [Document("a", {}, "1-a"), Document("b", {}, "1-a")])
        assert script.requests[1][3] == {"a": ["1-a"]}

    async def test_that_jobs_and_leadership_are_missing_altogether_is_not_believed(self, script, scripted):
        for database in (JOBS, CLUSTER):
            script.answers.append((404, {"error": "not_found", "reason": "Database does not exist."}))
            with pytest.raises(StoreUnreachable, match="no such database"):
                await scripted.read(database, ["a"])

    async def test_a_bulk_read_that_a_hanging_node_holds_up_is_done_one_by_one(self, script, scripted):
        missing = (404, {"error": "not_found", "reason": "missing"})
        script.answers += ["hang", (200, [{"ok": {"_id": "a:1", "_rev": "1-a", "b": 2}}]), missing]
        assert await scripted.read(CLUSTER, ["a:1"]) == [(Document("a:1", {"b": 2}, "1-a"),)]
        assert await scripted.read(CLUSTER, ["term:2"]) == [()]
        methods = [(method, path.rpartition("/")[2]) for method, path, _, _ in script.requests]
        assert methods == [("POST", "_bulk_get"), ("GET", "a:1"), ("GET", "term:2")]

    async def test_a_202_that_does_not_tell_its_documents_apart_makes_all_unsure(self, script, scripted):
        conflict = {"id": "b", "error": "conflict", "reason": "Document update conflict."}
        script.answers.append((202, [_stored("a"), conflict]))
        results = await scripted.write(CLUSTER, [Document("a", {}), Document("b", {})])
        assert [result.kind for result in results] == [WriteKind.UNSURE, WriteKind.LOST]

    @pytest.mark.parametrize(
        "answer",
        [
            (500, [_stored("a")]),
            (503, {"error": "nodedown", "reason": "progress not possible"}),
            (201, [{"id": "a", "error": "internal_server_error", "reason": ""}]),
            (201, [{"id": "a", "error": "insufficient_storage", "reason": ""}]),
            (201, [_stored("b")]),
            (201, []),
            (302, {}),
        ],
    )
    async def test_an_answer_that_settles_nothing_is_unreachable(self, script, scripted, answer):
        script.answers.append(answer)
        with pytest.raises(StoreUnreachable):
            await scripted.write(CLUSTER, [Document("a", {})])

    @pytest.mark.parametrize("bad", [{3}, {0, 6}, {1, 2}, set(range(7))])
    @pytest.mark.parametrize("status", [400, 413])
    async def test_bad_documents_that_fail_a_whole_request_are_found_and_the_rest_is_stored(
        self, script, scripted, bad, status
    ):
        def answer(body):
            ids = [document["_id"] for document in body["docs"]]
            if any(int(document_id) in bad for document_id in ids):
                return status, {"error": "document_too_large", "reason": "7"}
            return 201, [_stored(document_id) for document_id in ids]

        script.answers.extend([answer] * 20)
        results = await scripted.write(CLUSTER, [Document(f"{n}", {}) for n in range(7)])
        assert {n for n, result in enumerate(results) if result.kind is WriteKind.REJECTED} == bad
        assert all(results[n].done for n in range(7) if n not in bad)
        assert all("too_large" in results[n].reason for n in bad)

    async def test_a_document_that_a_validation_function_forbids_is_rejected(self, script, scripted):
        script.answers.append((201, [{"id": "a", "error": "forbidden", "reason": "no"}]))
        [result] = await scripted.write(CLUSTER, [Document("a", {})])
        assert (result.kind, result.reason) == (WriteKind.REJECTED, "forbidden: no")

    async def test_a_write_whose_connection_breaks_is_never_sent_again(self, script, scripted):
        script.answers.extend([(201, [_stored("a")]), "break"])
        await scripted.write(CLUSTER, [Document("a", {})])  # so that the connection is a kept one
        with pytest.raises(StoreUnreachable):
            await scripted.write(CLUSTER, [Document("b", {})])
        assert [request[1] for request in script.requests] == ["/dcron-cluster/_bulk_docs"] * 2

    async def test_an_update_unknown_to_the_copy_asked_first_is_looked_up_in_a_quorum(self, script, scripted):
        script.answers.extend(
            [
                (200, {"a": {"missing": ["2-b"]}, "gone": {"missing": ["2-b"]}}),
                (
                    200,
                    {
                        "results": [
                            {"id": "a", "docs": [{"ok": {"_id": "a", "_rev": "2-b"}}]},
                            {"id": "gone", "docs": [{"error": {"id": "gone", "error": "not_found"}}]},
                        ]
                    },
                ),
                (201, [_stored("a")]),
            ]
        )
        results = await scripted.write(CLUSTER, [Document("gone", {}, "2-b"), Document("a", {}, "2-b")])
        assert [result.kind for result in results] == [WriteKind.LOST, WriteKind.DONE]

    async def test_a_read_that_could_not_look_is_unreachable_and_not_empty(self, script, scripted):
        failed = {"error": {"id": "a", "error": "internal_fabric_error", "reason": "timeout"}}
        script.answers.append((200, {"results": [{"id": "a", "docs": [failed]}]}))
        with pytest.raises(StoreUnreachable, match="timeout"):
            await scripted.read(JOBS, ["a"])

    @pytest.mark.parametrize("sequence", [7, "7-g1AAA+/=", [7, "g1AAA"]])
    async def test_a_position_is_given_back_as_the_server_wrote_it(self, script, scripted, sequence):
        script.answers.extend([(200, {"results": [], "last_seq": sequence})] * 2)
        position = await scripted.changes(JOBS, None, wait_seconds=0)
        again = await scripted.changes(JOBS, position.since, wait_seconds=0)
        assert script.requests[1][2]["since"] == position.since == again.since == position_of(sequence)

    async def test_bodies_are_read_only_where_something_is_not_known(self, script, scripted):
        def told(*revisions, position):
            changes = [{"rev": revision} for revision in revisions]
            row = {"id": "a", "seq": position, "changes": changes, "doc": {"_id": "a", "_rev": revisions[0]}}
            return (200, {"results": [row], "last_seq": position})

        def known(identifier, revision):
            return (identifier, revision) == ("a", "2-b")

        script.answers += [told("2-b", position="1"), *[told("2-b", "2-a", position="2")] * 2]
        echo = await scripted.changes(JOBS, "0", wait_seconds=5, known=known)
        assert (echo.documents, echo.since) == ((), "1")
        branched = await scripted.changes(JOBS, echo.since, wait_seconds=5, known=known)
        assert [document.revision for document in branched.documents] == ["2-b"]
        asked = [query for _, _, query, _ in script.requests]
        assert ["include_docs" in query for query in asked] == [False, False, True]
        assert [query["since"] for query in asked] == ["0", "1", "1"]

    @pytest.mark.parametrize(
        ("second", "whole"),
        [
            ({"_rev": "1-b", "_conflicts": ["1-a"]}, False),
            ({"_rev": "2-c", "_conflicts": ["1-a"]}, False),
            ({"_rev": "1-b"}, True),
            ({"_rev": "1-c", "_conflicts": ["1-a"]}, True),
            ({"_rev": "0-b", "_conflicts": ["1-a"]}, True),
            (None, True),
        ],
        ids=["as told", "newer", "branch not seen", "another branch", "older", "missing"],
    )
    async def test_only_the_news_is_read_unless_another_copy_is_behind_with_it(
        self, script, scripted, second, whole
    ):
        def row(identifier, *revisions, **doc):
            changes = [{"rev": revision} for revision in revisions]
            return {"id": identifier, "changes": changes, "doc": {"_id": identifier, **doc}}

        told = [row("echo", "3-a", _rev="3-a"), row("news", "1-b", "1-a", _rev="1-b", _conflicts=["1-a"])]
        script.answers += [
            (200, {"results": told, "last_seq": "5"}),
            (200, {"results": [row("news", "1-b", **second)] if second else [], "last_seq": "9"}),
            (200, {"results": told, "last_seq": "6"}),
        ]
        batch = await scripted.changes(JOBS, "0", wait_seconds=5, known=lambda each, _: each == "echo")
        assert [each.id for each in batch.documents] == (["echo", "news"] if whole else ["news"])
        assert batch.branched == {"news"}
        assert batch.since == ("6" if whole else "5"), "nothing between the answers is passed over"
        _, _, query, body = script.requests[1]
        assert (query["since"], query["filter"], body) == ("0", "_doc_ids", {"doc_ids": ["news"]})

    async def test_a_database_dropped_just_now_is_made_once_it_is_gone(self, script, scripted):
        half_gone = {"error": "internal_server_error", "reason": "No DB shards could be opened."}
        script.answers += [
            (500, half_gone),
            (500, half_gone),
            (404, {"error": "not_found"}),
            (201, {"ok": True}),
        ]
        indexes = [{"name": each, "ddoc": "_design/dcron"} for each in index_fields(MONTH)]
        script.answers.append((200, {"indexes": indexes}))
        await scripted.make_ready(MONTH)
        assert [method for method, *_ in script.requests] == ["GET", "GET", "GET", "PUT", "GET"]

    async def test_design_documents_are_no_changes_and_the_wait_goes_on(self, script, scripted):
        row = {"id": "_design/x", "seq": 1, "doc": {"_id": "_design/x", "_rev": "1-a"}}
        found = {"id": "a", "seq": 2, "doc": {"_id": "a", "_rev": "1-a", "n": 1}}
        script.answers.extend(
            [(200, {"results": [row], "last_seq": "1"}), (200, {"results": [found], "last_seq": "2"})]
        )
        batch = await scripted.changes(JOBS, "0", wait_seconds=5)
        assert (batch.documents, batch.since) == ((Document("a", {"n": 1}, "1-a"),), "2")

    async def test_a_large_write_is_cut_into_requests_and_stops_where_one_fails(self, script, scripted):
        def answer(body):
            return 201, [_stored(document["_id"]) for document in body["docs"]]

        script.answers.extend([answer, answer, (503, {})])
        with pytest.raises(StoreUnreachable):
            await scripted.write(CLUSTER, [Document(f"{n}", {}) for n in range(1700)])
        assert [len(request[3]["docs"]) for request in script.requests] == [500, 500, 500]
        script.requests.clear()
        script.answers.extend([answer] * 3)
        text = "x" * 3_000_000
        results = await scripted.write(CLUSTER, [Document(f"{n}", {"text": text}) for n in range(3)])
        assert all(result.done for result in results)
        assert len(script.requests) == 3
