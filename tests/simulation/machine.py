"""One machine of the fleet: its disk, clock and keeper last; the node on it starts, stops, crashes, hangs."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context, ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dcron.config import Settings
from dcron.domain.errors import DcronError, SpoolFull
from dcron.domain.model import Claim, Outcome
from dcron.node import Node
from dcron.services.clients.catalogue import Catalogue
from dcron.services.clients.cluster import ClusterService
from dcron.services.clients.executions import Executions
from dcron.services.clients.registrar import Registrar
from dcron.services.election.elector import Elector
from dcron.services.worker.spool import Entry, Spool
from dcron.services.worker.worker import Worker
from tests.simulation.clocks import MachineClock
from tests.simulation.history import Defect, History
from tests.simulation.links import Link
from tests.simulation.loop import GATE, Gate, VirtualLoop
from tests.simulation.runner import Keeper
from tests.simulation.scenario import ZONES
from tests.simulation.told import told

__all__ = ["MACHINE", "Machine", "Served", "SimulatedServer", "SimulatedSpool"]

LOOK_SECONDS = 0.05
RESTART_SECONDS = 2.0
"""After which systemd would start a node again that ended by itself."""


class Machine:
    """Where one node lives. `served` is what other nodes and clients reach, None while nothing listens."""

    def __init__(
        self,
        loop: VirtualLoop,
        history: History,
        node_id: str,
        number: int,
        folder: Path,
        slots: int,
        clock: MachineClock,
        keeper: Keeper,
    ) -> None:
        self._loop = loop
        self._history = history
        self.node_id = node_id
        self.number = number
        self.clock = clock
        self.keeper = keeper
        self.to_store = Link(loop, node_id)
        self.to_objects = Link(loop, node_id)
        self.served: Served | None = None
        self.incarnation = 0
        self.zone = ZONES[number % len(ZONES)]
        self.settings = Settings(
            store="simulated",
            objects="simulated",
            spool=folder,
            node_id=node_id,
            listen=node_id,
            advertise=node_id,
            slots=slots,
            labels={"zone": self.zone},
            lease_seconds=6.0,
            log_format="text",
            log_level="info",
            max_log_bytes=1024 * 1024,
            max_script_bytes=1024 * 1024,
        )
        self._gate: Gate | None = None
        self._life: asyncio.Task[None] | None = None
        self._spool: Spool | None = None
        self._buried: list[tuple[Gate, asyncio.Task[None]]] = []

    @property
    def is_paused(self) -> bool:
        """Whether a node is here that does not run."""
        return self._gate is not None and not self._gate.is_open

    @property
    def callbacks(self) -> int:
        """How many callbacks the present node has run."""
        return self._gate.passed if self._gate is not None else 0

    @property
    def is_stopping(self) -> bool:
        """Whether the node here was told to stop, and has not yet."""
        return self._life is not None and self._life.cancelling() > 0

    @property
    def leads(self) -> bool:
        """Whether the node here does the leader's work."""
        return self.served is not None and self.served.elector.report() is not None

    @property
    def is_relabelled(self) -> bool:
        """Whether its node is in another zone than it began in."""
        return self.settings.labels != {"zone": self.zone}

    def relabel(self, zone: str) -> None:
        """Have the next node here be in a zone."""
        self.settings = replace(self.settings, labels={"zone": zone})

    def boot(self) -> None:
        """Start the node, as its service manager would."""
        if self._gate is not None:
            return
        self.incarnation += 1
        self._gate = Gate(f"{self.node_id}#{self.incarnation}")
        context = Context()
        context.run(GATE.set, self._gate)
        context.run(MACHINE.set, self)
        node = context.run(Node, self.settings)
        self._spool = node._spool
        self._life = self._loop.create_task(self._live(node, self._gate), context=context)

    async def _live(self, node: Node, gate: Gate) -> None:
        try:
            await node.run()
        except Exception as error:  # noqa: BLE001 - it is recorded, and fails the run
            self._history.add(Defect(self._loop.time(), self.node_id, f"the node ended: {told(error)}"))
            self._loop.call_later(RESTART_SECONDS, self.boot, context=Context())
        finally:
            if self._gate is gate:
                self._gate = self._life = None

    def crash(self) -> None:
        """SIGKILL: nothing of the node runs any more, not even clean-up. Its spool and scripts stay."""
        if self._gate is None or self._life is None or self._spool is None:
            return
        self._gate.kill()
        self._buried.append((self._gate, self._life))
        self.served = self._gate = self._life = None
        self._spool.close()

    def crash_after(self, callbacks: int, crashed: asyncio.Future[Machine]) -> None:
        """SIGKILL once so many more callbacks of the node have run, at whatever await it is then.

        `crashed` is done as soon as that has happened; cancelled before, it calls it off. Only the newest
        such order to a node counts."""
        gate = self._gate

        def act() -> None:
            if not crashed.done():
                self.crash()
                crashed.set_result(self)

        if gate is not None:
            gate.light(callbacks, act)

    def lose_power(self) -> None:
        """The machine goes down with its scripts."""
        self.crash()
        self.keeper.lose_power()

    def pause(self) -> None:
        """SIGSTOP."""
        if self._gate is not None:
            self._gate.pause()

    def resume(self) -> None:
        """SIGCONT."""
        if self._gate is not None:
            self._gate.resume(self._loop)

    async def stop(self) -> None:
        """SIGTERM, and wait for the end, which may be a crash."""
        life = self._life
        if life is not None:
            life.cancel()
        while life is not None and self._life is life:
            await asyncio.sleep(LOOK_SECONDS)

    def bury(self) -> None:
        """After the run: cancel what crashed, so that nothing is left behind."""
        for gate, life in self._buried:
            gate.bury(self._loop)
            life.cancel()

    def wipe(self) -> None:
        """Remove the machine's disk."""
        shutil.rmtree(self.settings.spool, ignore_errors=True)


MACHINE: ContextVar[Machine] = ContextVar("machine")
"""The machine on which the present code runs."""


@dataclass(slots=True)
class Served:
    """What listens at a node's address."""

    loop: VirtualLoop
    history: History
    context: Context
    node_id: str
    incarnation: int
    worker: Worker
    elector: Elector
    catalogue: Catalogue
    registrar: Registrar
    executions: Executions
    cluster: ClusterService
    newest_term: int = 0
    """Newest term of the offers that came here."""

    async def call(self, ask: Callable[[Served], Awaitable[Any]]) -> tuple[Any, DcronError | None]:
        """Have something done by the node; never returns if the node dies first."""
        done: asyncio.Future[tuple[Any, DcronError | None]] = self.loop.create_future()

        async def act() -> None:
            result, failure = None, None
            try:
                result = await ask(self)
            except DcronError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 - it is recorded, and fails the run
                self.history.add(Defect(self.loop.time(), self.node_id, f"a call failed: {told(error)}"))
                failure = DcronError(repr(error))
            if not done.done():
                done.set_result((result, failure))

        self.loop.create_task(act(), context=self.context.copy())
        return await done


class SimulatedServer:
    """Stands where `ApiServer` does: makes the services reachable without sockets."""

    def __init__(self, listen: str, public: Any, internal: Any, *_: Any) -> None:
        self._public = public
        self._internal = internal

    async def start(self) -> None:
        """Listen."""
        machine = MACHINE.get()
        context = Context()
        context.run(GATE.set, GATE.get())
        context.run(MACHINE.set, machine)
        machine.served = Served(
            machine._loop,
            machine._history,
            context,
            machine.node_id,
            machine.incarnation,
            self._internal._worker,
            self._internal._elector,
            self._public._catalogue,
            self._public._registrar,
            self._public._history,
            self._public._cluster,
        )

    async def stop(self, grace_seconds: float) -> None:
        """Listen no more."""
        MACHINE.get().served = None

    async def set_serving(self, serving: bool) -> None:
        """Nobody asks for its health."""


class SimulatedSpool(Spool):
    """The real spool, on a disk that can be full."""

    def add(self, claims: Iterable[Claim]) -> list[Entry]:
        """See `Spool.add`."""
        if MACHINE.get().keeper.disk_full:
            raise SpoolFull("the disk is full")
        return super().add(claims)

    def finish(self, entry: Entry, outcome: Outcome) -> None:
        """See `Spool.finish`."""
        if MACHINE.get().keeper.disk_full:
            raise OSError(errno.ENOSPC, "no space left on device")
        super().finish(entry, outcome)

    def note_delivered(self, entries: Iterable[Entry]) -> None:
        """See `Spool.note_delivered`."""
        if MACHINE.get().keeper.disk_full:
            raise OSError(errno.ENOSPC, "no space left on device")
        super().note_delivered(entries)
