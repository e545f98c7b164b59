"""A job book, its queue and a store, and jobs in the states that books meet."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from dcron.domain.job_documents import job_body, job_of
from dcron.domain.model import Active, Job, Occurrence
from dcron.ports import JOBS, Document
from dcron.services.leader.due_queue import DueQueue
from dcron.services.leader.job_book import JobBook
from tests.doubles import START, DoubtfulStore, sample_job

MINUTE = timedelta(minutes=1)
HORIZON = START + 2 * MINUTE


class Scene:
    def __init__(self) -> None:
        self.store = DoubtfulStore()
        self.due = DueQueue()
        self.book = JobBook(self.store, self.due, {})

    async def stored(self, *jobs: Job) -> None:
        """What somebody else writes."""
        for job in jobs:
            [leaves] = await self.store.read(JOBS, [job.name])
            revision = leaves[0].revision if leaves else None
            [result] = await self.store.write(JOBS, [Document(job.name, job_body(job), revision)])
            assert result.done

    async def current(self, name: str) -> Document:
        [[leaf]] = await self.store.read(JOBS, [name])
        return leaf

    async def in_store(self, name: str) -> Job:
        return job_of(name, (await self.current(name)).body)


def due(name: str, next_at: datetime | None) -> Job:
    return sample_job(name, next_at=next_at)


def later(job: Job, at: datetime = START + 60 * MINUTE) -> Job:
    """The job as the leader writes it on."""
    return replace(job, place=replace(job.place, sequence=job.place.sequence + 1, next_at=at))


def active(job: Job) -> Job:
    running = Active(Occurrence.of_schedule(job.uid, START), 1, 1, START)
    return replace(job, place=replace(job.place, active=running))
