"""A store, a worker and one leader, and what they write down."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

from dcron.domain.documents import (
    INITIAL_SETTINGS,
    SETTINGS_ID,
    claim_body,
    node_key,
    outcome_body,
    settings_body,
    verdict_body,
    verdict_id,
)
from dcron.domain.job_documents import job_body, job_of
from dcron.domain.model import Active, Claim, Job, Occurrence, Outcome, State, Verdict
from dcron.domain.nodes import NodeRecord, node_body
from dcron.ports import CLUSTER, JOBS, Document
from dcron.services.leader.mandate import Leadership
from dcron.services.leader.scheduler import Scheduler
from dcron.services.shared.node_watch import NodeWatch
from tests.doubles import START, UID, sample_job, until
from tests.service_doubles import MONTH, REAL_SCRIPT, DirectNodes, Machine, WorkerNode, new_world

TERM = 2
DUE = Occurrence.of_schedule(UID, START)
FAR = 1000.0


class Scene:
    """A store, a worker `a` and, once started, one leader."""

    def __init__(self, folder) -> None:
        self.world = new_world()
        self.store, self.clock = self.world.store, self.world.clock
        self.machine = Machine()
        self.worker = WorkerNode(self.world, folder, self.machine, slots=50)
        self.nodes = DirectNodes()
        self.nodes.workers["a:1"] = self.worker.worker
        self.leading = True
        self.steady = True
        self.looks = 0
        self.task: asyncio.Task[None] | None = None
        self.scheduler: Scheduler | None = None

    def is_leading(self) -> bool:
        return self.leading

    def is_steady(self) -> bool:
        return self.steady

    def look(self) -> None:
        self.looks += 1

    async def add_node(self, node_id: str = "a") -> None:
        record = NodeRecord(node_id, "t", "s", f"{node_id}:1", "1", 50, START, START)
        await self.store.write(CLUSTER, [Document(node_key(node_id), node_body(record))])

    async def add_job(self, name: str = "job", *, uid: str = UID, **place) -> Job:
        job = replace(sample_job(name, **{"schedule": "0 12 23 11 *", **place}), uid=uid)
        specification = replace(job.specification, script=REAL_SCRIPT, interpreter="sh")
        job = replace(job, specification=specification)
        await self.store.write(JOBS, [Document(name, job_body(job))])
        return job

    async def put(self, *items: Claim | Outcome | Verdict) -> None:
        documents = []
        for item in items:
            if isinstance(item, Claim):
                documents.append(Document(item.execution_id, claim_body(item)))
            elif isinstance(item, Outcome):
                documents.append(Document(item.id, outcome_body(item)))
            else:
                documents.append(Document(verdict_id(item.execution_id), verdict_body(item)))
        await self.store.write(MONTH, documents)

    async def settings(self, **fields) -> None:
        [leaves] = await self.store.read(CLUSTER, [SETTINGS_ID])
        body = settings_body(replace(INITIAL_SETTINGS, **fields))
        await self.store.write(CLUSTER, [Document(SETTINGS_ID, body, leaves[0].revision if leaves else None)])

    def lead(self, nodes=None, *, term: int = TERM, renewal_seconds: float = 0.01, claims_since=None) -> None:
        self.worker.start()
        self.worker.worker.ready = True
        self.scheduler = Scheduler(
            self.store,
            nodes or self.nodes,
            self.clock,
            NodeWatch(self.store, self.clock, lease_seconds=1e9),
            Leadership(term, "leader", self.is_leading, self.look, self.is_steady, {}, claims_since or {}),
            self.worker.burst,
            unsure_sequences={},
            offer_numbers=itertools.count(1),
            renewal_seconds=renewal_seconds,
        )
        self.task = asyncio.create_task(self.scheduler.run())

    async def job(self, name: str = "job") -> Job:
        [leaves] = await self.store.read(JOBS, [name])
        return job_of(name, leaves[0].body)

    async def settled(self, state: State = State.SUCCEEDED, name: str = "job") -> Job:
        """The job, once its last attempt ended like that."""
        async with asyncio.timeout(10):
            while True:
                job = await self.job(name)
                last = job.place.last
                if job.place.active is None and last is not None and last.state is state:
                    return job
                await asyncio.sleep(0.002)

    async def run_script(self, number: int = 0, exit_code: int = 0) -> None:
        """Wait for a start and have it end."""
        await until(lambda: len(self.machine.started) > number)
        self.worker.runner.end(self.machine.started[number], exit_code)

    async def starts(self) -> list[str]:
        """Execution ids of all that was started, by their claims."""
        claims = {claim.token: claim.execution_id for claim in await self.store.claims()}
        return [claims[token] for token in self.machine.started]

    def job_writes(self) -> int:
        return sum(database == JOBS for database, _ in self.store.requests)

    async def end(self) -> BaseException | None:
        if self.task is None:
            return None
        self.task.cancel()
        await asyncio.wait([self.task])
        return None if self.task.cancelled() else self.task.exception()


def attempt(number: int = 1, *, term: int = 1, after: tuple[str, ...] = ()) -> Active:
    return Active(DUE, number, term, START, after=after)


def a_claim(token: str, number: int = 1, node_id: str = "a") -> Claim:
    return Claim(
        attempt(number).execution_id, token, node_id, "job", 1, 1, REAL_SCRIPT, START, False, START, 60.0
    )


def an_outcome(token: str, state: State, number: int = 1) -> Outcome:
    return Outcome(attempt(number).execution_id, token, "a", state, START)
