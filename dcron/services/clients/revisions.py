"""Job documents and the revisions kept beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dcron.domain.changes import merge
from dcron.domain.documents import removal_id, revision_id
from dcron.domain.errors import FailedPrecondition, InvalidInput, NotFound, Overloaded, StoreUnreachable
from dcron.domain.instants import format_precise
from dcron.domain.job_documents import job_body, job_of, revision_of, specification_body
from dcron.domain.model import Job, JobRevision
from dcron.domain.pages import page_size, page_token, position_of
from dcron.domain.records import Body
from dcron.domain.validation import shown
from dcron.ports import JOBS, Document, DocumentStore, WriteKind
from dcron.services.clients.understanding import understood
from dcron.services.shared.shared_documents import Form, SharedDocuments

__all__ = ["JOB_FORM", "Revisions", "StaleRevision", "job_documents", "same_revision"]

DEFAULT_PAGE = 20
MAX_PAGE = 100
"""Revisions in one page: each may have MAX_TEXT_BYTES of text."""
MAX_NUMBER_TRIES = 10
"""Revision numbers that one change tries before it gives up."""


class StaleRevision(FailedPrecondition):
    """The job has been changed since the revision that the client goes by."""

    code = "ABORTED"


JOB_FORM = Form(encode=job_body, decode=job_of, merge=lambda leaves: merge(list(leaves)))


def job_documents(store: DocumentStore) -> SharedDocuments[Job]:
    """The documents of all jobs, by name."""
    return SharedDocuments(store, JOBS, JOB_FORM)


def same_revision(one: Job, other: Job) -> bool:
    """Whether both are the same revision of the same job, wherever their places in the schedule are."""
    return (one.uid, one.revision, one.paused, one.specification) == (
        other.uid,
        other.revision,
        other.paused,
        other.specification,
    )


class Revisions:
    """Each revision of a job, kept: a number belongs to whoever created its document with a plain success."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    async def keep(self, job: Job) -> Job:
        """Keep the job's revision and return the job with the number that it got.

        Must come before the job document is written: then no two contents ever have one number."""
        return await self._create(job, _revision_body(job))

    async def keep_all(self, jobs: Sequence[Job]) -> list[bool]:
        """Keep the revisions of many jobs by one write: True for each that is kept under the job's number.
        The others are for `keep`."""
        documents = [Document(revision_id(job.uid, job.revision), _revision_body(job)) for job in jobs]
        return [result.done for result in await self._store.write(JOBS, documents)]

    async def keep_removal(self, job: Job) -> Job:
        """Keep, as a revision after its last, that a job was removed at its `changed_at`; and its name."""
        trace = {"kind": "removed", "changed_at": format_precise(job.changed_at)}
        # There already is as good: it is never updated. On one copy alone it is found later.
        await self._store.write(JOBS, [Document(removal_id(job.name, job.uid), trace)])
        body = {
            "kind": "revision",
            "job": job.name,
            "deleted": True,
            "changed_at": format_precise(job.changed_at),
        }
        return await self._create(job, body)

    async def is_known(self, uid: str) -> bool:
        """Whether there is a job of that uid, or was one."""
        first, after_last = _bounds(uid)
        # What one copy has yet to learn of, a quorum knows.
        return bool(await self._store.range(JOBS, first, after_last, limit=1)) or any(
            await self._store.read(JOBS, [revision_id(uid, 1)])
        )

    async def get(self, uid: str, revision: int, job: str) -> JobRevision:
        """One revision as a quorum has it; NotFound, which calls the job `job`, where there is none."""
        [leaves] = await self._store.read(JOBS, [revision_id(uid, revision)]) if revision > 0 else [()]
        if not leaves:
            raise NotFound(f"revision {revision} of job {shown(job)} not found")
        return revision_of(leaves[0].id, leaves[0].body)

    async def page(self, uid: str, asked: int, token: str) -> tuple[Sequence[JobRevision], str]:
        """A page of a job's revisions, the newest first, and the token of the next one; a hint."""
        size = page_size(asked, DEFAULT_PAGE, MAX_PAGE)
        query = ("revisions", uid)
        position = position_of(query, token, 1)
        first, after_last = _bounds(uid)
        end = min(after_last, position[0]) if position else after_last
        found = await self._store.range(JOBS, first, end, limit=size + 1, descending=True)
        shown = found[:size]
        next_token = page_token(query, (shown[-1].id,)) if len(found) > size else ""
        revisions = [understood(revision_of, document) for document in shown]
        return [revision for revision in revisions if revision is not None], next_token

    async def last_removed(self, name: str) -> str:
        """The uid of the last job of that name that was removed; empty where there is none. A hint."""
        start, end = removal_id(name, ""), removal_id(name, ";")
        found = await self._store.range(JOBS, start, end, limit=1, descending=True)
        return found[0].id.rpartition(":")[2] if found else ""

    async def _create(self, job: Job, body: Body) -> Job:
        unsure = False
        for _ in range(MAX_NUMBER_TRIES):
            identifier = revision_id(job.uid, job.revision)
            [result] = await self._store.write(JOBS, [Document(identifier, body)])
            if result.done:
                return job
            if result.kind is WriteKind.REJECTED:
                raise InvalidInput("specification", f"cannot be stored: {result.reason}")
            unsure = result.kind is WriteKind.UNSURE
            job = replace(job, revision=await self._next_number(job))
        if unsure:
            raise StoreUnreachable(f"the store does not confirm writes at present; {job.name!r} is as it was")
        raise Overloaded(f"{job.name!r} is being changed by others all the time; try again shortly")

    async def _next_number(self, job: Job) -> int:
        """A number after the job's and after all that are known to be taken."""
        first = revision_id(job.uid, job.revision)
        _, after_last = _bounds(job.uid)
        newest = await self._store.range(JOBS, first, after_last, limit=1, descending=True)
        taken = [int(document.id.rsplit(":", 1)[1]) for document in newest]
        return max(job.revision, *taken) + 1 if taken else job.revision + 1


def _bounds(uid: str) -> tuple[str, str]:
    """The first id that a revision of a job can have, and one after the last."""
    first = revision_id(uid, 0)
    return first, first.rsplit(":", 1)[0] + ";"


def _revision_body(job: Job) -> Body:
    return {
        "kind": "revision",
        "job": job.name,
        **specification_body(job.specification),
        "paused": job.paused,
        "changed_at": format_precise(job.changed_at),
    }
