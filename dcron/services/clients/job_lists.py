"""Listing jobs by name: a hint, as ranges of documents are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from dcron.domain.documents import REVISIONS_START
from dcron.domain.errors import InvalidInput
from dcron.domain.job_documents import job_of
from dcron.domain.model import Job
from dcron.domain.pages import page_size, page_token, position_of
from dcron.domain.queries import JobQuery
from dcron.ports import JOBS, Document, DocumentStore
from dcron.services.clients.understanding import understood

__all__ = ["MAX_PAGE", "JobLists", "JobPart"]

MAX_PAGE = 1_000
"""Jobs in one page of a listing, which is the usual length too."""
MAX_PART = 350
"""Jobs of a page that are read at a time, ahead of those that are handed over."""
MAX_LOOKED_AT = 5_000
"""Jobs that are read for one page; where few of them are wanted, it comes short."""


@dataclass(frozen=True, slots=True)
class JobPart:
    """Jobs by name, a part of a page; `next_token` is empty where none follow."""

    jobs: tuple[Job, ...]
    next_token: str


class JobLists:
    """Pages of jobs by name."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    async def parts(self, query: JobQuery, asked: int, token: str) -> AsyncGenerator[JobPart, None]:
        """A page of the jobs that `query` wants, in parts. `asked` 0 means MAX_PAGE.

        While a part is worked on, the store is at the next one. To be closed by whoever leaves early."""
        left = page_size(asked, MAX_PAGE, MAX_PAGE)
        unread = MAX_LOOKED_AT if query.is_selective else left
        position = position_of(query, token, 1)
        if position and position[0] >= REVISIONS_START:
            raise InvalidInput("page_token", "is not from an earlier answer; start again without it")
        reading = self._read_part(query, position, unread)
        try:
            while True:
                size = min(unread, MAX_PART)
                documents = await reading
                unread -= size
                more = len(documents) > size
                documents = documents[:size]
                if unread and more:
                    reading = self._read_part(query, (documents[-1].id,), unread)
                    await asyncio.sleep(0)  # so that it is asked for before the caller takes its time
                jobs = [understood(job_of, each) for each in documents]
                wanted = [job for job in jobs if job is not None and query.matches(job)]
                if len(wanted) > left:
                    wanted, more = wanted[:left], True
                    documents = [each for each in documents if each.id <= wanted[-1].name]
                left -= len(wanted)
                yield JobPart(tuple(wanted), page_token(query, (documents[-1].id,)) if more else "")
                if not (more and left and unread):
                    return
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def _read_part(
        self, query: JobQuery, position: tuple[str, ...], left: int
    ) -> asyncio.Task[list[Document]]:
        """Begin to read what follows a name, and one more, by which it is seen that something follows."""
        # "!" sorts before all that a name can go on with, and REVISIONS_START after it.
        start = max(query.name_prefix, f"{position[0]}!" if position else "")
        end = f"{query.name_prefix}{REVISIONS_START}"
        limit = min(left, MAX_PART) + 1
        return asyncio.ensure_future(self._store.range(JOBS, start, end, limit=limit))
