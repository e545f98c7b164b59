"""The steps of CI, some side by side, and what each took. `.ci/run` calls this.

Environment: CI_SHARE=1, 2 or 3, which share of the long tests is run, or `all`; CI_FIRST_SEED, where the
simulation begins. Both follow from the commit if they are not given, and are printed.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import processes
from running import Ended, Runner, Step

ROOT = Path(__file__).resolve().parent.parent
SHARES = ("1", "2", "3")
"""Each has a third of the long tests: the files that read DCRON_TEST_SHARE say which."""
ALL = "all"
VAGRANT_SHARE = "1"
LIMIT_MINUTES = 85
"""For all steps, on a machine half as fast as usual too."""
SLOWEST = 10
CLOSING_LINE = re.compile(r"^=+ (\d.* in \d[\d.]*s.*?) =+$", re.MULTILINE)
SEEDS_BELOW = 1_000_000_000
STOP_SECONDS = 10.0
"""For what was told to stop and is just about to."""
PATIENT = 10
"""How nice a step is that only computes. Hosts are not nice: a store that waits for a processor for more
than a second is unreachable."""

# A step's own limit is for one that hangs, on a machine half as fast as usual.
SETUP = Step("setup test-servers", minutes=15)
PRODUCT = (
    Step("lint types ansible-lint", minutes=15, nice=PATIENT),
    Step("test-system", minutes=40),
    Step("bench", minutes=20),
    Step("demo", minutes=5),
    # Last: the simulation is nice, and goes on quickly once no hosts are there any more.
    Step("test-others", minutes=40),
)
MOLECULE = Step("molecule", minutes=75)
VAGRANT = Step("vagrant-check", minutes=60)


@dataclass(frozen=True)
class Choice:
    """What of the long tests and of the seeds a run takes, so that it can be repeated."""

    share: str
    first_seed: int

    @classmethod
    def of(cls, commit: str) -> Choice:
        """What follows from a commit: the same each time."""
        number = int(hashlib.sha256(commit.encode()).hexdigest(), 16)
        return cls(SHARES[number % len(SHARES)], number // len(SHARES) % SEEDS_BELOW)

    def changed_by(self, environment: Mapping[str, str]) -> Choice:
        """What somebody asks for instead; raises ValueError for a share that there is not."""
        share = environment.get("CI_SHARE") or self.share
        if share not in {*SHARES, ALL}:
            raise ValueError(f"CI_SHARE is {share!r}: it has to be {', '.join(SHARES)} or {ALL}")
        first_seed = environment.get("CI_FIRST_SEED") or str(self.first_seed)
        if not first_seed.isdecimal():
            raise ValueError(f"CI_FIRST_SEED is {first_seed!r}: it has to be a number")
        return Choice(share, int(first_seed))

    def __str__(self) -> str:
        return f"CI_SHARE={self.share} CI_FIRST_SEED={self.first_seed} .ci/run"


def this_commit() -> str:
    """HEAD's name; without git or a repository, a digest of the sources in its place."""
    # CI's user need not be the one who owns the checkout.
    command = ["git", "-c", "safe.directory=*", "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        files = sorted(path for folder in ("dcron", "tests") for path in (ROOT / folder).rglob("*.py"))
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def main() -> int:
    """The exit code: 0 when every step succeeded and no process is left."""
    before = processes.of_checkout(ROOT)
    try:
        choice = Choice.of(this_commit()).changed_by(os.environ)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"=== {choice}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dcron-ci-") as name:
        folder = Path(name)
        runner = Runner(began, began + LIMIT_MINUTES * 60, folder, _environment(choice, folder))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: runner.stop())
        try:
            _run(runner, choice)
        finally:
            # Tests of the bundle remove their hosts themselves, unless they are killed.
            subprocess.run([ROOT / "ansible/testbed/remove-hosts.sh"], check=True)
        _print_slowest(folder)
        _print_steps(runner.ended)
        _print_closing_lines(folder)
    left = processes.left(ROOT, before, STOP_SECONDS)
    if left:
        print("\n=== processes left behind:", flush=True)
        pids = ",".join(map(str, sorted(left)))
        subprocess.run(["ps", "-ww", "-o", "pid,ppid,etimes,args", "-p", pids], check=False)
    wrong = [f"make {each.step.targets}" for each in runner.ended if each.wrong]
    wrong += ["processes left behind"] if left else []
    told = f"wrong: {', '.join(wrong)}" if wrong else "all well, no process left behind"
    print(f"\n=== {choice}: {time.monotonic() - began:.0f} s, {told}", flush=True)
    return 1 if wrong else 0


def _environment(choice: Choice, folder: Path) -> dict[str, str]:
    given = {"DCRON_TEST_REQUIRE_SERVERS": "1", "DCRON_TEST_REPORTS": str(folder), "BENCH": "quick"}
    given["DCRON_TEST_FIRST_SEED"] = str(choice.first_seed)
    if choice.share != ALL:
        given["DCRON_TEST_SHARE"] = choice.share
    return {**os.environ, **given}


def _run(runner: Runner, choice: Choice) -> None:
    with ThreadPoolExecutor() as side_by_side:
        begun = [side_by_side.submit(runner.run, MOLECULE)]
        if choice.share in {VAGRANT_SHARE, ALL}:
            begun.append(side_by_side.submit(runner.run, VAGRANT))
        if runner.run(SETUP):
            runner.run_all(PRODUCT)
    for each in begun:
        each.result()


def _print_slowest(reports: Path) -> None:
    cases = [
        (float(case.get("time", "0")), f"{case.get('classname')}::{case.get('name')}")
        for report in reports.glob("*.xml")
        for case in ET.parse(report).iter("testcase")  # noqa: S314 - pytest has just written it
    ]
    print(f"\n=== the slowest {SLOWEST} of {len(cases)} tests")
    for seconds, name in sorted(cases, reverse=True)[:SLOWEST]:
        print(f"{seconds:7.1f} s  {name}")


def _print_steps(ended: list[Ended]) -> None:
    print("\n=== what took how long\n  began   took    CPU  step")
    for each in sorted(ended, key=lambda end: end.began):
        times = f"{each.began:5.0f} s {each.took:4.0f} s {each.processors:4.0f} s"
        print(f"{times}  make {each.step.targets} {each.wrong and '- ' + each.wrong}".rstrip())


def _print_closing_lines(logs: Path) -> None:
    """What pytest said of all its tests: printed once more, since many lines are between."""
    print("\n=== pytest")
    for log in sorted(logs.glob("*.log")):
        for line in CLOSING_LINE.findall(log.read_text(errors="replace")):
            print(f"{log.stem}: {line}")


if __name__ == "__main__":
    sys.exit(main())
