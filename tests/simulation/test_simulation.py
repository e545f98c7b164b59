"""The simulation as a test: some seeds are clean, and a seed means the same in every process.

Each run is a process of its own, for the order of sets depends on PYTHONHASHSEED; so where all tests run in
parallel, this file is spread over the processes (tests/conftest.py).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutants.__main__ import mutants

FIRST_SEED_VARIABLE = "DCRON_TEST_FIRST_SEED"
FIRST_SEED = int(os.environ.get(FIRST_SEED_VARIABLE) or "1")
"""CI names another one for each commit, so that it tries seeds that nobody has tried."""
SEEDS = 200
CHUNK = 10
"""Seeds in one test: some five seconds, so that the processes of a parallel run end together."""
STORMS = 8
CRASH_STRIDE = 11
"""Kills a node at each so many-th await of an occurrence: some 50 crashes, in CI others for each commit."""
ROOT = Path(__file__).parents[2]


def _run(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # Nicely: tests that run beside these may be about time.
        ["nice", sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _chunk_name(first: int) -> str:
    return f"seeds {first}-{first + CHUNK - 1}"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, CHUNK), ids=_chunk_name)
def test_no_promise_is_broken(first):
    run = _run("tests.simulation", "--first", str(first), "--seeds", str(CHUNK), "--jobs", "1")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.timeout(400)
def test_a_crash_at_any_await_breaks_no_promise():
    first = (FIRST_SEED - 1) % CRASH_STRIDE
    run = _run(
        "tests.simulation.crashes", "--stride", str(CRASH_STRIDE), "--first", str(first), "--jobs", "1"
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.timeout(400)
def test_a_storm_of_leaders_holds_up_no_attempt():
    run = _run("tests.simulation.storms", "--first", str(FIRST_SEED), "--seeds", str(STORMS), "--jobs", "1")
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_seed_gives_the_same_history_in_every_process():
    outputs = [_run("tests.simulation", "--seed", "3", PYTHONHASHSEED=number).stdout for number in "01"]
    digests = [re.findall(r"history ([0-9a-f]{64})", output) for output in outputs]
    assert digests[0] and digests[0] == digests[1]


@pytest.mark.parametrize("name", sorted(mutants()))
def test_a_deliberate_bug_can_be_put_in(name):
    mutant, checkers = mutants()[name]
    assert checkers
    with mutant():
        pass


def test_a_deliberate_bug_is_found_and_the_command_that_repeats_a_failure_is_named():
    caught = _run("tests.simulation.mutants", "claim_after_start")
    assert caught.returncode == 0 and "by seed" in caught.stdout, caught.stdout + caught.stderr
