"""Registering new jobs, one or many at a time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from secrets import token_bytes

import structlog

from dcron.domain import changes
from dcron.domain.errors import AlreadyExists, DcronError, InvalidInput, StoreUnreachable
from dcron.domain.ids import ULID_RANDOMNESS_BYTES, new_ulid
from dcron.domain.job_documents import job_body
from dcron.domain.model import Job, Script, Specification
from dcron.domain.validation import check_job_name, check_specification, shown
from dcron.ports import JOBS, Document, DocumentStore, WriteKind, WriteResult
from dcron.services.clients.revisions import Revisions, job_documents
from dcron.services.clients.scripts import Scripts
from dcron.services.shared.shared_documents import doubt

__all__ = ["MAX_REGISTRATIONS", "Registrar", "Registration", "name_taken"]

MAX_REGISTRATIONS = 500
"""Jobs registered by one call."""
MAX_CREATE_TRIES = 5
"""Rounds of create and read before the store counts as not confirming."""
VERIFIED_AT_ONCE = 8
"""Scripts of one call that are read from the object store at the same time."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Registration:
    """A new job as a client wants it."""

    name: str
    specification: Specification
    paused: bool


class _Batch:
    """Registrations of one call, by their place in it, with their results so far."""

    def __init__(self, wanted: Sequence[Registration | InvalidInput]) -> None:
        self.open: dict[int, Registration] = {}
        self.answers: dict[int, Job | DcronError] = {}
        for place, each in enumerate(wanted):
            if isinstance(each, Registration):
                self.open[place] = each
            else:
                self.answers[place] = each

    def answer(self, place: int, answer: Job | DcronError) -> None:
        self.answers[place] = answer
        self.open.pop(place, None)

    def check(self, check: Callable[[Registration], None]) -> None:
        """Answer whatever the check refuses by raising."""
        for place, wanted in list(self.open.items()):
            try:
                check(wanted)
            except DcronError as error:
                self.answer(place, error)


class Registrar:
    """Makes new jobs. What is answered with a job is on a quorum, and nothing else is known to be."""

    def __init__(self, store: DocumentStore, scripts: Scripts, now: Callable[[], datetime]) -> None:
        """`now` raises where this node's wall clock cannot be relied on."""
        self._store = store
        self._scripts = scripts
        self._jobs = job_documents(store)
        self._now = now
        self._revisions = Revisions(store)

    async def create(self, wanted: Registration) -> Job:
        """Register a job, whose script must have been uploaded. AlreadyExists when the name is taken."""
        [answer] = await self.create_all([wanted])
        if isinstance(answer, DcronError):
            raise answer
        return answer

    async def create_all(self, wanted: Sequence[Registration | InvalidInput]) -> list[Job | DcronError]:
        """Register each of these independently of the others; what came of it, in the same order.

        One that could not be read stands there with its refusal, and is answered with it. Raises only
        before any job is written."""
        if not 0 < len(wanted) <= MAX_REGISTRATIONS:
            raise InvalidInput("jobs", f"{len(wanted)} jobs in one call; give 1 to {MAX_REGISTRATIONS}")
        batch = _Batch(wanted)
        seen: set[str] = set()
        batch.check(lambda each: self._check(each, seen))
        for step in (self._refuse_taken, self._refuse_without_script, self._register):
            if batch.open:
                await step(batch)
        return [batch.answers[place] for place in range(len(wanted))]

    def _check(self, wanted: Registration, seen: set[str]) -> None:
        check_job_name(wanted.name)
        check_specification(wanted.specification, max_script_bytes=self._scripts.max_script_bytes)
        if wanted.name in seen:
            raise name_taken(wanted.name)
        seen.add(wanted.name)

    async def _refuse_taken(self, batch: _Batch) -> None:
        names = [wanted.name for wanted in batch.open.values()]
        found = await self._store.read(JOBS, names)
        for place, leaves in zip(list(batch.open), found, strict=True):
            if leaves:
                batch.answer(place, name_taken(batch.open[place].name))

    async def _refuse_without_script(self, batch: _Batch) -> None:
        scripts = list({wanted.specification.script for wanted in batch.open.values()})
        refusals = await self._refusals(scripts)
        for place, wanted in list(batch.open.items()):
            if refusal := refusals.get(wanted.specification.script):
                batch.answer(place, refusal)

    async def _refusals(self, scripts: Sequence[Script]) -> dict[Script, DcronError]:
        """Reasons why scripts cannot be used, for those that cannot."""
        refusals: dict[Script, DcronError] = {}
        room = asyncio.Semaphore(VERIFIED_AT_ONCE)

        async def verify(script: Script) -> None:
            async with room:
                try:
                    await self._scripts.verify(script)
                except DcronError as error:
                    refusals[script] = error

        async with asyncio.TaskGroup() as group:
            for script in scripts:
                group.create_task(verify(script))
        return refusals

    async def _register(self, batch: _Batch) -> None:
        now = self._now()
        kept = await self._keep_revisions(
            batch, {place: _new(each, now) for place, each in batch.open.items()}
        )
        if kept:
            await self._write_new(batch, kept)

    async def _keep_revisions(self, batch: _Batch, jobs: dict[int, Job]) -> dict[int, Job]:
        """Store each job's first revision. Returns those that were stored."""
        done = await self._revisions.keep_all(list(jobs.values()))
        kept = dict(itertools.compress(jobs.items(), done))

        async def keep(place: int) -> None:
            kept[place] = await self._revisions.keep(jobs[place])

        await _one_by_one(batch, [place for place in jobs if place not in kept], keep)
        return kept

    async def _write_new(self, batch: _Batch, jobs: dict[int, Job]) -> None:
        """Write job documents that must not exist yet."""
        documents = [Document(job.name, job_body(job)) for job in jobs.values()]
        try:
            with doubt(_names(jobs.values()), in_doubt=True):
                results = await self._store.write(JOBS, documents)
        except StoreUnreachable as error:
            for place in jobs:
                batch.answer(place, error)
            return

        doubtful: dict[int, WriteResult] = {}
        for (place, job), result in zip(jobs.items(), results, strict=True):
            if result.done:
                _answer_created(batch, place, job)
            else:
                doubtful[place] = result

        async def settle(place: int) -> None:
            with doubt(jobs[place].name, in_doubt=True):
                await self._settle(jobs[place], doubtful[place])
            _answer_created(batch, place, jobs[place])

        await _one_by_one(batch, doubtful, settle)

    async def _settle(self, job: Job, result: WriteResult) -> None:
        """Make certain of a new job whose first write had no plain success."""
        for _ in range(MAX_CREATE_TRIES):
            if result.kind is WriteKind.REJECTED:
                raise InvalidInput("specification", f"cannot be stored: {result.reason}")
            [leaves] = await self._store.read(JOBS, [job.name])
            own = [leaf for leaf in leaves if leaf.body["uid"] == job.uid]
            if len(own) < len(leaves):
                withdrawn = [Document(job.name, {}, leaf.revision, deleted=True) for leaf in own]
                if withdrawn:
                    await self._store.write(JOBS, withdrawn)
                raise name_taken(job.name)
            if own:
                await self._confirm(job)
                return
            [result] = await self._store.write(JOBS, [Document(job.name, job_body(job))])
            if result.done:
                return
        raise StoreUnreachable("the store does not confirm writes at present")

    async def _confirm(self, job: Job) -> None:
        """Write over what was stored without a quorum."""

        async def same(present: Job | None) -> Job:
            if present is None or present.uid != job.uid:
                raise name_taken(job.name)
            return present

        await self._jobs.rewrite(job.name, same)


def name_taken(name: str) -> AlreadyExists:
    """There is a job of that name."""
    return AlreadyExists(f"a job {shown(name)} exists already; update it or take another name")


def _new(wanted: Registration, now: datetime) -> Job:
    uid = new_ulid(now, token_bytes(ULID_RANDOMNESS_BYTES))
    return changes.create(wanted.name, uid, wanted.specification, now, paused=wanted.paused)


def _names(jobs: Iterable[Job]) -> str:
    first, *others = [job.name for job in jobs]
    return f"{first} and {len(others)} more" if others else first


def _answer_created(batch: _Batch, place: int, job: Job) -> None:
    log.info("job created", action="create_job", job=job.name, uid=job.uid)
    batch.answer(place, job)


async def _one_by_one(batch: _Batch, places: Iterable[int], act: Callable[[int], Awaitable[None]]) -> None:
    """Do for each what could not be done for all at once. The first StoreUnreachable stands for the rest:
    each further one would cost a deadline."""
    unreachable: StoreUnreachable | None = None
    for place in places:
        if unreachable is not None:
            batch.answer(place, unreachable)
            continue
        try:
            await act(place)
        except StoreUnreachable as error:
            unreachable = error
            batch.answer(place, error)
        except DcronError as error:
            batch.answer(place, error)
