"""A node that serves real gRPC over stores in memory, and what its tests put into it."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from dcron.adapters.grpc.nodes import GrpcNodeClient
from dcron.adapters.memory import MemoryDocumentStore
from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.api.server import ApiServer
from dcron.domain.documents import claim_body, outcome_body
from dcron.domain.errors import NotFound
from dcron.domain.execution_id import ExecutionId
from dcron.domain.model import Claim, Coalesced, Outcome, State
from dcron.domain.model import Script as ScriptValue
from dcron.domain.nodes import LeaderReport, NodeRecord
from dcron.domain.offers import ClaimReference, KnownClaims, OfferAnswer, OfferedAttempt, OfferResult
from dcron.domain.views import HeldExecution
from dcron.ports import Document, executions_database
from dcron.rpc import dcron_pb2 as pb
from dcron.rpc import dcron_pb2_grpc
from dcron.services.shared.trouble import StoreTrouble

__all__ = [
    "DEFAULTS",
    "DIGEST",
    "LOG",
    "NOW",
    "SECRET",
    "TEXT",
    "FakeElector",
    "FakeWorker",
    "FixedClock",
    "Node",
    "TickingClock",
    "identifier_of",
    "put_claim",
    "put_outcome",
    "refused",
    "specification",
    "upload",
]

NOW = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)
TEXT = b"#!/bin/sh\necho hello\n"
DIGEST = hashlib.sha256(TEXT).hexdigest()
LOG = b"hello\n" * 1000
SECRET = "pass" + "word-in-an-error"


class FixedClock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    def boottime(self) -> float:
        return 0.0


class TickingClock(FixedClock):
    """Each look is a second after the one before, so that records have an order."""

    def __init__(self) -> None:
        self._seconds = itertools.count()

    def now(self) -> datetime:
        return NOW + timedelta(seconds=next(self._seconds))


@dataclass
class FakeElector:
    said: LeaderReport | None = None
    heard: list[int] = field(default_factory=list)
    store_trouble: StoreTrouble = field(default_factory=lambda: StoreTrouble(FixedClock()))

    def record(self) -> NodeRecord:
        return NodeRecord("n1", "t", "s", "here:1", "0.1.0", 4, NOW, NOW)

    def clock_trouble(self) -> str:
        return ""

    def summary(self) -> str:
        return "n1 leads term 4"

    def leader_id(self) -> str:
        return "n1"

    def term(self) -> int:
        return 4

    def report(self) -> LeaderReport | None:
        return self.said

    async def resignation(self, term: int) -> None:
        self.heard.append(term)


@dataclass
class FakeWorker:
    """Accepts the first attempt and is busy for the others; `follow_log` waits for `more`."""

    offered: list[OfferedAttempt] = field(default_factory=list)
    logs: dict[str, bytes] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    delivered: frozenset[str] = frozenset()
    slow: bool = False
    holds: list[HeldExecution] = field(default_factory=list)

    def held(self) -> list[HeldExecution]:
        return self.holds

    async def offer(
        self, node_id: str, term: int, number: int, leader_id: str, attempts: Sequence[OfferedAttempt]
    ) -> list[OfferAnswer]:
        assert (node_id, term, number, leader_id) == ("n1", 4, 7, "n9")
        if self.slow:
            await asyncio.Event().wait()
        self.offered += attempts
        busy = [OfferAnswer(OfferResult.BUSY, "all slots are taken")] * (len(attempts) - 1)
        return [OfferAnswer(OfferResult.ACCEPTED), *busy]

    async def cancel(self, execution_id: str) -> bool:
        return execution_id in self.running

    async def known_claims(self, node_id: str, claims: Sequence[ClaimReference]) -> KnownClaims:
        known = frozenset(claim.token for claim in claims if claim.execution_id in self.running)
        return KnownClaims(known | self.delivered, self.delivered)

    async def follow_log(self, execution_id: str, offset: int, *, follow: bool) -> AsyncIterator[bytes]:
        if execution_id not in self.logs:
            raise NotFound(f"{execution_id} is not in the spool")
        yield self.logs[execution_id][offset:]
        if follow:
            await self.more.wait()
            yield b"end"


@dataclass
class Node:
    """One node's API with all behind it."""

    store: MemoryDocumentStore
    objects: MemoryObjectStore
    elector: FakeElector
    worker: FakeWorker
    server: ApiServer
    client: GrpcNodeClient
    address: str
    channel: aio.Channel

    @property
    def public(self) -> dcron_pb2_grpc.PublicStub:
        return dcron_pb2_grpc.PublicStub(self.channel)

    async def put(self, database: str, identifier: str, body: dict[str, object]) -> None:
        [result] = await self.store.write(database, [Document(identifier, body)])
        assert result.done


async def upload(node: Node) -> None:
    async def messages() -> AsyncIterator[pb.UploadScriptRequest]:
        yield pb.UploadScriptRequest(sha256=DIGEST, data=TEXT[:4])
        yield pb.UploadScriptRequest(data=TEXT[4:])

    answer = await node.public.UploadScript(messages())
    assert answer.size_bytes == len(TEXT)


DEFAULTS = {"grace": Duration(seconds=10), "max_attempts": 3}
"""What a node adds to a specification that does not say."""


def specification(**fields: object) -> pb.Specification:
    values = {
        "schedule": "*/5 * * * *",
        "interpreter": "sh",
        "script": pb.Script(sha256=DIGEST, size_bytes=len(TEXT), file_name="hello.sh"),
        "arguments": ["one"],
        "environment": {"A": "b"},
    }
    return pb.Specification(**(values | fields))


def identifier_of(job: pb.Job, at: str = "20260302T120000Z") -> str:
    return f"{job.uid}:{at}:001"


async def put_claim(node: Node, job: pb.Job, at: str = "20260302T120000Z") -> Claim:
    identifier = identifier_of(job, at)
    claim = Claim(
        identifier,
        "tok",
        "n1",
        "report",
        4,
        1,
        ScriptValue(DIGEST, len(TEXT)),
        ExecutionId.parse(identifier).instant,
        False,
        NOW,
        30.0,
        Coalesced(NOW, 7),
    )
    await node.put(executions_database(NOW), claim.execution_id, claim_body(claim))
    return claim


async def put_outcome(node: Node, claim: Claim, **fields: object) -> None:
    outcome = Outcome(claim.execution_id, claim.token, "n1", State.FAILED, NOW + timedelta(seconds=9), NOW, 3)
    await node.put(executions_database(NOW), outcome.id, outcome_body(replace(outcome, **fields)))


async def refused(call: object) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value
