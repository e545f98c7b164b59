"""Pages of jobs: every job once, read ahead, and no further than anybody looks."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from dcron.domain.errors import InvalidInput, StoreUnreachable
from dcron.domain.pages import page_token
from dcron.domain.queries import JobQuery
from dcron.ports import JOBS, Document
from dcron.services.clients import job_lists
from dcron.services.clients.job_lists import JobLists
from dcron.services.clients.registrar import Registrar, Registration
from tests.unit.services.doubles import SPECIFICATION, SplitStore

NAME = "report"
WANTED = Registration(NAME, SPECIFICATION, paused=False)


@pytest.fixture
def lists(store: SplitStore) -> JobLists:
    return JobLists(store)


async def page_of(lists: JobLists, size: int, token: str) -> tuple[list[str], str]:
    """Names of a page, and where the next one begins."""
    parts = [part async for part in lists.parts(JobQuery(), size, token)]
    return [job.name for part in parts for job in part.jobs], parts[-1].next_token


@pytest.fixture
async def one_by_one(registrar: Registrar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three jobs, each of which is a part of a page."""
    monkeypatch.setattr(job_lists, "MAX_PART", 1)
    await registrar.create_all([replace(WANTED, name=name) for name in "abc"])


class TestListing:
    @pytest.mark.parametrize("part", [1, 2, 250])
    @pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 7, 0])
    async def test_pages_hold_every_job_once_and_no_revisions(
        self,
        lists: JobLists,
        registrar: Registrar,
        monkeypatch: pytest.MonkeyPatch,
        size: int,
        part: int,
    ) -> None:
        monkeypatch.setattr(job_lists, "MAX_PART", part)
        names = ["a", "a-b", "a.b", "a0", "ab", "b"]
        await registrar.create_all([replace(WANTED, name=name) for name in names])
        seen, token = [], ""
        for _ in names:
            found, token = await page_of(lists, size, token)
            seen.append(found)
            if not token:
                break
        assert [name for found in seen for name in found] == sorted(names)
        assert all(len(found) == size for found in seen[:-1])

    @pytest.mark.usefixtures("one_by_one")
    async def test_the_next_part_is_being_read_while_one_is_worked_on(
        self, lists: JobLists, store: SplitStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        read = store.range

        async def note(database: str, start: str, end: str, **rest: Any) -> list[Document]:
            asked.append(start)
            return await read(database, start, end, **rest)

        monkeypatch.setattr(store, "range", note)
        async with aclosing(lists.parts(JobQuery(), 0, "")) as parts:
            await anext(parts)
            assert asked == ["", "a!"]
            await anext(parts)
            assert asked == ["", "a!", "b!"]

    @pytest.mark.usefixtures("one_by_one")
    async def test_a_listing_that_is_left_reads_no_further(
        self, lists: JobLists, store: SplitStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = store.range
        left = asyncio.Event()

        async def hang(database: str, start: str, end: str, **rest: Any) -> list[Document]:
            if start:
                try:
                    await asyncio.Event().wait()
                finally:
                    left.set()
            return await read(database, start, end, **rest)

        monkeypatch.setattr(store, "range", hang)
        async with aclosing(lists.parts(JobQuery(), 0, "")) as parts:
            await anext(parts)
        assert left.is_set()

    @pytest.mark.usefixtures("one_by_one")
    async def test_a_part_that_cannot_be_read_fails_the_listing(
        self, lists: JobLists, store: SplitStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = store.range

        async def unplugged(database: str, start: str, end: str, **rest: Any) -> list[Document]:
            if start:
                raise StoreUnreachable("unplugged")
            return await read(database, start, end, **rest)

        monkeypatch.setattr(store, "range", unplugged)
        with pytest.raises(StoreUnreachable):
            await page_of(lists, 0, "")

    @pytest.mark.parametrize("size", [0, 1])
    @pytest.mark.usefixtures("one_by_one")
    async def test_a_document_that_is_not_understood_is_left_out_and_logged(
        self, lists: JobLists, store: SplitStore, size: int
    ) -> None:
        await store.write(JOBS, [Document("aa", {"kind": "job", "place": "of a newer version"})])
        with capture_logs() as lines:
            found, token = await page_of(lists, size, "")
            while token:
                more, token = await page_of(lists, size, token)
                found += more
        assert found == ["a", "b", "c"]
        assert {line["document"] for line in lines} == {"aa"}

    @pytest.mark.parametrize("position", ["~", "a" * 1_000], ids=["of a revision", "huge"])
    async def test_a_forged_token_reads_nothing(
        self, lists: JobLists, store: SplitStore, monkeypatch: pytest.MonkeyPatch, position: str
    ) -> None:
        monkeypatch.delattr(type(store).__mro__[1], "range")
        with pytest.raises(InvalidInput, match="page_token"):
            await page_of(lists, 5, page_token(JobQuery(), (position,)))

    @pytest.mark.parametrize(
        ("size", "token", "field"), [(-1, "", "page_size"), (5, "~", "page_token"), (5, "YQ", "page_token")]
    )
    async def test_a_page_that_cannot_be_is_refused(
        self, lists: JobLists, size: int, token: str, field: str
    ) -> None:
        with pytest.raises(InvalidInput) as caught:
            await page_of(lists, size, token)
        assert caught.value.field == field
