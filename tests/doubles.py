"""Stand-ins for the world around the services, and sample values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from dcron.adapters.memory import MemoryDocumentStore
from dcron.domain.errors import NodeUnreachable, NotFound, StoreUnreachable
from dcron.domain.model import Claim, Job, Outcome, Place, Script, Specification, State
from dcron.domain.offers import ClaimReference, KnownClaims, OfferAnswer, OfferedAttempt, OfferResult
from dcron.ports import Document, WriteKind, WriteResult

UID = "01KB0000000000000000000000"
LATER_UID = "01KB0000000000000000000001"
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SCRIPT = Script("a" * 64, 10, "job.sh")
WAIT_SECONDS = 30.0

Answer = Callable[[Sequence[OfferedAttempt]], Awaitable[list[OfferAnswer]]]


def request_id(number: int) -> str:
    """A ULID of the sample day."""
    return f"01M84{number:021d}"


def sample_job(name: str = "job", *, schedule: str = "* * * * *", **place: object) -> Job:
    """A job whose place is idle and due at START, unless said otherwise."""
    fields = {"sequence": 1, "term": 1, "next_at": START, "counts_from": START - timedelta(hours=1)}
    specification = Specification(schedule, SCRIPT, timeout_seconds=60.0)
    return Job(name, UID, 1, specification, START, START, Place(**(fields | place)))


def sample_claim(
    execution_id: str, token: str, node_id: str = "a", *, timeout_seconds: float = 60.0
) -> Claim:
    return Claim(
        execution_id,
        token,
        node_id,
        "job",
        1,
        1,
        SCRIPT,
        START,
        False,
        START,
        timeout_seconds=timeout_seconds,
    )


def sample_outcome(execution_id: str, token: str, state: State, node_id: str = "a") -> Outcome:
    return Outcome(execution_id, token, node_id, state, START)


def sample_offer(execution_id: str, **labels: str) -> OfferedAttempt:
    specification = Specification("* * * * *", SCRIPT, labels=labels)
    return OfferedAttempt(execution_id, f"job-{execution_id}", 1, specification, START, manual=False)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; TimeoutError when it does not come."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.002)


class ManualClock:
    """A clock that stands until it is moved."""

    def __init__(self, start: datetime = START) -> None:
        self.start = start
        self.seconds = 1_000.0
        self.ahead = timedelta(0)

    def set_forward(self, by: timedelta) -> None:
        """Set the wall clock alone, as a person would."""
        self.ahead += by

    def pass_seconds(self, seconds: float) -> None:
        self.seconds += seconds

    def pass_until(self, at: datetime) -> None:
        """Let time pass, or go back, until the wall clock shows this."""
        self.seconds += (at - self.now()).total_seconds()

    def now(self) -> datetime:
        return self.start + self.ahead + timedelta(seconds=self.seconds - 1_000.0)

    def monotonic(self) -> float:
        return self.seconds

    def boottime(self) -> float:
        return self.seconds


class FakeNodes:
    """A `NodeClient` whose workers answer as each test has it; `requests` are the offers in order.

    `running` are the executions that can be cancelled, `logs` what can be followed, by execution; neither
    answers unless `reachable`, nor a log before `before_answer` was awaited."""

    def __init__(self) -> None:
        self.logs: dict[str, bytes] = {}
        self.running: set[str] = set()
        self.reachable = True
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, tuple[str, ...]]] = []
        self.asked_claims: list[tuple[str, tuple[ClaimReference, ...]]] = []
        self.known: dict[str, KnownClaims] = {}
        self.most_in_flight: dict[str, int] = {}
        self._in_flight: dict[str, int] = {}

    def always(self, node_id: str, result: OfferResult, reason: str = "") -> None:
        """Have a worker give one answer to everything."""

        async def answer(attempts: Sequence[OfferedAttempt]) -> list[OfferAnswer]:
            return [OfferAnswer(result, reason)] * len(attempts)

        self.answers[node_id] = answer

    def silent(self, node_id: str) -> None:
        """Have every answer of a worker lost."""

        async def answer(attempts: Sequence[OfferedAttempt]) -> list[OfferAnswer]:
            raise NodeUnreachable(f"no answer from {node_id}")

        self.answers[node_id] = answer

    def asked(self, execution_id: str) -> list[str]:
        """The workers that were offered an attempt, in order."""
        return [node_id for node_id, attempts in self.requests if execution_id in attempts]

    async def offer(
        self,
        address: str,
        node_id: str,
        term: int,
        number: int,
        leader_id: str,
        attempts: Sequence[OfferedAttempt],
    ) -> list[OfferAnswer]:
        self.requests.append((node_id, tuple(attempt.execution_id for attempt in attempts)))
        self._in_flight[node_id] = self._in_flight.get(node_id, 0) + 1
        self.most_in_flight[node_id] = max(self.most_in_flight.get(node_id, 0), self._in_flight[node_id])
        try:
            return await self.answers[node_id](attempts)
        finally:
            self._in_flight[node_id] -= 1

    async def cancel(self, address: str, execution_id: str) -> bool:
        self._reach(address)
        return execution_id in self.running

    def _reach(self, address: str) -> None:
        if not self.reachable:
            raise NodeUnreachable(f"node at {address}: no answer")

    async def known_claims(self, address: str, node_id: str, claims: Sequence[ClaimReference]) -> KnownClaims:
        self.asked_claims.append((node_id, tuple(claims)))
        if node_id not in self.known:
            raise NodeUnreachable(f"no answer from {node_id}")
        return self.known[node_id]

    async def follow_log(
        self, address: str, execution_id: str, offset: int, *, follow: bool
    ) -> AsyncIterator[bytes]:
        self._reach(address)
        if self.before_answer is not None:
            await self.before_answer()
        if execution_id not in self.logs:
            raise NotFound("not in the spool")
        yield self.logs[execution_id][offset:]

    async def announce_resignation(self, address: str, term: int) -> None:
        return

    async def close(self) -> None:
        return


class DoubtfulStore(MemoryDocumentStore):
    """A memory store that can lose answers, fall short of a quorum, and hold branches.

    `kinds` is what the next writes answer, by document id, without storing anything; `branches` are
    the leaves of documents that a split left; `after_read` and `during_write` run once, when the next
    read has found what it answers, and before the next write is carried out."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: dict[str, list[WriteKind]] = {}
        self.branches: dict[str, list[Document]] = {}
        self.writes: list[tuple[str, ...]] = []
        self.unreachable = False
        self.after_read: Callable[[], Awaitable[None]] | None = None
        self.during_write: Callable[[], Awaitable[None]] | None = None

    async def write(self, database: str, documents: Sequence[Document]) -> list[WriteResult]:
        self.writes.append(tuple(document.id for document in documents))
        if self.during_write is not None:
            hook, self.during_write = self.during_write, None
            await hook()
        if self.unreachable:
            raise StoreUnreachable("unplugged")
        return [await self._write_each(database, document) for document in documents]

    async def _write_each(self, database: str, document: Document) -> WriteResult:
        kinds = self.kinds.get(document.id)
        if kinds:
            return WriteResult(kinds.pop(0), revision="9-unsure")
        leaves = self.branches.get(document.id)
        if leaves is None:
            [result] = await super().write(database, [document])
            return result
        at = [number for number, leaf in enumerate(leaves) if leaf.revision == document.revision]
        if not at:
            return WriteResult(WriteKind.LOST)
        generation = int((document.revision or "0-").split("-")[0]) + 1
        revision = f"{generation}-{len(self.writes):04d}"
        if document.deleted:
            del leaves[at[0]]
        else:
            leaves[at[0]] = Document(document.id, document.body, revision)
        return WriteResult(WriteKind.DONE, revision=revision)

    async def read(self, database: str, ids: Sequence[str]) -> list[tuple[Document, ...]]:
        if self.unreachable:
            raise StoreUnreachable("unplugged")
        stored = await super().read(database, ids)
        if self.after_read is not None:
            hook, self.after_read = self.after_read, None
            await hook()
        return [
            tuple(self.branches[each]) if each in self.branches else leaves
            for each, leaves in zip(ids, stored, strict=True)
        ]
