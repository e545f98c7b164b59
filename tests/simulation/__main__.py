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
    last = options.first + options.seeds
    seeds = range(options.first, last) if options.seed is None else [options.seed]
    began_at = time.monotonic()
    failed = 0
    for seed in seeds:
        wrong = _run(seed, options)
        if wrong:
            failed += 1
            repeat = f"make sim SEED={seed}  (or: python -m tests.simulation --seed {seed} --verbose)"
            print(f"seed {seed}:", *wrong, f"repeat it: {repeat}", sep="\n  ", flush=True)
    print(f"{len(seeds)} seeds, {failed} failed, {time.monotonic() - began_at:.1f} s", flush=True)
    return 1 if failed else 0


def _run(seed: int, options: argparse.Namespace) -> list[str]:
    """What is wrong with one seed."""
    from tests.simulation.judge import violations
    from tests.simulation.scenario import scenario_of
    from tests.simulation.told import told
    from tests.simulation.world import simulate

    try:
        history = simulate(scenario_of(seed), verbose=options.verbose)
    except Exception as error:  # noqa: BLE001 - it fails the seed, and the others are run all the same
        return [f"the run did not come to its end: {told(error)}"]
    if options.history:
        print("\n".join(history.lines()))
    if options.seed is not None:
        print(f"history {history.digest()}")
    return violations(history)


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
