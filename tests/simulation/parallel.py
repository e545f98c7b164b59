"""Runs in several processes: what `make sim` and its relatives have in common."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

__all__ = ["add_jobs_option", "in_processes", "with_fixed_hashes"]

HASH_SEED = "0"

_Input = TypeVar("_Input")
_Result = TypeVar("_Result")


def with_fixed_hashes(module: str) -> None:
    """Start this program again with PYTHONHASHSEED, unless it has it: without, sets have another order in
    each process, and a seed would not mean the same everywhere."""
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])  # noqa: S606


def add_jobs_option(parser: argparse.ArgumentParser) -> None:
    """`--jobs`: as many processes as there are cores, unless told otherwise."""
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)"
    )


def in_processes(work: Callable[[_Input], _Result], inputs: Iterable[_Input], jobs: int) -> Iterator[_Result]:
    """The results in the order of the inputs, as they come; both have to be picklable."""
    if jobs == 1:
        yield from map(work, inputs)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        yield from pool.map(work, inputs)
