"""The leader's working copy of the jobs that matter now: due before the horizon, active, or changed.

What is in it was read from a quorum or written with a plain success. Anything doubtful is marked stale
and read again before it is planned from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from dcron.domain.changes import knows_of, merge
from dcron.domain.documents import REVISIONS_START
from dcron.domain.errors import NotUnderstood, StoreUnreachable
from dcron.domain.instants import format_instant
from dcron.domain.job_documents import job_body, job_of
from dcron.domain.model import Job
from dcron.ports import JOBS, Document, DocumentStore, WriteKind, generation
from dcron.services.leader.due_queue import DueQueue

__all__ = ["READ_BATCH", "JobBook", "is_job_id"]

LOOKS_AGAIN = 3
"""Reads of a job whose write may be on one copy alone, before it is given up for now."""
READ_BATCH = 500
"""Job documents in one read."""
POLL_ROWS = 20_000
"""Due jobs that one poll takes in; the rest comes with the next poll, earliest first."""

log = structlog.get_logger()


class JobBook:
    """Jobs by name with the revision they were read or written at; what waits for the clock goes into `due`.

    `unsure_sequences` outlives the book: by job, the sequence of this node's last write that had no plain
    success. It may be on a branch, and that is not to outrank what is written after it."""

    def __init__(self, store: DocumentStore, due: DueQueue, unsure_sequences: dict[str, int]) -> None:
        self._store = store
        self._due = due
        self._unsure_sequences = unsure_sequences
        self._looks_left: dict[str, int] = {}
        self._held: dict[str, tuple[Job, str]] = {}
        self._noted: dict[str, str] = {}
        self._confirmed: dict[str, str] = {}
        self._told_of: set[str] = set()
        """Documents that the feed has shown and no reading has found yet: a feed follows one copy, and may be
        ahead of a quorum."""
        self._stale: set[str] = set()
        """Doubtful documents, to be read again before anything follows from them."""

    def is_confirmed(self, name: str) -> bool:
        """Whether what is held was written from here with a plain success, and so is on a quorum. What was
        only read may have come from one copy, while the others were away."""
        return self.confirmed_revision(name) is not None

    def confirmed_revision(self, name: str) -> str | None:
        """The revision of what is held, if that is confirmed."""
        held = self._held.get(name)
        return held[1] if held is not None and self._confirmed.get(name) == held[1] else None

    @property
    def stale(self) -> frozenset[str]:
        """Names of the jobs that are to be read again before anything follows from them."""
        return frozenset(self._stale)

    def is_stale(self, name: str) -> bool:
        """Whether a job is to be read again."""
        return name in self._stale

    def get(self, name: str) -> Job | None:
        """The job as last known for certain."""
        held = self._held.get(name)
        return held[0] if held and name not in self._stale else None

    def active_names(self) -> list[str]:
        """Jobs that are held as being worked on."""
        return [name for name, (job, _) in self._held.items() if job.place.active is not None]

    def put_back(self, names: Iterable[str]) -> None:
        """Make jobs due again that were taken from the queue and not written."""
        for name in names:
            if name in self._held:
                self._schedule(self._held[name][0])

    def _schedule(self, job: Job) -> None:
        # An active job's next occurrence waits for its settlement, not for the clock.
        self._due.put(job.name, job.place.next_at, by_clock=job.place.active is None)

    def _hold(self, job: Job, revision: str, before: tuple[Job, str] | None) -> None:
        """Hold what a request brought; `before` is what was held when that request began."""
        held = self._held.get(job.name)
        if held is not None and held is not before and generation(held[1]) >= generation(revision):
            return
        sequence = max(job.place.sequence, self._unsure_sequences.get(job.name, 0))
        if sequence != job.place.sequence:
            job = replace(job, place=replace(job.place, sequence=sequence))
        self._held[job.name] = (job, revision)
        self._told_of.discard(job.name)
        noted = self._noted.pop(job.name, revision)
        if noted == revision or generation(noted) < generation(revision):
            self._stale.discard(job.name)
        else:
            # The feed has told of a later one while the request was under way.
            self._stale.add(job.name)
        self._schedule(job)

    def is_known(self, document: Document) -> bool:
        """Whether a changed document is an echo of what is held, or older than that."""
        held = self._held.get(document.id)
        if held is None or document.revision is None:
            return False
        return document.revision == held[1] or generation(document.revision) < generation(held[1])

    def note_change(self, document: Document, horizon: datetime) -> None:
        """Somebody else changed a job: read it again if it matters before the horizon."""
        body = document.body
        next_at = body.get("next_at")
        matters = body.get("active_since") or (next_at and next_at < format_instant(horizon))
        if document.id in self._held or (matters and not document.deleted):
            self._stale.add(document.id)
            self._noted[document.id] = _revision(document)
            self._told_of.add(document.id)
        if document.deleted:
            self._told_of.discard(document.id)

    def note_branches(self, name: str) -> None:
        """One copy at least has branches of a job: read and resolve them, whenever the job is due. A quorum
        may not show them yet."""
        self._stale.add(name)
        self._looks_left[name] = LOOKS_AGAIN

    def forget(self, name: str) -> None:
        """Drop a job that is gone, or that is far from due."""
        self._held.pop(name, None)
        self._noted.pop(name, None)
        self._confirmed.pop(name, None)
        self._told_of.discard(name)
        self._stale.discard(name)
        self._due.remove(name)

    async def poll(self, horizon: datetime) -> bool:
        """Take in the jobs due before the horizon; True when there were more than one poll takes.

        The index is a hint: what it names is read from a quorum before it is held."""
        end = format_instant(horizon)
        rows = await self._store.find(JOBS, "next_at", end=end, limit=POLL_ROWS)
        await self.load([row.id for row in rows if not self._holds(row.id, row.key)])
        return len(rows) == POLL_ROWS

    async def load_active(self) -> list[str]:
        """Take in all jobs that are being worked on; their names."""
        names: list[str] = []
        start = ""
        while True:
            rows = await self._store.find(JOBS, "active_since", start=start, limit=POLL_ROWS)
            names.extend(row.id for row in rows)
            if len(rows) < POLL_ROWS or rows[-1].key == start:
                break
            start = rows[-1].key
        unique = list(dict.fromkeys(names))
        await self.load(unique)
        return unique

    def _holds(self, name: str, next_at: str) -> bool:
        held = self._held.get(name)
        if held is None or name in self._stale:
            return False
        due_at = held[0].place.next_at
        return due_at is not None and format_instant(due_at) == next_at

    async def load(self, names: Sequence[str]) -> None:
        """Read jobs from a quorum, resolving the branches that a split store left."""
        for start in range(0, len(names), READ_BATCH):
            batch = names[start : start + READ_BATCH]
            before = {name: self._held.get(name) for name in batch}
            for name, leaves in zip(batch, await self._store.read(JOBS, batch), strict=True):
                jobs = _readable(name, leaves)
                dropped = self._dropped(jobs)
                if dropped is not None:
                    await self._resolve(name, jobs, leaves, dropped)
                elif len(jobs) == 1:
                    self._hold(jobs[0], _revision(leaves[0]), before[name])
                elif jobs:
                    await self._resolve(name, jobs, leaves, None)
                elif not leaves and name in self._told_of:
                    self._stale.add(name)
                elif self._held.get(name) is before[name]:
                    self.forget(name)

    def _dropped(self, jobs: Sequence[Job]) -> Job | None:
        """Held job, if it has an attempt that may have been offered and that no leaf knows of any more:
        somebody merged branches who could not know which intent counted."""
        held = self._held.get(jobs[0].name) if jobs else None
        if (
            held is None
            or not self.is_confirmed(held[0].name)
            or any(knows_of(each, held[0]) for each in jobs)
        ):
            return None
        return held[0]

    async def _resolve(
        self, name: str, jobs: list[Job], leaves: Sequence[Document], dropped: Job | None
    ) -> None:
        """Write one job over the branches, or over what dropped an attempt that counts, and delete the losing
        ones; stale until that is certain."""
        self._stale.add(name)
        confirmed = self._confirmed.get(name)
        mine = dropped or next(
            (job for job, leaf in zip(jobs, leaves, strict=True) if leaf.revision == confirmed), None
        )
        merged = merge([*jobs, dropped] if dropped else jobs, mine)
        log.warning("job has branches; merging them", action="merge_job", job=name, leaves=len(leaves))
        winner, *losers = leaves
        before = self._held.get(name)
        [written] = await self._store.write(JOBS, [Document(name, job_body(merged), winner.revision)])
        if not written.done:
            return
        # Only now: what the losing branches hold must not go before it is certain elsewhere.
        results = await self._store.write(
            JOBS, [Document(name, {}, loser.revision, deleted=True) for loser in losers]
        )
        if all(result.done for result in results):
            self._confirmed[name] = written.revision or ""
            self._hold(merged, written.revision or "", before)

    async def write(self, jobs: Sequence[Job]) -> list[bool]:
        """Write jobs over the revisions they are held at; True for each plain success.

        What got no plain success is stale. After StoreUnreachable all of them are."""
        before = {job.name: self._held[job.name] for job in jobs}
        assert len(before) == len(jobs), "a job is decided on once before it is written"
        assert all(job.place.sequence > before[job.name][0].place.sequence for job in jobs), (
            "a decision goes over the very state that it was made from"
        )
        documents = [Document(job.name, job_body(job), before[job.name][1]) for job in jobs]
        self._stale.update(before)
        self._unsure_sequences.update({job.name: job.place.sequence for job in jobs})
        try:
            results = await self._store.write(JOBS, documents)
        except StoreUnreachable:
            # Again: a reading from before this write may have come in meanwhile.
            self._stale.update(before)
            self._looks_left.update(dict.fromkeys(before, LOOKS_AGAIN))
            raise
        for job, result in zip(jobs, results, strict=True):
            if result.done:
                self._confirmed[job.name] = result.revision or ""
                del self._unsure_sequences[job.name]
                self._hold(job, result.revision or "", before[job.name])
            elif result.kind is WriteKind.REJECTED:
                # Out of the book until the next poll: trying again at once would not end otherwise.
                log.error("store rejects job", action="write_job", job=job.name, reason=result.reason)
                self.forget(job.name)
            else:
                self._stale.add(job.name)
                self._looks_left[job.name] = LOOKS_AGAIN
        return [result.done for result in results]

    async def look_again(self) -> list[str]:
        """Read jobs again, up to LOOKS_AGAIN times, whose last write was not confirmed. Returns their names.
        One copy alone may have stored it, and bring it to the others as a branch when nobody has a reason to
        read the job."""
        names = list(self._looks_left)
        self._looks_left = {name: left - 1 for name, left in self._looks_left.items() if left > 1}
        await self.load(names)
        return names

    def trim(self, horizon: datetime) -> None:
        """Let go of idle jobs that are not due before the horizon, unless they have just been changed."""
        for name, (job, _) in list(self._held.items()):
            idle = job.place.active is None and not job.place.waiting and not job.place.skips
            due_at = job.place.next_at
            far = due_at is None or due_at > horizon + timedelta(minutes=1)
            if idle and far and name not in self._stale:
                self.forget(name)
        self._due.clear()
        for job, _ in self._held.values():
            self._schedule(job)


def is_job_id(identifier: str) -> bool:
    """Whether a document of the jobs database is a job rather than a kept revision."""
    return identifier < REVISIONS_START


def _readable(name: str, leaves: Sequence[Document]) -> list[Job]:
    """The jobs of a document's leaves; none, and a line in the log, when one of them is not understood."""
    try:
        return [job_of(name, leaf.body) for leaf in leaves]
    except NotUnderstood as error:
        log.error("job document is not understood", action="load", job=name, error=str(error))
        return []


def _revision(document: Document) -> str:
    return document.revision or ""
