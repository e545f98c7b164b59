from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from dcron.adapters.documents import MAX_DOCUMENT_BYTES
from dcron.ports import CLUSTER, JOBS, Document, IndexRow, WriteKind, executions_database

MONTH = executions_database(datetime(2026, 11, 3, tzinfo=UTC))
HINT_SECONDS = 20
POLL_SECONDS = 0.05
UNKNOWN_REVISION = "3-" + "9" * 32


async def create(store, database, document_id, **body):
    """Store a new document; its revision."""
    [result] = await store.write(database, [Document(document_id, body)])
    assert result.kind is WriteKind.DONE
    return result.revision


async def read_one(store, database, document_id):
    [leaves] = await store.read(database, [document_id])
    return leaves


def refused(result, backend):
    """Whether somebody else was first. A copy of a cluster that has not heard of it yet takes the late
    document, as a leaf without a quorum."""
    expected = {WriteKind.LOST} if backend.one_copy else {WriteKind.LOST, WriteKind.UNSURE}
    return result.kind in expected


async def settles(ask, expected):
    """Whether a hint comes to say what is expected: those of a cluster may be seconds old."""
    loop = asyncio.get_running_loop()
    until = loop.time() + HINT_SECONDS
    while (told := await ask()) != expected and loop.time() < until:
        await asyncio.sleep(POLL_SECONDS)
    assert told == expected
    return True


async def follow(store, database, since, ids):
    """Changes from a position until each of the ids has come: the last word on each document."""
    seen = {}
    async with asyncio.timeout(HINT_SECONDS):
        while not set(ids) <= set(seen):
            batch = await store.changes(database, since, wait_seconds=5)
            seen |= {document.id: document for document in batch.documents}
            since = batch.since
    return seen, since


async def keys(store, index="next_at", database=JOBS, **arguments):
    return [row.key for row in await store.find(database, index, **{"limit": 100, **arguments})]


async def range_ids(store, start, end, **arguments):
    return [document.id for document in await store.range(JOBS, start, end, **{"limit": 100, **arguments})]


class TestWrite:
    async def test_a_created_document_is_read_back_with_its_revision(self, store):
        body = {"text": "Größe 🐘\u2028", "number": 1.5, "list": [None, True, {"a": "b"}], "empty": {}}
        revision = await create(store, JOBS, "job:ü", **body)
        assert await read_one(store, JOBS, "job:ü") == (Document("job:ü", body, revision),)

    async def test_what_was_created_is_confirmed_as_it_is_and_nothing_changes(self, store):
        body = {"text": "Größe 🐘\u2028", "number": 1.5, "list": [None, True, {"a": "b"}], "empty": {}}
        await create(store, MONTH, "uid:20261123T120000Z:001:token", **body)
        await create(store, MONTH, "uid:20261123T120000Z:002:token", n=2)
        ids = [f"uid:20261123T120000Z:00{number}:token" for number in (1, 2)]
        [[first], [second]] = await store.read(MONTH, ids)
        assert await store.confirm(MONTH, [second, first]) == [True, True]
        assert await store.confirm(MONTH, []) == []
        assert await store.read(MONTH, ids) == [(first,), (second,)]

    async def test_of_racing_creates_exactly_one_is_done(self, backend):
        stores = [await backend.open() for _ in range(4)]
        won = 0
        for contest in (f"term:{n}" for n in range(10)):
            results = await asyncio.gather(
                *(stores[n % 4].write(CLUSTER, [Document(contest, {"token": n})]) for n in range(20))
            )
            kinds = [result.kind for [result] in results]
            assert kinds.count(WriteKind.DONE) <= 1
            assert WriteKind.REJECTED not in kinds
            if backend.one_copy:
                assert kinds.count(WriteKind.LOST) == 19
            if WriteKind.DONE in kinds:
                won += 1
                leaves = await read_one(stores[0], CLUSTER, contest)
                assert kinds.index(WriteKind.DONE) in [leaf.body["token"] for leaf in leaves]
        # With several copies, a few contests have no winner, for everybody reached but one of them.
        assert won == 10 if backend.one_copy else won >= 5

    async def test_of_racing_updates_of_one_revision_no_two_are_done(self, backend):
        stores = [await backend.open() for _ in range(4)]
        revision = await create(stores[0], JOBS, "a", n=0)
        results = await asyncio.gather(
            *(stores[n % 4].write(JOBS, [Document("a", {"n": n}, revision)]) for n in range(20))
        )
        kinds = [result.kind for [result] in results]
        assert kinds.count(WriteKind.DONE) <= 1
        if backend.one_copy:
            assert kinds.count(WriteKind.DONE) == 1
            assert kinds.count(WriteKind.LOST) == 19

    async def test_an_update_replaces_the_body_and_the_revision(self, store):
        first = await create(store, JOBS, "a", n=1, gone=True)
        [result] = await store.write(JOBS, [Document("a", {"n": 2}, first)])
        assert result.done
        assert result.revision != first
        assert await read_one(store, JOBS, "a") == (Document("a", {"n": 2}, result.revision),)

    async def test_an_update_of_a_stale_revision_is_lost_and_changes_nothing(self, store, backend):
        first = await create(store, JOBS, "a", n=1)
        [second] = await store.write(JOBS, [Document("a", {"n": 2}, first)])
        [stale] = await store.write(JOBS, [Document("a", {"n": 3}, first)])
        assert refused(stale, backend)
        leaves = await read_one(store, JOBS, "a")
        assert Document("a", {"n": 2}, second.revision) in leaves
        assert len(leaves) == 1 or stale.kind is WriteKind.UNSURE

    @pytest.mark.parametrize(
        "revision",
        ["1-" + "a" * 32, UNKNOWN_REVISION, "2-abc", "nonsense"],
        ids=["first", "later", "short", "none"],
    )
    @pytest.mark.parametrize("deleted", [False, True], ids=["update", "deletion"])
    async def test_an_update_of_what_never_existed_is_lost_and_stores_nothing(self, store, revision, deleted):
        # CouchDB by itself refuses some of these and stores others, so several are tried, after other writes.
        await store.write(JOBS, [Document(f"other{n}", {}) for n in range(10)])
        ids = [f"missing{n}" for n in range(10)]
        results = await store.write(JOBS, [Document(name, {}, revision, deleted) for name in ids])
        assert {result.kind for result in results} == {WriteKind.LOST}
        assert set(await store.read(JOBS, ids)) == {()}
        created = await store.write(JOBS, [Document(name, {}) for name in ids])
        assert {result.kind for result in created} == {WriteKind.DONE}

    async def test_a_create_of_what_exists_is_lost(self, store, backend):
        await create(store, JOBS, "a", n=1)
        [result] = await store.write(JOBS, [Document("a", {"n": 2})])
        assert refused(result, backend)

    async def test_a_deleted_document_is_not_read_and_can_be_created_again(self, store, backend):
        first = await create(store, JOBS, "a", n=1)
        [deletion] = await store.write(JOBS, [Document("a", {}, first, deleted=True)])
        assert deletion.done
        assert await read_one(store, JOBS, "a") == ()
        if backend.one_copy:  # a copy that has not heard of the deletion would take this
            [stale] = await store.write(JOBS, [Document("a", {"n": 2}, first)])
            assert stale.kind is WriteKind.LOST
        again = await create(store, JOBS, "a", n=3)
        assert again not in {first, deletion.revision}
        assert await read_one(store, JOBS, "a") == (Document("a", {"n": 3}, again),)

    async def test_results_of_a_batch_are_independent_and_in_order(self, store):
        revision = await create(store, JOBS, "old", n=1)
        results = await store.write(
            JOBS,
            [
                Document("new", {"n": 1}),
                Document("old", {"n": 2}, UNKNOWN_REVISION),
                Document("_reserved", {}),
                Document("old", {"n": 3}, revision),
                Document("missing", {}, UNKNOWN_REVISION),
                Document("new", {"n": 4}),
                Document("last", {}),
            ],
        )
        assert [result.kind.name for result in results] == (
            ["DONE", "LOST", "REJECTED", "DONE", "LOST", "LOST", "DONE"]
        )
        assert [bool(result.revision) for result in results] == [result.done for result in results]
        [[new], [old], missing] = await store.read(JOBS, ["new", "old", "missing"])
        assert (new.body, old.body, missing) == ({"n": 1}, {"n": 3}, ())

    @pytest.mark.parametrize(
        "bad",
        [
            Document("", {}),
            Document("_design/x", {}),
            Document("x" * 2000, {}),
            Document("a\ud800", {}),
            Document("member", {"_id": "b"}),
            Document("text", {"a": "\ud800"}),
            Document("number", {"a": float("nan")}),
            Document("large", {"a": "x" * MAX_DOCUMENT_BYTES}),
            Document("deletion", {}, deleted=True),
        ],
        ids=lambda document: document.id[:10].encode("ascii", "replace").decode(),
    )
    async def test_a_document_that_no_store_takes_is_rejected_alone_with_a_reason(self, store, bad):
        results = await store.write(JOBS, [Document("good", {}), bad, Document("better", {})])
        assert [result.kind.name for result in results] == ["DONE", "REJECTED", "DONE"]
        assert results[1].reason
        assert await settles(lambda: range_ids(store, "", "\uffff"), ["better", "good"])

    async def test_more_documents_than_fit_one_request_are_all_written(self, store):
        documents = [Document(f"{n:05}", {"n": n, "text": "x" * 1000}) for n in range(1200)]
        results = await store.write(MONTH, documents)
        assert {result.kind for result in results} == {WriteKind.DONE}
        leaves = await store.read(MONTH, [document.id for document in documents])
        assert [leaf.body["n"] for [leaf] in leaves] == list(range(1200))

    async def test_writes_of_the_same_moment_all_succeed(self, store):
        answers = await asyncio.gather(*(store.write(MONTH, [Document(f"{n}", {"n": n})]) for n in range(60)))
        assert {result.kind for [result] in answers} == {WriteKind.DONE}
        leaves = await store.read(MONTH, [f"{n}" for n in range(60)])
        assert [leaf.body["n"] for [leaf] in leaves] == list(range(60))

    async def test_writing_nothing_answers_nothing(self, store):
        assert await store.write(JOBS, []) == []

    async def test_what_one_store_wrote_another_reads(self, backend):
        writer, reader = await backend.open(), await backend.open()
        revision = await create(writer, CLUSTER, "settings", n=1)
        assert await read_one(reader, CLUSTER, "settings") == (Document("settings", {"n": 1}, revision),)

    async def test_a_stored_body_is_not_shared_with_the_writer_or_readers(self, store):
        body = {"list": [1]}
        await create(store, JOBS, "a", **body)
        body["list"].append(2)
        [leaf] = await read_one(store, JOBS, "a")
        leaf.body["list"].append(3)
        [leaf] = await read_one(store, JOBS, "a")
        assert leaf.body == {"list": [1]}


class TestRead:
    async def test_answers_are_in_the_order_of_the_ids_repeats_and_gaps_included(self, store):
        for name in ("a", "b"):
            await create(store, JOBS, name, name=name)
        leaves = await store.read(JOBS, ["b", "none", "a", "b"])
        assert [[leaf.id for leaf in one] for one in leaves] == [["b"], [], ["a"], ["b"]]

    async def test_a_missing_database_holds_nothing(self, store):
        assert await store.read(MONTH, ["a", "b"]) == [(), ()]
        assert await store.range(MONTH, "", "\uffff", limit=10) == []
        assert await store.find(MONTH, "state_at", limit=10) == []

    async def test_a_database_that_is_not_dcrons_is_refused(self, store):
        with pytest.raises(ValueError, match="no database"):
            await store.read("others", ["a"])


class TestRange:
    @pytest.fixture
    async def filled(self, store):
        ids = ["A", "Z", "a", "b", "b:1", "b:2", "c", "z", "ä", "~"]
        await store.write(JOBS, [Document(name, {"name": name}) for name in ids])
        return store

    async def test_a_range_holds_its_start_and_not_its_end(self, filled):
        assert await settles(lambda: range_ids(filled, "b", "c"), ["b", "b:1", "b:2"])
        assert await settles(lambda: range_ids(filled, "b", "c", descending=True), ["b:2", "b:1", "b"])

    async def test_the_order_is_that_of_bytes_and_nothing_else_is_listed(self, filled):
        expected = ["A", "Z", "a", "b", "b:1", "b:2", "c", "z", "~", "ä"]
        assert await settles(lambda: range_ids(filled, "", "\uffff"), expected)
        assert await settles(lambda: range_ids(filled, "", "\uffff", descending=True), expected[::-1])

    @pytest.mark.parametrize("limit", range(11))
    async def test_the_limit_is_kept_from_either_end(self, filled, limit):
        expected = ["A", "Z", "a", "b", "b:1", "b:2", "c", "z", "~", "ä"]
        assert await settles(lambda: range_ids(filled, "", "\uffff", limit=limit), expected[:limit])
        assert await settles(
            lambda: range_ids(filled, "", "\uffff", limit=limit, descending=True), expected[::-1][:limit]
        )

    async def test_a_descending_range_keeps_its_limit_although_its_end_exists(self, filled):
        assert await settles(lambda: range_ids(filled, "a", "c", limit=2, descending=True), ["b:2", "b:1"])

    @pytest.mark.parametrize("span", [("b", "b"), ("c", "b"), ("x", "y")])
    async def test_an_empty_range_holds_nothing(self, filled, span):
        assert await settles(lambda: range_ids(filled, *span), [])
        assert await settles(lambda: range_ids(filled, *span, descending=True), [])

    async def test_documents_come_whole_and_deleted_ones_do_not(self, filled):
        [[leaf]] = await filled.read(JOBS, ["b:1"])
        await filled.write(JOBS, [Document("b:1", {}, leaf.revision, deleted=True)])
        whole = (await filled.read(JOBS, ["b:2"]))[0]
        assert await settles(lambda: filled.range(JOBS, "b:1", "b:3", limit=10), list(whole))


class TestFind:
    @pytest.fixture
    async def filled(self, store):
        documents = [Document(f"job{n:02}", {"next_at": f"2026-11-{n:02}"}) for n in range(1, 31)]
        others = [
            Document("null", {"next_at": None}),
            Document("number", {"next_at": 5}),
            Document("list", {"next_at": ["2026-11-05"]}),
            Document("without", {"active_since": "2026-11-07"}),
        ]
        await store.write(JOBS, [*documents[::-1], *others])
        return store

    async def test_all_rows_come_in_order_however_many(self, filled):
        expected = [f"2026-11-{n:02}" for n in range(1, 31)]
        assert await settles(lambda: keys(filled), expected)
        assert await settles(lambda: keys(filled, descending=True), expected[::-1])

    async def test_a_range_of_keys_holds_its_start_and_not_its_end(self, filled):
        span = {"start": "2026-11-10", "end": "2026-11-13"}
        assert await settles(lambda: keys(filled, **span), ["2026-11-10", "2026-11-11", "2026-11-12"])
        assert await settles(
            lambda: keys(filled, **span, descending=True), ["2026-11-12", "2026-11-11", "2026-11-10"]
        )

    async def test_the_limit_is_kept_from_either_end(self, filled):
        assert await settles(lambda: keys(filled, limit=2), ["2026-11-01", "2026-11-02"])
        assert await settles(lambda: keys(filled, limit=2, descending=True), ["2026-11-30", "2026-11-29"])

    async def test_rows_name_the_document(self, filled):
        expected = [IndexRow("without", "2026-11-07")]
        assert await settles(lambda: filled.find(JOBS, "active_since", limit=5), expected)

    async def test_a_row_follows_its_document(self, filled):
        [[first], [second]] = await filled.read(JOBS, ["job01", "job02"])
        await filled.write(
            JOBS,
            [
                Document("job01", {"next_at": "2026-12-01"}, first.revision),
                Document("job02", {}, second.revision, deleted=True),
            ],
        )
        assert await settles(lambda: keys(filled, end="2026-11-04"), ["2026-11-03"])
        assert await settles(lambda: keys(filled, start="2026-11-30"), ["2026-11-30", "2026-12-01"])

    async def test_databases_do_not_mix(self, filled):
        await create(filled, MONTH, "a", claimed_at="2026-11-01", state_at="2026-11-02")
        assert await settles(lambda: keys(filled, "claimed_at", MONTH), ["2026-11-01"])
        assert await settles(lambda: keys(filled, "state_at", MONTH), ["2026-11-02"])
        assert await settles(
            lambda: keys(filled, "claimed_at", executions_database(datetime(2026, 10, 1, tzinfo=UTC))), []
        )

    async def test_an_index_that_is_not_there_is_refused(self, filled):
        with pytest.raises(ValueError, match="index"):
            await filled.find(JOBS, "claimed_at", limit=1)


class TestChanges:
    async def test_from_now_on_means_nothing_of_before(self, store, backend):
        await create(store, JOBS, "before")
        position = await store.changes(JOBS, None, wait_seconds=10)
        assert position.documents == ()
        revision = await create(store, JOBS, "after", n=1)
        seen, _ = await follow(store, JOBS, position.since, ["after"])
        assert seen["after"] == Document("after", {"n": 1}, revision)
        if backend.one_copy:
            assert set(seen) == {"after"}

    async def test_a_wait_ends_as_soon_as_something_changes(self, backend):
        watcher, writer = await backend.open(), await backend.open()
        position = await watcher.changes(JOBS, None, wait_seconds=0)
        waiting = asyncio.create_task(watcher.changes(JOBS, position.since, wait_seconds=60))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        revision = await create(writer, JOBS, "a", n=1)
        async with asyncio.timeout(HINT_SECONDS):
            batch = await waiting
        assert batch.documents == (Document("a", {"n": 1}, revision),)

    async def test_a_wait_without_a_change_ends_in_time_with_nothing(self, store):
        position = await store.changes(JOBS, None, wait_seconds=0)
        loop = asyncio.get_running_loop()
        started = loop.time()
        batch = await store.changes(JOBS, position.since, wait_seconds=0.4)
        assert batch.documents == ()
        assert 0.3 < loop.time() - started < 3
        await create(store, JOBS, "a")
        assert "a" in (await follow(store, JOBS, batch.since, ["a"]))[0]

    async def test_a_document_comes_as_it_is_now_and_a_deleted_one_as_deleted(self, store, backend):
        position = await store.changes(JOBS, None, wait_seconds=0)
        first = await create(store, JOBS, "a", n=1)
        [second] = await store.write(JOBS, [Document("a", {"n": 2}, first)])
        gone = await create(store, JOBS, "b", n=1)
        [deletion] = await store.write(JOBS, [Document("b", {}, gone, deleted=True)])
        expected = {
            "a": Document("a", {"n": 2}, second.revision),
            "b": Document("b", {}, deletion.revision, deleted=True),
        }

        async def told():
            return (await follow(store, JOBS, position.since, ["a", "b"]))[0]

        assert await settles(told, expected)
        if backend.one_copy:
            assert len((await store.changes(JOBS, position.since, wait_seconds=5)).documents) == 2

    async def test_what_is_known_may_be_left_out_and_nothing_else(self, store):
        position = await store.changes(JOBS, None, wait_seconds=0)
        revision = await create(store, JOBS, "a", n=1)

        def known(identifier, at):
            return identifier == "echo" or (identifier, at) == ("a", revision)

        batch = await store.changes(JOBS, position.since, wait_seconds=5, known=known)
        assert {document.id for document in batch.documents} <= {"a"}
        echo = Document("echo", {})
        await store.write(JOBS, [echo, Document("a", {"n": 2}, revision), Document("b", {"n": 3})])
        told = {}
        since = batch.since
        async with asyncio.timeout(HINT_SECONDS):
            while told != {"a": {"n": 2}, "b": {"n": 3}}:
                batch = await store.changes(JOBS, since, wait_seconds=5, known=known)
                told |= {each.id: each.body for each in batch.documents if each.id != "echo"}
                since = batch.since

    async def test_batches_of_limited_size_miss_nothing(self, store):
        since = (await store.changes(JOBS, None, wait_seconds=0)).since
        expected = {f"{n}" for n in range(25)}
        await store.write(JOBS, [Document(name, {}) for name in expected])
        seen = set()
        async with asyncio.timeout(HINT_SECONDS):
            while seen != expected:
                batch = await store.changes(JOBS, since, wait_seconds=5, limit=10)
                assert len(batch.documents) <= 10
                seen |= {document.id for document in batch.documents}
                since = batch.since

    async def test_after_the_last_change_there_is_nothing(self, store, backend):
        since = (await store.changes(JOBS, None, wait_seconds=0)).since
        await store.write(JOBS, [Document(f"{n}", {}) for n in range(25)])
        _, since = await follow(store, JOBS, since, [f"{n}" for n in range(25)])
        if backend.one_copy:
            assert (await store.changes(JOBS, since, wait_seconds=0)).documents == ()

    async def test_databases_are_followed_apart(self, store):
        position = await store.changes(CLUSTER, None, wait_seconds=0)
        await create(store, JOBS, "a")
        assert (await store.changes(CLUSTER, position.since, wait_seconds=0)).documents == ()

    async def test_the_making_of_a_database_is_no_change_and_its_first_document_is(self, store):
        position = await store.changes(MONTH, None, wait_seconds=0)
        assert (await store.changes(MONTH, position.since, wait_seconds=0.1)).documents == ()
        await create(store, MONTH, "a")
        seen, _ = await follow(store, MONTH, position.since, ["a"])
        assert set(seen) == {"a"}


class TestDatabases:
    async def test_several_nodes_may_prepare_at_once_and_again(self, backend):
        stores = await asyncio.gather(*(backend.open() for _ in range(3)))
        await asyncio.gather(*(backend.insist(store.prepare) for store in stores))
        await create(stores[0], JOBS, "a", next_at="x")
        assert await settles(lambda: keys(stores[2]), ["x"])

    async def test_a_months_database_comes_with_the_first_write_of_any_node(self, backend):
        stores = [await backend.open() for _ in range(3)]
        assert await settles(stores[0].databases, [])
        answers = await asyncio.gather(
            *(store.write(MONTH, [Document(f"{n}", {"state_at": f"{n}"})]) for n, store in enumerate(stores))
        )
        assert [result.kind for [result] in answers] == [WriteKind.DONE] * 3
        assert await settles(stores[0].databases, [MONTH])
        assert await settles(lambda: keys(stores[1], "state_at", MONTH), ["0", "1", "2"])

    async def test_months_are_listed_oldest_first(self, store):
        months = [
            executions_database(datetime(year, month, 1, tzinfo=UTC))
            for year, month in [(2027, 1), (2026, 12)]
        ]
        for month in months:
            await create(store, month, "a")
        assert await settles(store.databases, sorted(months))

    async def test_a_dropped_month_is_gone_and_may_be_written_again(self, store):
        other = executions_database(datetime(2026, 12, 1, tzinfo=UTC))
        await store.write(MONTH, [Document(f"{n}", {"state_at": "x"}) for n in range(30)])
        await create(store, other, "kept")
        await store.drop(MONTH)
        await store.drop(MONTH)
        assert await settles(store.databases, [other])
        assert await read_one(store, MONTH, "1") == ()
        assert await settles(lambda: keys(store, "state_at", MONTH), [])
        await create(store, MONTH, "1", state_at="y")
        assert await settles(lambda: keys(store, "state_at", MONTH), ["y"])

    async def test_a_month_that_another_node_dropped_may_be_written_again(self, backend):
        writer, other = await backend.open(), await backend.open()
        revision = await create(writer, MONTH, "old", state_at="x")
        await other.drop(MONTH)
        stale = [Document("old", {}, revision)]
        [lost] = await backend.insist(lambda: writer.write(MONTH, stale))
        assert lost.kind is WriteKind.LOST
        await create(writer, MONTH, "new", state_at="y")
        assert await settles(lambda: keys(other, "state_at", MONTH), ["y"])

    async def test_only_months_can_be_dropped(self, store):
        with pytest.raises(ValueError, match="executions"):
            await store.drop(JOBS)


async def test_the_stores_clock_is_aware_and_near(store):
    told = await store.wall_clock()
    assert told.utcoffset() is not None
    assert abs((datetime.now(UTC) - told).total_seconds()) < 5
