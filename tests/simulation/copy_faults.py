"""Faults that cut one copy of the store off from the others at a chosen moment of an attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.history import Event, Fault, Started

if TYPE_CHECKING:
    from tests.simulation.copies import Copy
    from tests.simulation.machine import Machine
    from tests.simulation.world import World

__all__ = ["CopyFaults"]

FLAPS = 8
STOPPED = 0.6
"""The share of workers that are stopped, not only unheard."""
START_SECONDS = 30.0
"""How long a start is waited for."""
CLAIM_SECONDS = 0.5
"""After which the leader has read the claim of a script that was started."""
LONGEST_TIMEOUT_SECONDS = 20.0
SILENCE_SECONDS = 10.0
"""After timeout and grace a leader asks where an outcome is."""
ALONE_SECONDS = (1.5, 5.0)
"""How long before that question a copy answers alone, and how long altogether: less than a leader leads on
without a plain success."""


class CopyFaults:
    """`last` notes a fault that is in force, and waits until it is over."""

    def __init__(self, world: World, random: Random, last: Callable[..., Awaitable[None]]) -> None:
        self._world = world
        self._random = random
        self._last = last

    async def unsure_claims(self) -> None:
        """A copy loses the others and finds them again, many times, while offers are repeated: claims that
        got 202 come to stand beside claims of the same attempt that were won."""
        copy, network, isolated = (
            self._random.choice(self._world.cluster.copies),
            self._world.network,
            self._world.cluster.isolated,
        )
        network.repeated = 1.0
        try:
            for _ in range(FLAPS):
                isolated.add(copy.name)
                await self._last(self._random.uniform(0.2, 4.0), "copy isolated", copy.name)
                isolated.discard(copy.name)
                await self._last(self._random.uniform(0.1, 3.0), "copy isolated", copy.name)
        finally:
            network.repeated = 0.0
            isolated.discard(copy.name)

    async def contested_claims(self) -> None:
        """A worker is not heard, so that another gets its attempt, while a copy is apart from the others:
        where the second claim is made, the first may be unknown. The copy is back before the worker."""
        worker = self._random.choice(self._world.machines)
        copy = self._copy_beside(worker)
        stopped = self._random.random() < STOPPED
        cuts = {(worker.node_id, each.node_id) for each in self._world.machines if each is not worker}
        seconds = self._random.uniform(5.0, 14.0)
        self._world.cluster.isolated.add(copy.name)
        if stopped:
            worker.pause()
        else:
            self._world.network.cuts |= cuts
        try:
            await self._last(seconds, "copy isolated", copy.name, worker.node_id)
            self._world.cluster.isolated.discard(copy.name)
            await self._last(self._random.uniform(0.0, 4.0), "cut", worker.node_id)
        finally:
            self._world.cluster.isolated.discard(copy.name)
            self._world.network.cuts -= cuts
            if stopped:
                worker.resume()

    def _copy_beside(self, worker: Machine) -> Copy:
        """A copy that neither a worker nor the leader asks first."""
        copies = self._world.cluster.copies
        asked = {each.number % len(copies) for each in self._world.machines if each is worker or each.leads}
        beside = [copy for number, copy in enumerate(copies) if number not in asked]
        return self._random.choice(beside or copies)

    async def missed_end(self) -> None:
        """A copy is down when an outcome is stored. It is back, but apart from the others, when the leader
        finds that attempt silent: leader and worker both ask it first, and it answers alone."""
        started = await self._next_start()
        if started is None:
            return
        world = self._world
        copy = self._favourite(world.network.machines[started.node])
        limit_seconds = started.timeout_seconds + started.grace_seconds + SILENCE_SECONDS
        alone_at = started.at + limit_seconds - ALONE_SECONDS[0]
        await asyncio.sleep(CLAIM_SECONDS)
        copy.up, world.weather.broken_feeds = False, 1.0
        now = world.loop.time()
        world.history.add(Fault(now, alone_at + ALONE_SECONDS[1], "broken feeds", ()))
        try:
            await self._last(max(alone_at - now, 0.0), "copy down", copy.name)
            world.cluster.isolated.add(copy.name)
            copy.up = True
            await self._last(ALONE_SECONDS[1], "copy isolated", copy.name)
        finally:
            copy.up, world.weather.broken_feeds = True, 0.0
            world.cluster.isolated.discard(copy.name)

    def _favourite(self, machine: Machine) -> Copy:
        """The copy that a machine asks while it can."""
        return self._world.cluster.copies[machine.number % len(self._world.cluster.copies)]

    async def _next_start(self) -> Started | None:
        """The next start of a script that is soon to end, on a machine that asks the same copy first as the
        leader does; None when that takes too long."""
        started: asyncio.Future[Started] = asyncio.get_running_loop().create_future()

        def look(event: Event) -> None:
            if isinstance(event, Started) and not started.done() and self._is_soon_missed(event):
                started.set_result(event)

        self._world.history.watchers.append(look)
        try:
            async with asyncio.timeout(START_SECONDS):
                return await started
        except TimeoutError:
            return None
        finally:
            self._world.history.watchers.remove(look)

    def _is_soon_missed(self, event: Started) -> bool:
        worker = self._world.network.machines[event.node]
        asked = {self._favourite(machine).name for machine in self._world.machines if machine.leads}
        return 0.0 < event.timeout_seconds <= LONGEST_TIMEOUT_SECONDS and asked == {
            self._favourite(worker).name
        }
