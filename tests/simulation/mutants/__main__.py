"""`python -m tests.simulation.mutants [NAME...]`: shows that the simulation finds deliberate bugs.

Each mutant breaks one thing in the product; it counts as caught when one of the checkers that are to
find it does so within the first MOST_SEEDS seeds, or storms where only those can show it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.simulation.parallel import add_jobs_option, in_processes, with_fixed_hashes

MOST_SEEDS = 800
"""The rarest to be found, of those there are, shows itself in one of 700."""

IN_STORMS = "m"
"""Checkers that judge storms alone."""

Mutant = Callable[[], AbstractContextManager[Any]]


def main(arguments: list[str]) -> int:
    """The exit code: 0 when every mutant is caught."""
    known = mutants()
    options = _options(arguments)
    unknown = set(options.names) - known.keys()
    if unknown:
        print(f"no such mutant: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return 2
    survived = []
    chosen = options.names or list(known)
    for name, found in zip(chosen, in_processes(_first_finding, chosen, options.jobs), strict=True):
        print(f"caught   {name} by {found}" if found else f"SURVIVED {name}: {MOST_SEEDS} seeds", flush=True)
        if not found:
            survived.append(name)
    print(f"{len(chosen)} mutants, {len(survived)} survived: {', '.join(survived) or 'none'}")
    return 1 if survived else 0


def mutants() -> dict[str, tuple[Mutant, str]]:
    """Every mutant with the letters of the checkers that are to find it, by name."""
    from tests.simulation.mutants import claims, leader, recording, schedule, versions

    known = claims.MUTANTS | leader.MUTANTS | schedule.MUTANTS | recording.MUTANTS | versions.MUTANTS
    return {mutant.__name__: (mutant, by) for mutant, by in known.items()}


def _first_finding(name: str) -> str:
    """The first seed by which a mutant is caught, and how; empty when it is not."""
    from tests.simulation.judge import violations
    from tests.simulation.scenario import scenario_of
    from tests.simulation.storms import simulate_storm
    from tests.simulation.world import simulate

    mutant, by = mutants()[name]
    in_storms = by in IN_STORMS
    for seed in range(1, MOST_SEEDS + 1):
        with mutant():
            history = simulate_storm(seed) if in_storms else simulate(scenario_of(seed))
        wrong = [line for line in violations(history) if line[1] in by]
        if wrong:
            return f"{'storm' if in_storms else 'seed'} {seed}: {wrong[0]}"
    return ""


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="the mutants to try (default: all)")
    add_jobs_option(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    with_fixed_hashes("tests.simulation.mutants")
    sys.exit(main(sys.argv[1:]))
