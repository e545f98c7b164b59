"""What one seed is about: how many nodes, which jobs, how rough the weather."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from random import Random

from dcron.domain.model import Script, Specification
from tests.simulation.runner import FAILS, LONGEST_SECONDS

__all__ = ["SCRIPT", "SCRIPT_TEXT", "ZONES", "Scenario", "random_specification", "scenario_of"]

SCRIPT_TEXT = b"#!/bin/sh\nexit 0\n"
SCRIPT = Script(hashlib.sha256(SCRIPT_TEXT).hexdigest(), len(SCRIPT_TEXT), "script.sh")
SCHEDULES = ("*/5 * * * * *", "*/10 * * * * *", "*/15 * * * * *", "*/30 * * * * *", "* * * * *")
"""All of them plain steps, so that checkers can compute the calendar by themselves."""
ZONES = ("odd", "even")
"""Labels of the machines by turns; some jobs ask for one of them."""
CHAOS_SECONDS = 240.0
SETTLE_SECONDS = 90.0
"""How long the cluster goes on after the last fault before its jobs are paused."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One seed's circumstances."""

    seed: int
    nodes: int
    slots: int
    jobs: int
    clients: bool = True
    chaos_seconds: float = CHAOS_SECONDS
    settle_seconds: float = SETTLE_SECONDS
    specification: Specification | None = None
    """Of every job that the run begins with; None for random ones."""
    fault_every_seconds: float = 12.0
    ask_every_seconds: float = 6.0

    @property
    def launches_far_ahead(self) -> bool:
        """Whether jobs are launched as long ahead of their instants as if very many were due at them."""
        return self.seed % 2 == 0


def scenario_of(seed: int) -> Scenario:
    """The scenario of a seed."""
    random = Random(f"{seed}/scenario")
    return Scenario(
        seed,
        nodes=random.choice((2, 3, 3, 3, 4, 5)),
        slots=random.choice((1, 2, 4, 16)),
        jobs=random.randint(2, 5),
        fault_every_seconds=random.choice((5.0, 12.0, 30.0)),
        ask_every_seconds=random.choice((3.0, 8.0, 20.0)),
    )


def random_specification(random: Random) -> Specification:
    """A job that somebody could want."""
    timeout_seconds = random.choice((0.0, 0.0, 2.0, 5.0, 20.0, 60.0))
    return Specification(
        schedule=random.choice(SCHEDULES),
        script=SCRIPT,
        interpreter="sh",
        environment={
            LONGEST_SECONDS: random.choice(("0.5", "3", "30", "50")),
            FAILS: random.choice(("0", "0", "0.3")),
        },
        timeout_seconds=timeout_seconds,
        grace_seconds=random.choice((0.5, 3.0)),
        labels=random.choice(({}, {}, *({"zone": zone} for zone in ZONES))),
        max_attempts=random.choice((1, 2, 3)),
        failure_retries=random.choice((0, 0, 2)),
    )
