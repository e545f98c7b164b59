"""One worker with two slots on a simulated machine, as its tests use it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dcron.domain.model import State
from dcron.domain.offers import OfferedAttempt, OfferResult
from dcron.services.worker import executor
from tests.service_doubles import ATTEMPT, Machine, WorkerNode, World, new_world


class Scene:
    def __init__(self, folder: Path) -> None:
        self.world: World = new_world()
        self.machine = Machine()
        self._folder = folder
        self.node = self.new_node()
        self.offers = 0

    def new_node(self) -> WorkerNode:
        return WorkerNode(self.world, self._folder, self.machine, slots=2)

    async def restart(self) -> None:
        """Drop the daemon, let the time for a start pass, and build another one on the same spool."""
        await self.node.crash()
        self.node = self.new_node()
        self.node.start()
        recovering = asyncio.create_task(self.node.recover())
        while not recovering.done():
            self.world.clock.pass_seconds(executor.CLAIM_TO_START_SECONDS + 1)
            await asyncio.sleep(0.001)
        await recovering

    async def offer(
        self, *attempts: OfferedAttempt, term: int = 1, number: int | None = None
    ) -> list[OfferResult]:
        self.offers += 1
        answers = await self.node.worker.offer("a", term, number or self.offers, "leader", attempts)
        return [answer.result for answer in answers]

    def is_idle(self) -> bool:
        node = self.node
        return not len(node.executor) and not node.worker._deciding and not len(node.outbox)

    async def states(self) -> list[State]:
        return [outcome.state for outcome in (await self.world.store.outcomes()).values()]


async def hold_up(scene: Scene) -> tuple[asyncio.Event, asyncio.Event]:
    """Have the next claim wait in the middle: (it is under way, let it go on)."""
    under_way, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        under_way.set()
        await go_on.wait()

    scene.world.store.faults[ATTEMPT.execution_id] = [wait]
    return under_way, go_on
