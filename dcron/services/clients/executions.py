"""Executions as people see them: lists, one with its outcome, and a person's word on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import structlog

from dcron.domain.documents import skip_instant, verdict_body, verdict_id
from dcron.domain.errors import FailedPrecondition, InvalidInput, NodeUnreachable, NotFound, StoreUnreachable
from dcron.domain.execution_id import ExecutionId
from dcron.domain.ids import is_ulid
from dcron.domain.model import Claim, JobRevision, State, Verdict, VerdictKind
from dcron.domain.nodes import LeaderReport
from dcron.domain.planning import AHEAD_SECONDS
from dcron.domain.queries import ExecutionQuery, Listed
from dcron.domain.validation import check_note, is_job_name, shown
from dcron.domain.views import ExecutionView
from dcron.ports import (
    Clock,
    Document,
    DocumentStore,
    NodeClient,
    ObjectStore,
    WriteKind,
    executions_database,
)
from dcron.services.clients.answering import let_come
from dcron.services.clients.execution_lists import ExecutionLists, ExecutionPage
from dcron.services.clients.log_reader import LogReader
from dcron.services.clients.revisions import Revisions, job_documents
from dcron.services.shared.certainty import certainly

__all__ = ["Executions", "NodeDirectory"]

FIRST_PAUSE_SECONDS = 0.1
PAUSE_GROWTH = 1.5
MAX_PAUSE_SECONDS = 2.0
"""Longest pause between two looks at an execution whose end is waited for."""
MAX_LOOKS_PER_SECOND = 50
"""Looks in each second at all executions that clients of this node wait for: the more clients wait, the less
often each execution is looked at."""
MAX_VERDICT_TRIES = 5
"""Rounds of write and read until a verdict is known to be stored."""

log = structlog.get_logger()


class NodeDirectory(Protocol):
    """Knowledge of `ClusterService` about nodes."""

    async def address_of(self, node_id: str) -> str | None:
        """Address of a node; None when there is no such node, or it has stopped."""

    async def report(self) -> LeaderReport:
        """Last report of the leader; empty when there is none."""


class Executions:
    """Reading executions from any node, stopping them, and settling those that only a person can."""

    def __init__(
        self,
        store: DocumentStore,
        objects: ObjectStore,
        nodes: NodeClient,
        clock: Clock,
        node_directory: NodeDirectory,
    ) -> None:
        self._store = store
        self._nodes = nodes
        self._clock = clock
        self._directory = node_directory
        self._waiting_clients = 0
        self._jobs = job_documents(store)
        self._revisions = Revisions(store)
        self._listing = ExecutionLists(store, self._attention)
        self._logs = LogReader(objects, nodes, node_directory.address_of)

    async def list(self, query: ExecutionQuery, asked: int = 0, token: str = "") -> ExecutionPage:
        """A page of executions and skip records; `asked` 0 means DEFAULT_PAGE.

        What is listed was hinted at by ids or an index, and its state was then read from a quorum."""
        name, uid = await self._job_of(query.job) if query.job else ("", "")
        return await self._listing.page(query, name, uid, asked, token)

    async def _job_of(self, job: str) -> tuple[str, str]:
        """Name and uid of the job that is named, or of the last one that had the name; ("", uid) of a uid."""
        if is_ulid(job) and await self._revisions.is_known(job):
            return "", job
        registered = await self._jobs.read(job) if is_job_name(job) else None
        if registered is not None:
            return job, registered.uid
        uid = await self._revisions.last_removed(job) if is_job_name(job) else ""
        if not uid:
            raise NotFound(f"job {shown(job)} not found")
        return job, uid

    async def get(self, identifier: str) -> ExecutionView:
        """One execution as a quorum has it. NotFound for an attempt that no worker has claimed yet."""
        views = await self.get_all([identifier])
        if views:
            return views[0]
        for waiting in (await self._directory.report()).waiting:
            if waiting.execution_id == identifier:
                raise NotFound(f"execution {identifier} has not started: {waiting.reason}")
        raise NotFound(
            f"no execution {shown(identifier)} is stored; what still waits for a worker shows with its job"
        )

    async def get_listed(self, identifier: str) -> Listed:
        """One execution or skip record as a quorum has it."""
        if skip_instant(identifier) is None:
            return await self.get(identifier)
        skips = await self._listing.skips([identifier])
        if identifier not in skips:
            raise NotFound(f"no skipped record {shown(identifier)} is stored")
        return skips[identifier]

    async def wait(self, identifier: str, patience_seconds: float) -> ExecutionView:
        """One execution once it has an outcome or a verdict, or as it is after `patience_seconds`.

        NotFound where nobody has claimed it by then."""
        self._waiting_clients += 1
        try:
            return await self._wait(identifier, patience_seconds)
        finally:
            self._waiting_clients -= 1

    async def _wait(self, identifier: str, patience_seconds: float) -> ExecutionView:
        pause_seconds = FIRST_PAUSE_SECONDS
        now = asyncio.get_running_loop().time
        waited_until = now() + patience_seconds
        while True:
            is_over = now() >= waited_until
            try:
                view = await self.get(identifier)
            except NotFound:
                if is_over or ExecutionId.parse_or_none(identifier) is None:
                    raise
            else:
                if is_over or view.outcome is not None or view.verdict is not None:
                    return view
            share_seconds = self._waiting_clients / MAX_LOOKS_PER_SECOND
            await asyncio.sleep(min(max(pause_seconds, share_seconds), max(0.0, waited_until - now())))
            pause_seconds = min(pause_seconds * PAUSE_GROWTH, MAX_PAUSE_SECONDS)

    async def revision(self, job: str, revision: int) -> JobRevision:
        """One revision of a job, by its name or uid, removed or not."""
        return await self._revisions.get((await self._job_of(job))[1], revision, job)

    async def revisions(self, job: str, asked: int, token: str) -> tuple[Sequence[JobRevision], str]:
        """A page of a job's revisions, the newest first, and the token of the next one."""
        return await self._revisions.page((await self._job_of(job))[1], asked, token)

    async def _attention(self) -> frozenset[str]:
        return frozenset((await self._directory.report()).attention)

    async def get_all(self, identifiers: Sequence[str]) -> Sequence[ExecutionView]:
        """Those of the executions that are stored, in the same order, with one read for each month."""
        views = await self._listing.views(identifiers)
        return [views[identifier] for identifier in identifiers if identifier in views]

    async def read_log(self, identifier: str, *, follow: bool) -> AsyncIterator[bytes]:
        """The log of an execution in chunks; with `follow` until the script has ended."""
        view = await self.get(identifier)

        async def look_again() -> ExecutionView:
            return await self.get(identifier)

        async for chunk in self._logs.read(view, look_again, follow=follow):
            yield chunk

    async def cancel(self, identifier: str) -> str:
        """Ask the worker to stop an execution; the id of that node.

        FailedPrecondition when its worker cannot be asked: it may still run there."""
        view = await self.get(identifier)
        _require_open(view)
        unreachable: list[NodeUnreachable] = []
        for claim in view.open_claims:
            try:
                if await self._ask_to_cancel(claim):
                    log.info("cancelled", action="cancel", execution=identifier, worker=claim.node_id)
                    return claim.node_id
            except NodeUnreachable as error:
                unreachable.append(error)
        if unreachable:
            raise FailedPrecondition(
                f"execution {identifier} cannot be stopped, and may go on: {unreachable[0]}. Start dcron "
                "there again, or, if the machine is gone for good, say how it ended with "
                f"'dcron execution resolve {identifier}'"
            )
        _require_open(await self.get(identifier))
        raise FailedPrecondition(
            f"execution {identifier} does not run on node {view.claim.node_id} any more; "
            "its outcome is on its way"
        )

    async def _ask_to_cancel(self, claim: Claim) -> bool:
        address = await self._directory.address_of(claim.node_id)
        if address is None:
            raise NodeUnreachable(f"node {claim.node_id}, which runs {claim.execution_id}, has stopped")
        return await self._nodes.cancel(address, claim.execution_id)

    async def resolve(self, identifier: str, kind: VerdictKind, by: str, reason: str) -> ExecutionView:
        """Store a person's word on an execution that has no outcome. Saying the same again is no error."""
        check_note("by", by, required=True)
        check_note("reason", reason, required=False)
        view = await self._claimed(identifier)
        if view.verdict is None and not view.claim.manual:
            _require_unsettled(view)
            # It may have yet to start: what follows the verdict is not to start before it.
            await let_come(view.claim.scheduled_at, self._clock.now(), AHEAD_SECONDS)
            view = await self._claimed(identifier)
        verdict = Verdict(identifier, kind, by, reason, self._clock.now())
        if view.verdict is None:
            _require_unsettled(await self._certain(view))
            await self._write_verdict(view.claim, verdict)
            view = await self.get(identifier)
        if view.verdict is None or not _say_the_same(view.verdict, verdict):
            raise _resolved_otherwise(view)
        log.info("resolved", action="resolve", execution=identifier, verdict=kind.value, by=by)
        return view

    async def _certain(self, view: ExecutionView) -> ExecutionView:
        """The same as a quorum knows it: an outcome that one copy does not know is not to be overruled."""
        database = executions_database(view.claim.scheduled_at)
        [claims] = await self._store.read(database, [view.id])
        found = await certainly(self._store, database, claims, lambda: self._claimed(view.id))
        if found is None:
            raise StoreUnreachable(f"the store confirms nothing at present; {view.id} is not resolved")
        return found

    async def _claimed(self, identifier: str) -> ExecutionView:
        """An execution to be resolved. What no worker has claimed may still start, whatever is said of it."""
        try:
            return await self.get(identifier)
        except NotFound as error:
            if any(each.execution_id == identifier for each in (await self._directory.report()).waiting):
                raise FailedPrecondition(
                    f"{error}. Nothing is to be resolved before it starts: see to it that it can, change the "
                    "job with 'dcron job update', or remove it with 'dcron job delete'"
                ) from None
            raise

    async def _write_verdict(self, claim: Claim, verdict: Verdict) -> None:
        """Create the verdict's document; returns when one is stored, this or another."""
        database = executions_database(claim.scheduled_at)
        identifier = verdict_id(verdict.execution_id)
        for _ in range(MAX_VERDICT_TRIES):
            [result] = await self._store.write(database, [Document(identifier, verdict_body(verdict))])
            if result.done:
                return
            if result.kind is WriteKind.REJECTED:
                raise InvalidInput("reason", f"cannot be stored: {result.reason}")
            # Verdicts are never updated, so whatever a quorum shows of one stays.
            [leaves] = await self._store.read(database, [identifier])
            if leaves:
                return
        raise StoreUnreachable(
            f"the store does not confirm writes at present; {verdict.execution_id} may or may not be resolved"
        )


def _require_unsettled(view: ExecutionView) -> None:
    if view.outcome is not None and view.state is not State.NOT_STARTED:
        raise FailedPrecondition(
            f"execution {view.id} has ended already: {view.state.value}; nothing is to be resolved"
        )


def _require_open(view: ExecutionView) -> None:
    if view.outcome is not None:
        raise FailedPrecondition(f"execution {view.id} has ended already: {view.state.value}")


def _say_the_same(one: Verdict, other: Verdict) -> bool:
    return (one.kind, one.by, one.reason) == (other.kind, other.by, other.reason)


def _resolved_otherwise(view: ExecutionView) -> FailedPrecondition:
    verdict = view.verdict
    if verdict is None:
        return FailedPrecondition(f"execution {view.id} cannot be resolved now; try again")
    settled = f"{verdict.kind.value} by {verdict.by}"
    return FailedPrecondition(f"execution {view.id} is already resolved as {settled}")
