"""A dispatcher, the workers it knows, and what it reported."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from dcron.adapters.system_clock import SystemClock
from dcron.domain.placement import Candidate
from dcron.services.leader.dispatcher import Dispatcher
from dcron.services.leader.mandate import Leadership
from dcron.services.leader.tracker import Tracker
from dcron.services.shared.starts_first import StartsFirst
from tests.doubles import DoubtfulStore, FakeNodes, ManualClock


class Hearer(Tracker):
    """Writes down what it is told; nothing is followed."""

    def __init__(self, clock: SystemClock | ManualClock, scene: Scene) -> None:
        super().__init__(DoubtfulStore(), clock)
        self._scene = scene

    def accepted(self, execution_id: str, node_id: str) -> None:
        self._scene.accepted.append((execution_id, node_id))

    def doubt(self, execution_id: str) -> None:
        self._scene.doubtful.append(execution_id)


@dataclass
class Scene:
    """A dispatcher, the workers it knows, and what it reported."""

    nodes: FakeNodes
    workers: list[Candidate]
    accepted: list[tuple[str, str]] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    older_terms: int = 0
    leads: bool = True
    burst: StartsFirst = field(default_factory=StartsFirst)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def dispatcher(self, clock: SystemClock | ManualClock) -> Dispatcher:
        return Dispatcher(
            self.nodes,
            clock,
            self.burst,
            Leadership(3, "leader", lambda: self.leads, self.saw_older_term, lambda: True, {}),
            Hearer(clock, self),
            workers=lambda: self.workers,
            numbers=self.numbers,
        )

    def saw_older_term(self) -> None:
        self.older_terms += 1


@asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[Dispatcher]:
    task = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
