"""`python -m tests.simulation --seed N` or `--seeds N`: run seeds, and tell what breaks a promise.

Sets have another order in each process unless PYTHONHASHSEED says otherwise; so this starts itself again
with one, and a seed means the same everywhere.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

HASH_SEED = "0"
DEFAULT_SEEDS = 40


def main(arguments: list[str]) -> int:
    """The exit code: 0 when all seeds are clean."""
    options = _options(arguments)
    from tests.simulation.judge import violations
    from tests.simulation.scenario import scenario_of
    from tests.simulation.world import simulate

    seeds = (
        [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    )
    began_at = time.monotonic()
    failed = 0
    for seed in seeds:
        history = simulate(scenario_of(seed), verbose=options.verbose)
        wrong = violations(history)
        if options.history:
            print("\n".join(history.lines()))
        if wrong:
            failed += 1
            print(f"seed {seed}:", *wrong, sep="\n  ", flush=True)
            print(
                f"  repeat it: make sim SEED={seed}  (or: python -m tests.simulation --seed {seed} --verbose)"
            )
    seconds = time.monotonic() - began_at
    print(f"{len(seeds)} seeds, {failed} failed, {seconds:.1f} s" + _digest(options, history), flush=True)
    return 1 if failed else 0


def _digest(options: argparse.Namespace, history: object) -> str:
    return f", history {history.digest()}" if options.seed is not None else ""


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed alone, and show the digest of its history")
    parser.add_argument("--seeds", type=int, default=DEFAULT_SEEDS, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--verbose", action="store_true", help="show the nodes' logs, with virtual times")
    parser.add_argument("--history", action="store_true", help="print every event")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])  # noqa: S606
    sys.exit(main(sys.argv[1:]))
