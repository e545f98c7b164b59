"""`python -m tests.simulation.mutants [NAME...]`: shows that the simulation finds deliberate bugs.

Each mutant breaks one thing in the product; it counts as caught when one of the checkers that are to
find it does so within the first MOST_SEEDS seeds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.simulation.__main__ import HASH_SEED

MOST_SEEDS = 100


def main(names: list[str]) -> int:
    """The exit code: 0 when every mutant is caught."""
    from tests.simulation.mutants import claims, leader, recording, schedule

    mutants = claims.MUTANTS | leader.MUTANTS | schedule.MUTANTS | recording.MUTANTS
    chosen = {mutant: by for mutant, by in mutants.items() if not names or mutant.__name__ in names}
    survived = [mutant.__name__ for mutant, by in chosen.items() if not _is_caught(mutant, by)]
    print(f"{len(chosen)} mutants, {len(survived)} survived: {', '.join(survived) or 'none'}")
    return 1 if survived else 0


def _is_caught(mutant: Callable[[], AbstractContextManager[Any]], by: str) -> bool:
    """Whether one of the checkers named by their letters finds it."""
    from tests.simulation.judge import violations
    from tests.simulation.scenario import scenario_of
    from tests.simulation.world import simulate

    for seed in range(1, MOST_SEEDS + 1):
        with mutant():
            wrong = [line for line in violations(simulate(scenario_of(seed))) if line[1] in by]
        if wrong:
            print(f"caught   {mutant.__name__} by seed {seed}: {wrong[0]}", flush=True)
            return True
    print(f"SURVIVED {mutant.__name__}: {MOST_SEEDS} seeds", flush=True)
    return False


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation.mutants", *sys.argv[1:]])  # noqa: S606
    sys.exit(main(sys.argv[1:]))
