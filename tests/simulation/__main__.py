"""`python -m tests.simulation --seed N` or `--seeds N`: run seeds, and tell what breaks a promise."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial

from tests.simulation.parallel import add_jobs_option, in_processes, with_fixed_hashes

DEFAULT_SEEDS = 200


def main(arguments: list[str]) -> int:
    """The exit code: 0 when all seeds are clean."""
    options = _options(arguments)
    run = partial(_run, options=options)
    if options.seed is not None:
        return _report([options.seed], map(run, [options.seed]))
    seeds = range(options.first, options.first + options.seeds)
    return _report(seeds, in_processes(run, seeds, options.jobs))


def _report(seeds: Sequence[int], results: Iterable[list[str]]) -> int:
    """Tell of each seed that failed as soon as it is known."""
    began_at = time.monotonic()
    failed = 0
    for seed, wrong in zip(seeds, results, strict=True):
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
    add_jobs_option(parser)
    parser.add_argument(
        "--verbose", action="store_true", help="with --seed: the nodes' logs, with virtual times"
    )
    parser.add_argument("--history", action="store_true", help="with --seed: every event")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    with_fixed_hashes("tests.simulation")
    sys.exit(main(sys.argv[1:]))
