"""Kills nodes at awaits: so many callbacks of a node after a step that an attempt takes there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum

from dcron.ports import JOBS
from tests.simulation.history import Ended, Event, History, OfferReached, Started, Stored, Written
from tests.simulation.machine import Machine

__all__ = ["Ambushes", "Step"]


class Step(Enum):
    """Where a node is with an attempt, as far as that can be seen from outside."""

    INTENDED = "intended"
    """A leader's write of a job document was answered; its own catalogue's, too."""
    OFFERED = "offered"
    CLAIMED = "claimed"
    """The claim is on a first copy of the store."""
    ANSWERED = "answered"
    """The store has answered a write of claims or outcomes."""
    STARTED = "started"
    ENDED = "ended"
    RECORDED = "recorded"
    """The outcome is on a first copy of the store."""
    TERM_TAKEN = "term taken"


class Ambushes:
    """Waits for steps; each ambush is for whichever node takes the step next."""

    def __init__(self, history: History, machines: Sequence[Machine]) -> None:
        self._machines = {machine.node_id: machine for machine in machines}
        self._laid: list[tuple[Step, int, asyncio.Future[Machine]]] = []
        history.watchers.append(self._look)

    def lay(self, step: Step, callbacks: int) -> asyncio.Future[Machine]:
        """Have the next node that takes a step killed after so many of its callbacks; cancel the future to
        call it off."""
        caught: asyncio.Future[Machine] = asyncio.get_running_loop().create_future()
        self._laid.append((step, callbacks, caught))
        return caught

    def _look(self, event: Event) -> None:
        if not self._laid:
            return
        taken = _step_of(event)
        if taken is None:
            return
        step, node = taken
        for ambush in [each for each in self._laid if each[0] is step]:
            self._laid.remove(ambush)
            if not ambush[2].done():
                self._machines[node].crash_after(ambush[1], ambush[2])


def _step_of(event: Event) -> tuple[Step, str] | None:
    """The step that an event shows, and the node that took it."""
    if isinstance(event, OfferReached):
        return Step.OFFERED, event.node
    if isinstance(event, Started):
        return Step.STARTED, event.node
    if isinstance(event, Ended):
        return Step.ENDED, event.node
    if isinstance(event, Written):
        if event.database.startswith("executions-"):
            return Step.ANSWERED, event.node
        return (Step.INTENDED, event.node) if event.database == JOBS else None
    if isinstance(event, Stored):
        return _stored_step(event)
    return None


def _stored_step(event: Stored) -> tuple[Step, str] | None:
    kinds = {"claim": Step.CLAIMED, "outcome": Step.RECORDED, "term": Step.TERM_TAKEN}
    step = kinds.get(event.body.get("kind", ""))
    return (step, event.body["node"]) if step is not None else None
