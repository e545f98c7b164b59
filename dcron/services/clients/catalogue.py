"""Jobs as clients see and change them, through any node."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from dcron.domain import changes
from dcron.domain.cron import parse_schedule
from dcron.domain.errors import FailedPrecondition, InvalidInput, NotFound
from dcron.domain.execution_id import ExecutionId
from dcron.domain.model import Job, Occurrence, Specification
from dcron.domain.queries import JobQuery
from dcron.domain.validation import check_specification, is_job_name, shown
from dcron.ports import Clock, DocumentStore, executions_database
from dcron.services.clients.answering import let_come, trusted_now
from dcron.services.clients.job_lists import JobLists, JobPart
from dcron.services.clients.revisions import Revisions, StaleRevision, job_documents, same_revision
from dcron.services.clients.run_requests import RunRequests
from dcron.services.clients.scripts import Scripts
from dcron.services.shared.cluster_settings import read_settings

__all__ = ["Catalogue"]

MAX_NEXT = 100
DEFAULT_NEXT = 5

log = structlog.get_logger()


class Catalogue:
    """Changing, running and listing jobs; `Registrar` makes them.

    A method that has returned has its change on a quorum. StoreUnreachable after a first write means
    that nobody knows; its message says so, and asking again is safe."""

    def __init__(
        self,
        store: DocumentStore,
        scripts: Scripts,
        clock: Clock,
        *,
        clock_trouble: Callable[[], str],
    ) -> None:
        """`clock_trouble` says why this node's wall clock cannot be relied on; empty when it can."""
        self._store = store
        self._clock = clock
        self._clock_trouble = clock_trouble
        self._scripts = scripts
        self._revisions = Revisions(store)
        self._jobs = job_documents(store)
        self._lists = JobLists(store)
        self._requests = RunRequests(store)

    async def update(
        self, name: str, specification: Specification, field_names: Sequence[str], *, if_revision: int = 0
    ) -> Job:
        """Change the named fields of a job's specification; the others of `specification` are ignored.

        StaleRevision when `if_revision` is not 0 and not the job's."""
        taken = {field: getattr(specification, field) for field in field_names}
        present = await self.get(name)
        check_specification(
            replace(present.specification, **taken), max_script_bytes=self._scripts.max_script_bytes
        )
        if "script" in taken:
            await self._scripts.verify(specification.script)

        def change(job: Job, now: datetime) -> Job:
            return changes.change(job, replace(job.specification, **taken), now)

        return await self._revise(name, change, if_revision)

    async def pause(self, name: str) -> Job:
        """Pause a job: once this has returned, nothing of it starts that had not been decided before."""
        return await self._revise(name, changes.pause)

    async def resume(self, name: str) -> Job:
        """Let a job go on with its first occurrence after now."""
        return await self._revise(name, changes.resume)

    async def delete(self, name: str) -> str:
        """Remove a job; the id of its execution that is being worked on and goes on, or nothing."""
        kept: Job | None = None
        seen: list[Job] = []

        async def keep(job: Job) -> None:
            nonlocal kept
            seen.append(job)
            if kept is None or kept.uid != job.uid or kept.revision <= job.revision:
                removal = replace(job, revision=job.revision + 1, changed_at=self._clock.now())
                kept = await self._revisions.keep_removal(removal)

        job = await self._jobs.remove(name, keep)
        if job is None:
            raise _not_found(name)
        log.info("job deleted", action="delete_job", job=name, uid=job.uid)
        await self._let_come(seen)
        return job.place.active.execution_id if job.place.active else ""

    async def get(self, name: str) -> Job:
        """One job, as a quorum has it."""
        job = await self._jobs.read(name) if is_job_name(name) else None
        if job is None:
            raise _not_found(name)
        return job

    def parts(self, query: JobQuery, asked: int, token: str) -> AsyncGenerator[JobPart, None]:
        """A page of jobs by name, in parts. See `JobLists.parts`."""
        return self._lists.parts(query, asked, token)

    async def run(self, name: str, request_id: str) -> str:
        """Ask for one run now; the id of its first attempt. The same `request_id` runs once."""
        now = self._trusted_now()
        job = await self.get(name)
        known = await self._requests.known(job.uid, request_id, now)
        claimed = await self._claimed(job.uid, known)
        if claimed:
            return claimed[0]
        # Before anything is kept: what was refused here leaves no trace of its instant.
        if (await read_settings(self._store)).frozen:
            raise FailedPrecondition("cluster is frozen; thaw it with 'dcron cluster thaw'")
        keys = await self._requests.keep(job.uid, request_id, now)

        async def ask(present: Job | None) -> Job:
            nonlocal claimed
            if present is None or present.uid != job.uid:
                raise _not_found(name)
            # After the job was read: what no longer waits in it has been claimed by then.
            claimed = await self._claimed(job.uid, keys)
            return present if claimed else changes.request_run(present, *keys)

        written = await self._jobs.rewrite(name, ask)
        key = changes.asked_run(written, *keys)
        first_attempt = claimed[0] if claimed else Occurrence.of_request(job.uid, key).attempt(1).text
        log.info("run asked for", action="run_job", job=name, execution=first_attempt)
        return first_attempt

    async def next_occurrences(self, name: str, count: int) -> tuple[Sequence[datetime], str]:
        """The next instants of a job and its timezone; none while it is paused."""
        job = await self.get(name)
        specification = job.specification
        instants = self.preview(specification.schedule, specification.timezone, count)
        return (() if job.paused else instants), specification.timezone

    def preview(self, schedule: str, timezone: str, count: int) -> Sequence[datetime]:
        """The next `count` instants of a schedule that need not be registered; 0 means DEFAULT_NEXT."""
        if not 0 <= count <= MAX_NEXT:
            raise InvalidInput("count", f"{count} is not valid; give 0 to {MAX_NEXT}")
        following = parse_schedule(schedule, timezone).after(self._clock.now())
        return list(itertools.islice(following, count or DEFAULT_NEXT))

    async def _revise(self, name: str, change: Callable[[Job, datetime], Job], if_revision: int = 0) -> Job:
        """Make a new revision of a job and write it; `change` is pure and may be asked several times."""
        wanted: Job | None = None
        seen: list[Job] = []

        async def revise(job: Job | None) -> Job:
            nonlocal wanted
            if job is None:
                raise _not_found(name)
            seen.append(job)
            if wanted is not None and same_revision(job, wanted):
                return job
            if if_revision and job.revision != if_revision:
                raise StaleRevision(
                    f"job {name!r} is at revision {job.revision}, not {if_revision}; look at it again"
                )
            changed = change(job, self._instant_for(job))
            if changed.revision == job.revision:
                return job
            wanted = await self._keep(changed, job, wanted)
            return wanted

        if not is_job_name(name):
            raise _not_found(name)
        job = await self._jobs.rewrite(name, revise)
        log.info("job changed", action="change_job", job=name, revision=job.revision, paused=job.paused)
        await self._let_come(seen)
        return job

    async def _keep(self, changed: Job, before: Job, kept: Job | None) -> Job:
        """Keep the revision, under the number and instant of the last round if it comes to the same."""
        if kept is not None and kept.uid == changed.uid and kept.revision > before.revision:
            again = replace(changed, revision=kept.revision, changed_at=kept.changed_at)
            if same_revision(again, kept):
                return again
        return await self._revisions.keep(changed)

    def _instant_for(self, job: Job) -> datetime:
        """Now, but not before what has been launched: this node's clock may be behind the leader's."""
        launched = [job.changed_at, job.place.counts_from]
        if job.place.active is not None:
            launched.append(job.place.active.occurrence.scheduled_at)
        if job.place.last is not None:
            last = ExecutionId.parse_or_none(job.place.last.execution_id)
            launched += [last.instant] if last else []
        return max(self._trusted_now(), *launched)

    async def _let_come(self, seen: Iterable[Job]) -> None:
        """Let the instants come for which the leader has launched the job ahead, in any state that was read.

        An unsure write of this change may stand on an intent that one copy has alone: once the copies meet,
        the intent is of the newest revision, and counts."""
        launched = {job.place.active for job in seen if job.place.active is not None}
        # By a clock that cannot be relied on nothing is long ago.
        now = None if self._clock_trouble() else self._clock.now()
        instants = [(each.occurrence.scheduled_at, each.ahead_seconds) for each in launched]
        await asyncio.gather(*(let_come(at, now or at, ahead_seconds) for at, ahead_seconds in instants))

    def _trusted_now(self) -> datetime:
        return trusted_now(self._clock, self._clock_trouble())

    async def _claimed(self, uid: str, keys: Iterable[str]) -> list[str]:
        """The first attempts at the runs of these keys that workers have claimed."""
        attempts = [Occurrence.of_request(uid, key).attempt(1) for key in keys]
        reads = [self._store.read(executions_database(each.instant), [each.text]) for each in attempts]
        found = await asyncio.gather(*reads)
        return [each.text for each, [leaves] in zip(attempts, found, strict=True) if leaves]


def _not_found(name: str) -> NotFound:
    return NotFound(f"job {shown(name)} not found")
