"""How much is measured: BENCH=quick for the counts only, the default for figures, BENCH=full for promises."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from tests.bench.stores import KINDS, Kind, available_kinds

__all__ = ["Scale", "chosen_scale"]

VARIABLE = "BENCH"
STORES_VARIABLE = "BENCH_STORES"

_Choice = TypeVar("_Choice", bound=str)


@dataclass(frozen=True, slots=True)
class Scale:
    """Counts and lengths of all scenarios; by kind of document store where one stands less than another."""

    mode: str
    runs: int
    kinds: frozenset[Kind]
    """Document stores that are measured, as far as they are here; BENCH_STORES says otherwise."""
    due_jobs: int
    with_cron: bool
    """Debian's cron has a minute as its unit: each run waits for one."""
    dispatch_waves: int
    dispatch_jobs: Mapping[Kind, int]
    steady_rates: tuple[int, ...]
    steady_try_seconds: int
    """0: the last rate is held without looking for it."""
    steady_seconds: int
    stored_few: int
    stored_many: Mapping[Kind, int]
    idle_jobs: int
    idle_seconds: int
    created_jobs: int
    listed_jobs: int
    executions: Mapping[Kind, int]
    log_bytes: int
    commands: int
    failover_rounds: int


DEFAULT = Scale(
    mode="default",
    runs=3,
    kinds=frozenset(KINDS),
    due_jobs=1_000,
    with_cron=True,
    dispatch_waves=5,
    dispatch_jobs={"sqlite": 3_000, "pouchdb": 1_000, "couchdb": 3_000},
    steady_rates=(20, 50, 100, 150, 200, 260, 340),
    steady_try_seconds=8,
    steady_seconds=120,
    stored_few=1_000,
    stored_many={"sqlite": 1_000_000, "pouchdb": 10_000, "couchdb": 100_000},
    idle_jobs=1_000,
    idle_seconds=60,
    created_jobs=2_000,
    listed_jobs=10_000,
    executions={"sqlite": 100_000, "pouchdb": 10_000, "couchdb": 100_000},
    log_bytes=1 << 30,
    commands=10,
    failover_rounds=3,
)
QUICK = replace(
    DEFAULT,
    mode="quick",
    runs=1,
    kinds=frozenset({"pouchdb"}),
    due_jobs=50,
    with_cron=False,
    dispatch_waves=1,
    dispatch_jobs={"sqlite": 100, "pouchdb": 50, "couchdb": 100},
    steady_rates=(10,),
    steady_try_seconds=0,
    steady_seconds=5,
    stored_many={"sqlite": 10_000, "pouchdb": 2_000, "couchdb": 2_000},
    idle_jobs=100,
    idle_seconds=5,
    created_jobs=50,
    listed_jobs=1_000,
    executions={"sqlite": 1_000, "pouchdb": 1_000, "couchdb": 1_000},
    log_bytes=1 << 24,
    commands=2,
    failover_rounds=1,
)
FULL = replace(
    DEFAULT,
    mode="full",
    runs=5,
    dispatch_waves=34,
    steady_seconds=600,
    stored_many={"sqlite": 1_000_000, "pouchdb": 10_000, "couchdb": 1_000_000},
    idle_seconds=600,
    created_jobs=10_000,
    executions={"sqlite": 1_000_000, "pouchdb": 10_000, "couchdb": 1_000_000},
    failover_rounds=20,
)
_SCALES = {scale.mode: scale for scale in (QUICK, DEFAULT, FULL)}


def chosen_scale() -> Scale:
    """The scale that BENCH names, on the stores that BENCH_STORES names."""
    scale = _SCALES[_chosen(VARIABLE, os.environ.get(VARIABLE) or DEFAULT.mode, _SCALES)]
    words = os.environ.get(STORES_VARIABLE, "").replace(",", " ").split()
    kinds = {_chosen(STORES_VARIABLE, word, available_kinds()) for word in words}
    return replace(scale, kinds=frozenset(kinds)) if kinds else scale


def _chosen(variable: str, word: str, choices: Collection[_Choice]) -> _Choice:
    for choice in choices:
        if choice == word:
            return choice
    raise SystemExit(f"{variable}: {word!r} is not one of {', '.join(choices)}")
