"""`python -m tests.simulation.crashes`: a node of a small cluster is killed at each await of one occurrence.

Nothing else goes wrong. A run without a crash counts the callbacks of the node, from the first step of the
occurrence until it is settled; then there is a run for each number in which the node is killed after so many.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dcron.domain.job_documents import job_of
from dcron.domain.model import Specification
from dcron.ports import JOBS
from tests.simulation.ambush import Ambushes, Step
from tests.simulation.history import Event, Fault, OfferReached, Stored
from tests.simulation.parallel import add_jobs_option, in_processes, with_fixed_hashes
from tests.simulation.runner import LONGEST_SECONDS
from tests.simulation.scenario import SCRIPT, Scenario

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import World

DUE_AT = 60.0
"""The virtual second of the occurrence: the first minute after the job is registered."""
BEFORE_SECONDS = 0.01
AFTER_SETTLEMENT = 20
"""Callbacks after the settlement at which the node is still killed."""
ROLES = ("leader", "worker")
DOWN_SECONDS = {"quick": 0.5, "long": 30.0}
"""Back before anybody notices; and away for longer than the lease, and than the timeout and its silence."""
TIMEOUT_SECONDS = {"timeout": 5.0, "unlimited": 0.0}


@dataclass(frozen=True, slots=True)
class Case:
    """Which node is killed after how many callbacks, for how long, and what its job's timeout is."""

    role: str
    down: str
    timeout: str
    callbacks: int

    def __str__(self) -> str:
        return f"{self.role}:{self.down}:{self.timeout}:{self.callbacks}"

    def scenario(self) -> Scenario:
        """A job due once a minute, on three nodes."""
        specification = Specification(
            schedule="* * * * *",
            script=SCRIPT,
            interpreter="sh",
            environment={LONGEST_SECONDS: "0.5"},
            timeout_seconds=TIMEOUT_SECONDS[self.timeout],
            grace_seconds=0.5,
            max_attempts=3,
        )
        return Scenario(
            1,
            nodes=3,
            slots=2,
            jobs=1,
            clients=False,
            chaos_seconds=90.0,
            settle_seconds=45.0,
            specification=specification,
        )


class OneCrash:
    """Stands where `Faults` does."""

    def __init__(self, case: Case, world: World) -> None:
        self._case = case
        self._world = world
        self._ambushes = Ambushes(world.history, world.machines)

    async def run(self) -> None:
        """Kill the node at its await, and start it again later."""
        loop = self._world.loop
        await asyncio.sleep(DUE_AT - BEFORE_SECONDS - loop.time())
        if self._case.role == "leader":
            caught: asyncio.Future[Machine] = loop.create_future()
            _leader(self._world).crash_after(self._case.callbacks, caught)
        else:
            caught = self._ambushes.lay(Step.OFFERED, self._case.callbacks)
        machine = await caught
        now, seconds = loop.time(), DOWN_SECONDS[self._case.down]
        self._world.history.add(Fault(now, now + seconds, "crash", (machine.node_id,)))
        await asyncio.sleep(seconds)
        machine.boot()

    async def end(self) -> None:
        """Have all nodes up."""
        for machine in self._world.machines:
            machine.boot()


class Counting:
    """Stands where `Faults` does, and counts instead. `callbacks` is None until the attempt is settled."""

    def __init__(self, case: Case, world: World) -> None:
        self._case = case
        self._world = world
        self._machine: Machine | None = None
        self._before = 0
        self.callbacks: int | None = None
        world.history.watchers.append(self._look)

    async def run(self) -> None:
        """Begin with the leader at the due instant; with a worker, its offer is awaited."""
        await asyncio.sleep(DUE_AT - BEFORE_SECONDS - self._world.loop.time())
        if self._case.role == "leader":
            self._begin(_leader(self._world))

    async def end(self) -> None:
        """Nothing is to be mended."""

    def _begin(self, machine: Machine) -> None:
        self._machine, self._before = machine, machine.callbacks

    def _look(self, event: Event) -> None:
        if self._case.role == "worker" and self._machine is None and isinstance(event, OfferReached):
            self._begin(self._world.network.machines[event.node])
        if self._machine is not None and self.callbacks is None and _is_settlement(event):
            self.callbacks = self._machine.callbacks - self._before


def _leader(world: World) -> Machine:
    [leader] = [machine for machine in world.machines if machine.leads]
    return leader


def _is_settlement(event: Event) -> bool:
    return (
        isinstance(event, Stored)
        and event.database == JOBS
        and not event.id.startswith("~")
        and job_of(event.id, event.body).place.last is not None
    )


def main(arguments: list[str]) -> int:
    """The exit code: 0 when no crash breaks a promise."""
    options = _options(arguments)
    began_at = time.monotonic()
    cases = [_case_of(options.case)] if options.case else _cases(options)
    run = partial(_run, verbose=options.verbose)
    failed = 0
    for case, wrong in zip(cases, in_processes(run, cases, options.jobs), strict=True):
        if wrong:
            failed += 1
            print(f"{case}:", *wrong, f"repeat it: make sim-crashes CASE={case}", sep="\n  ", flush=True)
    print(f"{len(cases)} crashes, {failed} failed, {time.monotonic() - began_at:.1f} s", flush=True)
    return 1 if failed else 0


def _cases(options: argparse.Namespace) -> list[Case]:
    """Every `stride`-th await from the first one asked for, in all circumstances."""
    circumstances = list(itertools.product(ROLES, DOWN_SECONDS, TIMEOUT_SECONDS))
    windows = in_processes(_window, circumstances, options.jobs)
    return [
        Case(*each, callbacks)
        for each, window in zip(circumstances, windows, strict=True)
        for callbacks in range(options.first, window, options.stride)
    ]


def _window(circumstances: tuple[str, str, str]) -> int:
    """How many callbacks of a node lie in the window in which it is to be killed."""
    from tests.simulation.world import simulate

    case = Case(*circumstances, callbacks=0)
    counting: list[Counting] = []

    def count(world: World) -> Counting:
        counting.append(Counting(case, world))
        return counting[0]

    simulate(case.scenario(), faults=count)
    counted = counting[0].callbacks
    if counted is None:
        raise RuntimeError(f"without a crash, the occurrence of {case} was not settled")
    return counted + AFTER_SETTLEMENT


def _run(case: Case, *, verbose: bool) -> list[str]:
    """What is wrong with one case."""
    from tests.simulation.judge import violations
    from tests.simulation.told import told
    from tests.simulation.world import simulate

    try:
        history = simulate(case.scenario(), verbose=verbose, faults=partial(OneCrash, case))
    except Exception as error:  # noqa: BLE001 - it fails the case, and the others are run all the same
        return [f"the run did not come to its end: {told(error)}"]
    return violations(history) if history.of(Fault) else ["nothing was killed"]


def _case_of(text: str) -> Case:
    role, down, timeout, callbacks = text.split(":")
    return Case(role, down, timeout, int(callbacks))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.crashes", description=__doc__)
    parser.add_argument("--case", help="run this one alone, as a failure names it")
    parser.add_argument("--stride", type=int, default=1, help="kill at every n-th await only")
    parser.add_argument("--first", type=int, default=0, help="the first await to kill at")
    add_jobs_option(parser)
    parser.add_argument("--verbose", action="store_true", help="with --case: the nodes' logs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    with_fixed_hashes("tests.simulation.crashes")
    sys.exit(main(sys.argv[1:]))
