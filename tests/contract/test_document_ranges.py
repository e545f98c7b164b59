"""What listings and indexes say; they are hints."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dcron.ports import JOBS, Document, IndexRow, executions_database
from tests.contract.store_calls import MONTH, create, keys, range_ids, settles


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
