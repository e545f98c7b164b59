"""`python -m tests.simulation.storms`: leaders change every few seconds, workers die between claim and start.

Nothing else goes wrong: the store is well, the network too, and each node that is down is soon started again.
So what a worker claimed and never started can wait for nothing but the leaders.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Coroutine
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from dcron.domain.model import Specification
from tests.simulation.history import STORM, Event, Fault, Stored
from tests.simulation.parallel import add_jobs_option, in_processes, with_fixed_hashes
from tests.simulation.runner import LONGEST_SECONDS
from tests.simulation.scenario import SCRIPT, Scenario

if TYPE_CHECKING:
    from tests.simulation.history import History
    from tests.simulation.machine import Machine
    from tests.simulation.world import World

__all__ = ["Storm", "simulate_storm", "storm_of"]

DEFAULT_SEEDS = 20
STORM_SECONDS = 120.0
NODES = 5
LED_SECONDS = (3.0, 5.0)
"""For how long a leader is left alone, and by when it goes, if a claim of its own does not end it before."""
RESTART_SECONDS = (0.5, 3.0)
"""After which a node that was killed or stopped is started again, as by its service manager."""
ASLEEP_SECONDS = (7.0, 12.0)
"""How long a leader sleeps: for longer than its lease."""
CALM_SECONDS = (1.0, 6.0)
"""Between two workers that die."""
CALLBACKS_MEAN = (2, 8, 30)
"""How many callbacks of a node pass on average between its claim and its death."""
TIMEOUT_SECONDS = 5.0
"""Of jobs in storms in which the first worker that dies stays away: its silence has to be waited for."""
LOOK_SECONDS = 0.1


def storm_of(seed: int) -> Scenario:
    """A handful of jobs that run all the time; half of the seeds launch them far ahead of their instants."""
    random = Random(f"{seed}/storm")
    specification = Specification(
        schedule=random.choice(("*/5 * * * * *", "*/10 * * * * *")),
        script=SCRIPT,
        interpreter="sh",
        environment={LONGEST_SECONDS: "0.5"},
        timeout_seconds=random.choice((0.0, TIMEOUT_SECONDS, 60.0)),
        grace_seconds=0.5,
        max_attempts=3,
    )
    return Scenario(
        seed,
        nodes=NODES,
        slots=4,
        jobs=4,
        clients=False,
        chaos_seconds=STORM_SECONDS,
        settle_seconds=45.0,
        specification=specification,
    )


class Storm:
    """Stands where `Faults` does."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.stream("storm")
        self._led_since: dict[str, float] = {}
        self._doomed: set[str] = set()
        """Leaders whose time has come, until they are back."""
        self._next_death = 0.0
        specification = world.scenario.specification
        stays_away = specification is not None and specification.timeout_seconds == TIMEOUT_SECONDS
        self._away_seconds = (STORM_SECONDS, STORM_SECONDS) if stays_away else RESTART_SECONDS
        """Of the next worker that dies."""
        self._down: set[asyncio.Task[None]] = set()
        world.history.watchers.append(self._look)

    async def run(self) -> None:
        """End one leader after the other, until cancelled; workers die at their claims meanwhile."""
        now = self._world.loop.time()
        until = now + self._world.scenario.chaos_seconds
        self._world.history.add(Fault(now, until, STORM, ()))
        self._next_death = now + self._random.uniform(*CALM_SECONDS)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._note_leaders()
            for node_id, since in list(self._led_since.items()):
                if self._world.loop.time() - since > LED_SECONDS[0]:
                    self._doomed.add(node_id)
                    self._begin(self._depose(self._world.network.machines[node_id]))

    async def end(self) -> None:
        """Have all nodes up and awake."""
        self._next_death = float("inf")
        down = sorted(self._down, key=hash)
        for task in down:
            task.cancel()
        await asyncio.gather(*down, return_exceptions=True)
        for machine in self._world.machines:
            machine.resume()
            while machine.is_stopping:
                await asyncio.sleep(LOOK_SECONDS)
            machine.boot()

    def _note_leaders(self) -> None:
        now = self._world.loop.time()
        leading = {machine.node_id for machine in self._world.machines if machine.leads} - self._doomed
        self._led_since = {each: self._led_since.get(each, now) for each in sorted(leading)}

    def _begin(self, fault: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(fault)
        self._down.add(task)
        task.add_done_callback(self._down.discard)

    async def _depose(self, leader: Machine) -> None:
        """In one of three ways, at a random time."""
        await asyncio.sleep(self._random.uniform(0.0, LED_SECONDS[1] - LED_SECONDS[0]))
        way = self._random.choice((self._kill, self._stop, self._put_to_sleep))
        try:
            await way(leader)
        finally:
            self._doomed.discard(leader.node_id)

    async def _kill(self, machine: Machine) -> None:
        machine.crash()
        try:
            await self._last(RESTART_SECONDS, "crash", machine)
        finally:
            machine.boot()

    async def _stop(self, machine: Machine) -> None:
        await machine.stop()
        try:
            await self._last(RESTART_SECONDS, "clean stop", machine)
        finally:
            machine.boot()

    async def _put_to_sleep(self, machine: Machine) -> None:
        machine.pause()
        try:
            await self._last(ASLEEP_SECONDS, "pause", machine)
        finally:
            machine.resume()

    async def _last(self, seconds: tuple[float, float], what: str, machine: Machine) -> None:
        now = self._world.loop.time()
        until = now + self._random.uniform(*seconds)
        self._world.history.add(Fault(now, until, what, (machine.node_id,)))
        await asyncio.sleep(until - now)

    # Workers.

    def _look(self, event: Event) -> None:
        """Have a worker killed that has just claimed, but no leader that has hardly begun to lead."""
        if not isinstance(event, Stored) or event.body.get("kind") != "claim":
            return
        machine = self._world.network.machines[event.body["node"]]
        if not 0.0 < self._next_death <= event.at or (machine.leads and machine.node_id not in self._doomed):
            return
        self._next_death = event.at + self._random.uniform(*CALM_SECONDS)
        callbacks = int(self._random.expovariate(1 / self._random.choice(CALLBACKS_MEAN)))
        caught: asyncio.Future[Machine] = self._world.loop.create_future()
        machine.crash_after(callbacks, caught)
        self._begin(self._bring_back(caught, self._away_seconds))
        self._away_seconds = RESTART_SECONDS

    async def _bring_back(self, caught: asyncio.Future[Machine], seconds: tuple[float, float]) -> None:
        machine = await caught
        try:
            await self._last(seconds, "crash", machine)
        finally:
            machine.boot()


def simulate_storm(seed: int, *, verbose: bool = False) -> History:
    """Run the storm of a seed."""
    from tests.simulation.world import simulate

    return simulate(storm_of(seed), verbose=verbose, faults=Storm)


def main(arguments: list[str]) -> int:
    """The exit code: 0 when no storm breaks a promise."""
    options = _options(arguments)
    began_at = time.monotonic()
    first, count = (options.seed, 1) if options.seed is not None else (options.first, options.seeds)
    seeds = range(first, first + count)
    run = partial(_run, verbose=options.verbose)
    failed = 0
    for seed, wrong in zip(seeds, in_processes(run, seeds, options.jobs), strict=True):
        if wrong:
            failed += 1
            print(f"storm {seed}:", *wrong, f"repeat it: make sim-storms SEED={seed}", sep="\n  ", flush=True)
    print(f"{len(seeds)} storms, {failed} failed, {time.monotonic() - began_at:.1f} s", flush=True)
    return 1 if failed else 0


def _run(seed: int, *, verbose: bool) -> list[str]:
    """What is wrong with one storm."""
    from tests.simulation.judge import violations
    from tests.simulation.told import told

    try:
        history = simulate_storm(seed, verbose=verbose)
    except Exception as error:  # noqa: BLE001 - it fails the storm, and the others are run all the same
        return [f"the run did not come to its end: {told(error)}"]
    return violations(history)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.storms", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--seeds", type=int, default=DEFAULT_SEEDS, help="how many to run")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    add_jobs_option(parser)
    parser.add_argument("--verbose", action="store_true", help="with --seed: the nodes' logs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    with_fixed_hashes("tests.simulation.storms")
    sys.exit(main(sys.argv[1:]))
