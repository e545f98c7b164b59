"""What changes feeds tell, which databases there are, and what time it is there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from dcron.ports import CLUSTER, JOBS, Document, WriteKind, executions_database
from tests.contract.store_calls import HINT_SECONDS, MONTH, create, follow, keys, read_one, settles


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
