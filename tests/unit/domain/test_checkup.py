"""What doctor makes of the facts about one machine and its stores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from dcron.domain.checkup import (
    LEAST_FREE_BYTES,
    MAX_JOBS_NAMED,
    Finding,
    HostFacts,
    Level,
    Limits,
    SpoolFacts,
    StoreFacts,
    judge_clock,
    judge_interpreters,
    judge_limits,
    judge_spool,
    judge_store,
)

MIB = 1024**2
MAX_LOG_BYTES = 256 * MIB
GOOD_SPOOL = SpoolFacts("/spool", owner_uid=7, own_uid=7, file_system="ext4", free_bytes=10**10)
HOSTS = tuple(HostFacts(f"http://c{number}:5984", version="CouchDB 3.5.0") for number in (1, 2, 3))
GOOD_STORE = StoreFacts(HOSTS, round_trip_seconds=0.004, copies=3, write_quorum=2, members=("a", "b", "c"))


def worst(findings: Iterable[Finding]) -> Finding:
    """The worst finding; every one that is not ok has a remedy, and the others have none."""
    found = list(findings)
    for each in found:
        assert bool(each.remedy) is (each.level is not Level.OK), each
        assert each.message
    return max(found, key=lambda finding: list(Level).index(finding.level))


@pytest.mark.parametrize(
    ("offset_seconds", "level", "words"),
    [
        (0.0, Level.OK, "agrees"),
        (-1.0, Level.OK, "agrees"),
        (1.5, Level.WARNING, "+1.5 s"),
        (-5.0, Level.WARNING, "-5.0 s"),
        (5.1, Level.FAILED, "+5 s"),
        (-3600.0, Level.FAILED, "-3600 s"),
    ],
)
def test_a_clock_that_is_off_is_worse_the_more_it_is(offset_seconds: float, level: Level, words: str) -> None:
    finding = worst([judge_clock(offset_seconds)])
    assert finding.level is level
    assert words in finding.message


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, Level.OK, "on ext4, 9.3 GiB free"),
        ({"exists": False, "owner_uid": 0, "mode": 0o755}, Level.OK, "can be made"),
        ({"trouble": "Permission denied"}, Level.FAILED, "Permission denied"),
        ({"owner_uid": 0}, Level.FAILED, "belongs to uid 0"),
        ({"mode": 0o755}, Level.WARNING, "mode 755"),
        ({"file_system": "nfs4"}, Level.FAILED, "nfs4"),
        ({"file_system": "tmpfs"}, Level.WARNING, "tmpfs"),
        ({"may_execute": False}, Level.WARNING, "noexec"),
        ({"free_bytes": LEAST_FREE_BYTES - 1}, Level.FAILED, "0.10 GiB"),
        ({"free_bytes": 4 * MAX_LOG_BYTES - 1}, Level.WARNING, "fewer than 4"),
        ({"sync_seconds": 2.0}, Level.WARNING, "2.0 s to flush"),
    ],
)
def test_a_spool_is_to_be_ours_local_lasting_and_roomy(
    changes: dict[str, object], level: Level, words: str
) -> None:
    finding = worst(judge_spool(replace(GOOD_SPOOL, **changes), MAX_LOG_BYTES))
    assert finding.level is level
    assert words in finding.message


REFUSED = replace(HOSTS[0], trouble="CouchDB at c1 refuses user dcron", refused=True)


@pytest.mark.parametrize(
    ("changes", "level", "check", "words"),
    [
        ({}, Level.OK, "document store", "4 ms away"),
        (
            {"hosts": (replace(HOSTS[0], trouble="refused"), *HOSTS[1:])},
            Level.WARNING,
            "document store",
            "c1",
        ),
        ({"hosts": (REFUSED,)}, Level.FAILED, "document store", "refuses user"),
        ({"hosts": (replace(HOSTS[0], trouble="no route"),)}, Level.FAILED, "document store", "no route"),
        ({"round_trip_seconds": 0.9}, Level.WARNING, "document store", "900 ms"),
        (
            {"write_trouble": "no majority", "absent": ("c",)},
            Level.FAILED,
            "writing to the store",
            "majority",
        ),
        ({"missing": ("dcron-jobs",)}, Level.WARNING, "databases", "dcron-jobs"),
        ({"missing": ("dcron-jobs",), "may_create": False}, Level.FAILED, "databases", "dcron-jobs"),
        ({"write_trouble": "disk full"}, Level.FAILED, "writing to the store", "disk full"),
        ({"absent": ("c",)}, Level.WARNING, "copies", "out of reach for the others: c"),
        ({"copies": 1, "write_quorum": 1}, Level.WARNING, "copies", "1 copy of each document"),
        ({"copies": None}, Level.OK, "document store", "CouchDB 3.5.0"),
    ],
)
def test_a_store_is_to_answer_let_us_in_and_take_writes(
    changes: dict[str, object], level: Level, check: str, words: str
) -> None:
    finding = worst(judge_store(replace(GOOD_STORE, **changes)))
    assert (finding.level, finding.check) == (level, check)
    assert words in finding.message


def test_of_a_store_that_lets_nobody_in_nothing_else_is_told() -> None:
    assert len(list(judge_store(StoreFacts((REFUSED,), missing=("x",), write_trouble="y")))) == 1


@pytest.mark.parametrize(
    ("limits", "slots", "level"),
    [
        (Limits(None, None), 10_000, Level.OK),
        (Limits(1024, 4096), 32, Level.OK),
        (Limits(1024, 4096), 500, Level.WARNING),
        (Limits(100_000, 100), 32, Level.WARNING),
    ],
)
def test_limits_are_to_suffice_for_the_slots(limits: Limits, slots: int, level: Level) -> None:
    assert worst([judge_limits(limits, slots)]).level is level


def test_an_interpreter_that_a_job_asks_for_has_to_be_there() -> None:
    found = {"sh": "/bin/sh", "ruby": "", "bash": ""}
    findings = list(judge_interpreters(found, {"sh": ["a"], "ruby": ["b"]}))
    assert [(each.level, each.message.split()[0]) for each in findings] == [
        (Level.OK, "sh"),
        (Level.FAILED, "ruby"),
        (Level.WARNING, "bash"),
    ]


def test_of_many_jobs_that_ask_for_an_interpreter_some_are_named() -> None:
    jobs = [f"job{number}" for number in range(MAX_JOBS_NAMED + 2)]
    finding = worst(judge_interpreters({"ruby": ""}, {"ruby": jobs}))
    assert finding.message.endswith("job4 and 2 more")
