"""The whole simulation of one seed: puts machines, store and network together, and runs them."""

from __future__ import annotations

import asyncio
import gc
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Protocol
from unittest.mock import patch

from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.domain.job_documents import job_of
from dcron.domain.nodes import node_of
from dcron.domain.planning import AHEAD_SECONDS
from dcron.ports import CLUSTER, JOBS
from dcron.services.leader import due_queue
from tests.simulation.clients import Clients
from tests.simulation.clocks import MachineClock
from tests.simulation.composition import Adapters, composed, quiet_logs
from tests.simulation.copies import winner_first
from tests.simulation.faults import Faults
from tests.simulation.history import Defect, Final, History
from tests.simulation.loop import VirtualLoop
from tests.simulation.machine import Machine
from tests.simulation.network import Network, NodeConnections
from tests.simulation.newer import NewerStoreClient
from tests.simulation.objects import ObjectsClient
from tests.simulation.runner import Keeper, Runner
from tests.simulation.scenario import SCRIPT, SCRIPT_TEXT, Scenario
from tests.simulation.store import Cluster
from tests.simulation.store_client import StoreClient, StoreWeather
from tests.simulation.told import told

__all__ = ["World", "simulate"]

START_SECONDS = 20.0
"""What the cluster is given to come up before anything goes wrong."""
CALM_SECONDS = 240.0
"""Within which everything is to be settled once the faults have ended and the jobs are paused."""
LOOK_SECONDS = 5.0
TEAR_DOWN_ROUNDS = 200
MEMORY_FOLDER = Path("/dev/shm")
"""Where spools are when it is there: nothing in the simulation cuts the power of this machine."""


class PlanOfFaults(Protocol):
    """What goes wrong in a run."""

    async def run(self) -> None:
        """Do harm until cancelled."""

    async def end(self) -> None:
        """Mend everything at once, and start every node that is down."""


class World:
    """Everything that one run consists of. Streams of randomness are apart, so that a change of one
    part of the simulation leaves the plan of faults of a seed as it was."""

    def __init__(self, scenario: Scenario, folder: Path, faults: Callable[[World], PlanOfFaults]) -> None:
        self.scenario = scenario
        self._make_faults = faults
        self.loop = VirtualLoop()
        self.history = History()
        self.weather = StoreWeather()
        self.cluster = Cluster(self.loop, self.stream("store"), self.history)
        self.network = Network(self.loop, self.stream("network"), self.history)
        self.objects = MemoryObjectStore()
        self.objects._objects[SCRIPT.key] = SCRIPT_TEXT
        for number in range(scenario.nodes):
            node_id = f"node{number + 1}"
            clock = MachineClock(self.loop, 1000.0 * (number + 1))
            keeper = Keeper(self.loop, self.stream(f"keeper {node_id}"), self.history, clock, node_id)
            self.network.machines[node_id] = Machine(
                self.loop, self.history, node_id, number, folder / node_id, scenario.slots, clock, keeper
            )
        versions = self.stream("versions")
        self._newer_since = [versions.choice((1, 2, 3, None, None)) for _ in self.machines]
        self.loop.set_exception_handler(self._note_exception)

    @property
    def machines(self) -> list[Machine]:
        """All machines, in a fixed order."""
        return list(self.network.machines.values())

    def stream(self, name: str) -> Random:
        """A source of randomness for one purpose."""
        return Random(f"{self.scenario.seed}/{name}")

    def adapters(self) -> Adapters:
        """The ports of a machine's node, in this world."""
        calls = self.stream("calls")
        return Adapters(
            store=lambda machine: (NewerStoreClient if self._is_newer(machine) else StoreClient)(
                self.loop,
                self.cluster,
                self.weather,
                machine.to_store,
                calls,
                self.history,
                machine.number,
            ),
            objects=lambda machine: ObjectsClient(self.objects, machine.to_objects, calls),
            nodes=lambda machine: NodeConnections(self.network, machine.node_id),
            runner=lambda machine: Runner(self.loop, machine.keeper),
        )

    def _is_newer(self, machine: Machine) -> bool:
        """Whether the node that starts on a machine is of the newer version: some are so from the beginning,
        some are upgraded while they are down."""
        since = self._newer_since[machine.number]
        return since is not None and machine.incarnation >= since

    def _note_exception(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        detail = told(error) if isinstance(error, BaseException) else ""
        self.history.add(Defect(self.loop.time(), "-", f"{context['message']}: {detail}"))

    async def run(self) -> None:
        """Come up, go wrong, calm down, and look at what is left."""
        clients = Clients(self)
        faults = self._make_faults(self)
        for machine in self.machines:
            machine.boot()
        await asyncio.sleep(START_SECONDS)
        await clients.register_jobs()
        doing = [asyncio.create_task(faults.run())]
        if self.scenario.clients:
            doing.append(asyncio.create_task(clients.run()))
        await asyncio.sleep(self.scenario.chaos_seconds)
        for task in doing:
            task.cancel()
        await faults.end()
        await clients.make_whole()
        self.history.faults_end = self.loop.time()
        await asyncio.sleep(self.scenario.settle_seconds)
        leaders_settled = self._leaders()
        await clients.calm()
        await self._until_calm()
        self.history.final = self._final(leaders_settled, await self._shown())

    async def _until_calm(self) -> None:
        deadline = self.loop.time() + CALM_SECONDS
        while self.loop.time() < deadline and not self._is_calm():
            await asyncio.sleep(LOOK_SECONDS)

    def _is_calm(self) -> bool:
        if any(machine.keeper.scripts or _spooled(machine) for machine in self.machines):
            return False
        documents = {key: leaves for key, leaves in self._leaves().items() if _is_job(key)}
        if any(len(leaves) > 1 for leaves in documents.values()):
            return False
        jobs = [job_of(key[1], leaves[0][1]) for key, leaves in documents.items()]
        return not any(job.place.active or job.place.waiting or job.place.skips for job in jobs)

    def _leaves(self) -> dict[tuple[str, str], tuple[tuple[str, dict[str, object]], ...]]:
        """What all copies together know, live leaves only."""
        keys = {
            (database, document_id): None
            for copy in self.cluster.copies
            for database, trees in copy.databases.items()
            for document_id in trees
        }
        leaves = {}
        for database, document_id in sorted(keys):
            trees = [tree for copy in self.cluster.copies if (tree := copy.tree(database, document_id))]
            found = winner_first(trees)
            if found:
                leaves[database, document_id] = tuple((leaf.id, dict(leaf.body)) for leaf in found)
        return leaves

    def _leaders(self) -> tuple[str, ...]:
        """The nodes that lead by their documents."""
        return tuple(
            key[1]
            for key, found in self._leaves().items()
            if key[0] == CLUSTER and key[1].startswith("node:") and node_of(key[1], found[0][1]).leading
        )

    async def _shown(self) -> dict[str, str]:
        """Ask a node for all executions; nothing where none answers, which checker h tells."""
        ids = [key for (database, key), leaves in self._leaves().items() if _is_claim(database, leaves)]
        served = self.machines[0].served
        if served is None:
            return {}
        views, _ = await served.call(lambda served: served.executions.get_all(ids))
        return {view.id: view.state.value for view in views or ()}

    def _final(self, leaders_settled: tuple[str, ...], shown: dict[str, str]) -> Final:
        return Final(
            self.loop.time(),
            self._leaves(),
            dict(self.objects._objects),
            self._leaders(),
            leaders_settled,
            {machine.node_id: _spooled(machine) for machine in self.machines},
            frozenset(token for machine in self.machines for token in machine.keeper.scripts),
            shown,
        )

    def tear_down(self) -> None:
        """End whatever is left, without a trace: the store is gone, so nothing can be written any more."""
        self.history = History()
        for copy in self.cluster.copies:
            copy.up = False
        for machine in self.machines:
            machine.resume()
            machine.bury()
        for _ in range(TEAR_DOWN_ROUNDS):
            left = asyncio.all_tasks(self.loop)
            if not left:
                break
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(left, timeout=10.0))
        self.loop.set_exception_handler(lambda *_: None)
        self.loop.close()


def _is_job(key: tuple[str, str]) -> bool:
    return key[0] == JOBS and not key[1].startswith("~")


def _is_claim(database: str, leaves: tuple[tuple[str, dict[str, object]], ...]) -> bool:
    return database.startswith("executions-") and leaves[0][1]["kind"] == "claim"


def _spooled(machine: Machine) -> tuple[str, ...]:
    attempts = machine.settings.spool / "attempts"
    return tuple(sorted(path.name for path in attempts.iterdir())) if attempts.is_dir() else ()


def _far_ahead() -> AbstractContextManager[Any]:
    return patch.object(due_queue, "AHEAD_PER_JOB", timedelta(seconds=AHEAD_SECONDS))


def simulate(
    scenario: Scenario, *, verbose: bool = False, faults: Callable[[World], PlanOfFaults] = Faults
) -> History:
    """Run a scenario; the same one gives the same history."""
    gc.collect()
    gc.disable()
    try:
        in_memory = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
        with tempfile.TemporaryDirectory(prefix="dcron-simulation-", dir=in_memory) as folder:
            world = World(scenario, Path(folder), faults)
            history = world.history
            with (
                composed(world.adapters(), world.stream("tokens")),
                quiet_logs(world.loop, history, verbose=verbose),
                _far_ahead() if scenario.launches_far_ahead else nullcontext(),
            ):
                main = world.loop.create_task(world.run(), context=Context())
                try:
                    world.loop.run_until_complete(main)
                finally:
                    world.tear_down()
            return history
    finally:
        gc.enable()
