"""What goes wrong on purpose, when, and for how long; each fault is mended by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.ambush import Ambushes, Step
from tests.simulation.copy_faults import CopyFaults
from tests.simulation.history import Fault
from tests.simulation.machine import Machine, Served
from tests.simulation.scenario import ZONES

if TYPE_CHECKING:
    from tests.simulation.copies import Copy
    from tests.simulation.world import World

__all__ = ["Faults"]

MOST_AT_ONCE = 4
LEASE_SECONDS = 6.0
CLOCK_STEPS = (-3600.0, -60.0, -4.0, 4.0, 60.0, 3600.0)
MAX_DRIFT = 1e-3
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 15.0
STUTTERS = 40
SLOW_START_SECONDS = 20.0
AMBUSH_SECONDS = 30.0
CALLBACKS_MEAN = (3, 10, 50, 200)
CALM_RESTARTS = 0.5
"""The share of restarts that no other crash comes into."""


class Faults:
    """Begins faults at random; a node or copy is hit by one fault of a kind at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random: Random = world.stream("faults")
        self._ambushes = Ambushes(world.history, world.machines)
        self._copies = CopyFaults(world, self._random, self._last)
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Begin one fault after the other until cancelled."""
        kinds = self._kinds()
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self._world.scenario.fault_every_seconds))
            [kind] = self._random.choices(list(kinds), weights=list(kinds.values()))
            fault = kind()
            if len(self._under_way) >= MOST_AT_ONCE:
                fault.close()
                continue
            task = asyncio.create_task(fault)
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def end(self) -> None:
        """Mend everything at once, and start every node that is down."""
        under_way = sorted(self._under_way, key=hash)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for machine in self._world.machines:
            machine.clock.set(0.0)
            while machine.is_stopping:
                await asyncio.sleep(LOOK_SECONDS)
            if machine.is_relabelled:
                await machine.stop()
                machine.relabel(machine.zone)
            machine.boot()

    def _kinds(self) -> dict[Callable[[], Coroutine[Any, Any, None]], int]:
        return {
            self._crash: 6,
            self._crash_at_an_await: 12,
            self._crash_leader: 4,
            self._crash_all: 1,
            self._power_cut: 2,
            self._clean_stop: 2,
            self._pause: 6,
            self._stutter: 3,
            self._cut_nodes: 4,
            self._cut_store: 4,
            self._cut_objects: 2,
            self._lossy_network: 3,
            self._lossy_store: 4,
            self._slow_store: 3,
            self._stale_listings: 3,
            self._freeze_seen_late: 2,
            self._broken_feeds: 3,
            self._copy_down: 4,
            self._copy_hung: 3,
            self._copy_isolated: 5,
            self._copies.unsure_claims: 4,
            self._copies.contested_claims: 6,
            self._copies.missed_end: 4,
            self._two_copies_down: 1,
            self._clock_step: 3,
            self._disk_full: 2,
            self._slow_keeper: 2,
        }

    def _machine(self) -> Machine:
        return self._random.choice(self._world.machines)

    def _copy(self) -> Copy:
        return self._random.choice(self._world.cluster.copies)

    def _seconds(self, mean: float) -> float:
        return self._random.uniform(0.1, 1.0) * self._random.expovariate(1 / mean) + 0.2

    async def _last(self, seconds: float, what: str, *where: str) -> None:
        """Note a fault that is in force now, and wait until it is over."""
        now = self._world.loop.time()
        self._world.history.add(Fault(now, now + seconds, what, where))
        await asyncio.sleep(seconds)

    # Nodes.

    async def _crash(self) -> None:
        machine = self._machine()
        machine.crash()
        try:
            await self._last(self._seconds(10), "crash", machine.node_id)
        finally:
            machine.boot()

    async def _crash_at_an_await(self) -> None:
        """At or soon after a step of an attempt, and often again while the node comes up."""
        step = self._random.choice(list(Step))
        machine = await self._is_caught(self._ambushes.lay(step, self._callbacks()))
        while machine is not None:
            try:
                await self._last(self._seconds(6), "crash", machine.node_id)
            finally:
                machine.boot()
            if self._random.random() < CALM_RESTARTS:
                return
            caught = asyncio.get_running_loop().create_future()
            machine.crash_after(self._callbacks(), caught)
            machine = await self._is_caught(caught)

    def _callbacks(self) -> int:
        """How many callbacks pass before a crash: mostly few, for what matters is close to the step."""
        return int(self._random.expovariate(1 / self._random.choice(CALLBACKS_MEAN)))

    @staticmethod
    async def _is_caught(caught: asyncio.Future[Machine]) -> Machine | None:
        """The machine whose node was killed; None when that takes too long."""
        try:
            async with asyncio.timeout(AMBUSH_SECONDS):
                return await caught
        except TimeoutError:
            return None

    async def _crash_leader(self) -> None:
        """While offers are under way, some of which arrive only when there is another leader."""
        leading = [machine for machine in self._world.machines if machine.leads]
        if not leading:
            return
        network = self._world.network
        network.repeated = 1.0
        try:
            await self._last(self._seconds(10), "lossy network")
            leading[0].crash()
            await self._last(2 * LEASE_SECONDS, "crash", leading[0].node_id)
        finally:
            network.repeated = 0.0
            leading[0].boot()

    async def _crash_all(self) -> None:
        machines = self._world.machines
        for machine in machines:
            machine.crash()
        try:
            await self._last(self._seconds(10), "crash", *(machine.node_id for machine in machines))
        finally:
            for machine in machines:
                machine.boot()

    async def _power_cut(self) -> None:
        machine = self._machine()
        machine.lose_power()
        try:
            await self._last(self._seconds(20), "power cut", machine.node_id)
        finally:
            machine.boot()

    async def _clean_stop(self) -> None:
        machine = self._machine()
        if machine.is_paused:
            return
        await machine.stop()
        machine.relabel(self._random.choice(ZONES))
        try:
            await self._last(self._seconds(5), "clean stop", machine.node_id)
        finally:
            machine.boot()

    async def _pause(self) -> None:
        """SIGSTOP, often for about as long as leases and claims allow."""
        machine = self._machine()
        machine.pause()
        try:
            await self._last(self._seconds(2 * LEASE_SECONDS), "pause", machine.node_id)
        finally:
            machine.resume()

    async def _stutter(self) -> None:
        machine = self._machine()
        for _ in range(STUTTERS):
            machine.pause()
            try:
                await self._last(self._random.uniform(0.05, 1.0), "pause", machine.node_id)
            finally:
                machine.resume()
            await asyncio.sleep(self._random.uniform(0.01, 0.3))

    async def _clock_step(self) -> None:
        machine = self._machine()
        machine.clock.set(self._random.choice(CLOCK_STEPS), self._random.uniform(-MAX_DRIFT, MAX_DRIFT))
        try:
            await self._last(self._seconds(60), "clock", machine.node_id)
        finally:
            machine.clock.set(0.0)

    async def _disk_full(self) -> None:
        machine = self._machine()
        machine.keeper.disk_full = True
        try:
            await self._last(self._seconds(15), "disk full", machine.node_id)
        finally:
            machine.keeper.disk_full = False

    async def _slow_keeper(self) -> None:
        """Starts take longer than a claim stays good, and the node is restarted meanwhile."""
        machine = self._machine()
        machine.keeper.slow_seconds = SLOW_START_SECONDS
        try:
            await self._last(self._seconds(20), "slow keeper", machine.node_id)
            machine.crash()
            await self._last(self._random.uniform(0.1, 2.0), "crash", machine.node_id)
        finally:
            machine.keeper.slow_seconds = 0.0
            machine.boot()

    # Connections.

    async def _cut_nodes(self) -> None:
        """Nothing passes between one node and some others, in one direction or both."""
        network = self._world.network
        one, *others = self._random.sample(
            self._world.machines, self._random.randint(2, len(self._world.machines))
        )
        ways = self._random.choice(((1, 0), (0, 1), (1, 1)))
        cuts = set()
        for other in others:
            cuts |= {(one.node_id, other.node_id)} if ways[0] else set()
            cuts |= {(other.node_id, one.node_id)} if ways[1] else set()
        network.cuts |= cuts
        try:
            await self._last(self._seconds(15), "cut", one.node_id, *(each.node_id for each in others))
        finally:
            network.cuts -= cuts

    async def _cut_store(self) -> None:
        machine = self._machine()
        sends, receives = self._random.choice(((False, True), (True, False), (False, False)))
        machine.to_store.cut(sends=sends, receives=receives)
        try:
            await self._last(self._seconds(12), "store cut", machine.node_id)
        finally:
            machine.to_store.mend()

    async def _cut_objects(self) -> None:
        machines = self._random.choice((self._world.machines, [self._machine()]))
        sends = self._random.random() < 0.5
        for machine in machines:
            machine.to_objects.cut(sends=sends, receives=False)
        try:
            await self._last(self._seconds(20), "objects cut", *(each.node_id for each in machines))
        finally:
            for machine in machines:
                machine.to_objects.mend()

    async def _lossy_network(self) -> None:
        network = self._world.network
        network.lost, network.repeated = self._random.uniform(0, 0.4), self._random.uniform(0, 0.4)
        network.slow_seconds = self._random.choice((0.0, 0.5, 3.0))
        try:
            await self._last(self._seconds(20), "lossy network")
        finally:
            network.lost = network.repeated = network.slow_seconds = 0.0

    # The document store.

    async def _lossy_store(self) -> None:
        weather = self._world.weather
        weather.lost_requests = self._random.uniform(0, 0.2)
        weather.lost_answers = self._random.uniform(0, 0.3)
        try:
            await self._last(self._seconds(20), "lossy store")
        finally:
            weather.lost_requests = weather.lost_answers = 0.0

    async def _slow_store(self) -> None:
        cluster = self._world.cluster
        cluster.slow_seconds = self._random.choice((0.05, 0.5, 2.0))
        try:
            await self._last(self._seconds(15), "slow store")
        finally:
            cluster.slow_seconds = 0.0

    async def _stale_listings(self) -> None:
        self._world.weather.stale_seconds = self._random.uniform(0, 10.0)
        try:
            await self._last(self._seconds(30), "stale listings")
        finally:
            self._world.weather.stale_seconds = 0.0

    async def _freeze_seen_late(self) -> None:
        """The cluster is frozen and thawed while listings show what was seconds ago."""
        self._world.weather.stale_seconds = self._random.uniform(5.0, 15.0)
        stale = asyncio.create_task(self._last(self._random.uniform(15.0, 40.0), "stale listings"))
        try:
            await self._tell_somebody(lambda served: served.cluster.freeze())
            await asyncio.sleep(self._random.uniform(0.5, 10.0))
            await self._tell_somebody(lambda served: served.cluster.thaw())
            await stale
        finally:
            stale.cancel()
            self._world.weather.stale_seconds = 0.0

    async def _tell_somebody(self, act: Callable[[Served], Coroutine[Any, Any, Any]]) -> None:
        served = self._machine().served
        if served is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await served.call(act)

    async def _broken_feeds(self) -> None:
        weather = self._world.weather
        weather.late_feed_seconds = self._random.uniform(0, 10.0)
        weather.broken_feeds = self._random.uniform(0, 0.5)
        try:
            await self._last(self._seconds(30), "broken feeds")
        finally:
            weather.late_feed_seconds = weather.broken_feeds = 0.0

    async def _copy_down(self) -> None:
        await self._take_down(self._copy())

    async def _two_copies_down(self) -> None:
        await self._take_down(*self._random.sample(self._world.cluster.copies, 2))

    async def _take_down(self, *copies: Copy) -> None:
        for copy in copies:
            copy.up = False
        try:
            await self._last(self._seconds(12), "copy down", *(copy.name for copy in copies))
        finally:
            for copy in copies:
                copy.up = True

    async def _copy_hung(self) -> None:
        copy = self._copy()
        copy.hung = True
        try:
            await self._last(self._seconds(8), "copy hung", copy.name)
        finally:
            copy.hung = False

    async def _copy_isolated(self) -> None:
        """A copy that nodes reach and other copies do not: it answers with 202 and with what is old."""
        copy = self._copy()
        self._world.cluster.isolated.add(copy.name)
        try:
            await self._last(self._seconds(12), "copy isolated", copy.name)
        finally:
            self._world.cluster.isolated.discard(copy.name)
