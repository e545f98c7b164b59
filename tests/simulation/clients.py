"""People and programs that use the cluster through random nodes, and write down what they were told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from dcron.domain.errors import FailedPrecondition, NotFound
from dcron.domain.ids import ULID_RANDOMNESS_BYTES, new_ulid
from dcron.domain.model import State, VerdictKind
from dcron.domain.queries import ExecutionQuery
from dcron.services.clients.registrar import Registration
from tests.simulation.history import Asked, instant
from tests.simulation.machine import Machine, Served
from tests.simulation.scenario import ZONES, random_specification

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["Clients"]

PATIENCE_SECONDS = 15.0
"""How long a client waits for its answer."""
CALMING_TRIES = 60
"""Times that the last wishes, after all faults, are said again until they are granted."""
RETRY_SECONDS = 1.0
MISSPELT = {"zone": "ood"}
Act = Callable[[Served], Awaitable[Any]]


class Clients:
    """Asks one thing after the other."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random: Random = world.stream("clients")
        self._names = [f"job{number}" for number in range(1, world.scenario.jobs + 1)]
        self._requests: list[tuple[str, str]] = []
        self._misspelt: set[str] = set()
        """Jobs that were told to run on nodes that there are not."""

    async def register_jobs(self) -> None:
        """Register the jobs that the run begins with."""
        for name in self._names:
            await self._insist(lambda served, name=name: self._create(served, name), "create", name)

    async def run(self) -> None:
        """Ask for this and that until cancelled."""
        acts = {
            self._run_job: 6,
            self._update: 4,
            self._relabel: 4,
            self._pause: 3,
            self._resume: 5,
            self._delete: 1,
            self._create_again: 3,
            self._freeze: 1,
            self._thaw: 4,
            self._drain: 1,
            self._undrain: 3,
            self._cancel: 2,
            self._resolve: 2,
        }
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self._world.scenario.ask_every_seconds))
            [act] = self._random.choices(list(acts), weights=list(acts.values()))
            await act(self._random.choice(self._names))

    async def calm(self) -> None:
        """Have all jobs paused, so that the cluster can come to rest."""
        for name in self._names:
            await self._insist(lambda served, name=name: served.catalogue.pause(name), "pause", name)

    async def make_whole(self) -> None:
        """Undo what would keep the cluster from working: a freeze, drains, misspelt labels."""
        await self._insist(lambda served: served.cluster.thaw(), "thaw", "")
        mended = replace(random_specification(self._random), labels={})
        for name in sorted(self._misspelt):
            await self._insist(
                lambda served, name=name: served.catalogue.update(name, mended, ["labels"]), "update", name
            )
        for machine in self._world.machines:
            node_id = machine.node_id
            await self._insist(
                lambda served, node_id=node_id: served.cluster.undrain(node_id), "undrain", node_id
            )

    async def _insist(self, act: Act, action: str, job: str) -> None:
        for _ in range(CALMING_TRIES):
            answer = await self._ask(act, action, job)
            if answer in {"ok", NotFound.__name__, "AlreadyExists"}:
                return
            await asyncio.sleep(RETRY_SECONDS)
        raise TimeoutError(f"{action} {job} was refused {CALMING_TRIES} times")

    async def _ask(self, act: Act, action: str, job: str, detail: str = "") -> str:
        """Ask some node that listens; what it said, "" when it said nothing in time."""
        machines = [machine for machine in self._world.machines if machine.served is not None]
        if not machines:
            return ""
        machine: Machine = self._random.choice(machines)
        assert machine.served is not None
        asked_at = self._world.loop.time()
        answer = ""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                _, error = await machine.served.call(act)
            answer = type(error).__name__ if error else "ok"
        except TimeoutError:
            answer = ""
        finally:
            # Also of one that gives up because the run is over: what it asked for may still be done.
            self._world.history.add(
                Asked(
                    self._world.loop.time(),
                    asked_at,
                    machine.node_id,
                    action,
                    job,
                    answer,
                    machine.clock.offset_seconds,
                    detail,
                )
            )
        return answer

    async def _create(self, served: Served, name: str) -> None:
        specification = self._world.scenario.specification or random_specification(self._random)
        await served.registrar.create(Registration(name, specification, paused=False))

    async def _create_again(self, name: str) -> None:
        specification, paused = random_specification(self._random), self._random.random() < 0.2
        wanted = Registration(name, specification, paused)
        await self._ask(lambda served: served.registrar.create(wanted), "create", name)

    async def _update(self, name: str) -> None:
        specification = random_specification(self._random)
        fields = self._random.choice((["schedule"], ["timeout_seconds"], ["schedule", "environment"]))
        if self._random.random() < 0.2:
            # Nothing changes, which must be harmless too.
            fields = ["script"]
        await self._ask(
            lambda served: served.catalogue.update(name, specification, fields),
            "update",
            name,
            ",".join(fields),
        )

    async def _relabel(self, name: str) -> None:
        """Change which nodes a job may run on; sometimes there is no such node."""
        labels = self._random.choice(({}, *({"zone": zone} for zone in ZONES), MISSPELT))
        if labels is MISSPELT:
            self._misspelt.add(name)
        specification = replace(random_specification(self._random), labels=labels)
        await self._ask(
            lambda served: served.catalogue.update(name, specification, ["labels"]), "update", name, "labels"
        )

    async def _pause(self, name: str) -> None:
        await self._ask(lambda served: served.catalogue.pause(name), "pause", name)

    async def _resume(self, name: str) -> None:
        await self._ask(lambda served: served.catalogue.resume(name), "resume", name)

    async def _delete(self, name: str) -> None:
        await self._ask(lambda served: served.catalogue.delete(name), "delete", name)

    async def _run_job(self, name: str) -> None:
        """Ask for a run; sometimes with a request that was made before, as after a lost answer."""
        if self._requests and self._random.random() < 0.3:
            name, request = self._random.choice(self._requests[-5:])
        else:
            now = instant(self._world.loop.time())
            request = new_ulid(now, self._random.randbytes(ULID_RANDOMNESS_BYTES))
            self._requests.append((name, request))
        await self._ask(lambda served: served.catalogue.run(name, request), "run", name, request)

    async def _freeze(self, _: str) -> None:
        await self._ask(lambda served: served.cluster.freeze(), "freeze", "")

    async def _thaw(self, _: str) -> None:
        await self._ask(lambda served: served.cluster.thaw(), "thaw", "")

    async def _drain(self, _: str) -> None:
        node_id = self._random.choice(self._world.machines).node_id
        await self._ask(lambda served: served.cluster.drain(node_id), "drain", node_id)

    async def _undrain(self, _: str) -> None:
        node_id = self._random.choice(self._world.machines).node_id
        await self._ask(lambda served: served.cluster.undrain(node_id), "undrain", node_id)

    async def _cancel(self, name: str) -> None:
        async def act(served: Served) -> None:
            await served.executions.cancel(await self._running(served, name))

        await self._ask(act, "cancel", name)

    async def _resolve(self, name: str) -> None:
        kind = self._random.choice(list(VerdictKind))

        async def act(served: Served) -> None:
            identifier = await self._running(served, name)
            await served.executions.resolve(identifier, kind, "operator", "simulated")

        await self._ask(act, "resolve", name, kind.value)

    @staticmethod
    async def _running(served: Served, name: str) -> str:
        query = ExecutionQuery(job=name, states=(State.RUNNING,))
        listed = (await served.executions.list(query, 1)).executions
        if not listed:
            raise FailedPrecondition("nothing runs")
        return listed[0].id
