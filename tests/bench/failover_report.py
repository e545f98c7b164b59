"""What `make failover` prints, and the file that it leaves."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dcron import __version__
from dcron.adapters.couchdb.http import parse_couchdb_url
from tests.bench.failover_load import Account
from tests.bench.stores import ask

NAMED = 5
"""Occurrences named in print of those that are lost or doubled."""


@dataclass(frozen=True)
class Machine:
    """Where it was measured."""

    cores: int
    processor: str
    kernel: str
    python: str
    dcron: str
    store: str
    objects: str
    load_before: float


@dataclass(frozen=True)
class Change:
    """One change of leaders. Times are Unix seconds, all of this machine's clock."""

    kind: str
    term: int
    """The term that followed."""
    stopped_at: float
    offered_at: float
    started_at: float | None = None
    """When the first script started that was claimed in the new term; None when none was."""

    @property
    def offer_seconds(self) -> float:
        """From the stop to the next leader's first offer."""
        return self.offered_at - self.stopped_at


@dataclass(frozen=True)
class Measured:
    """All of one run."""

    jobs: int
    lease_seconds: float
    changes: Sequence[Change]
    unforced: int
    """Terms that began though nobody had stopped a leader."""
    account: Account
    machine: Machine


def describe_machine(store_url: str, objects_url: str) -> Machine:
    """This machine and what it runs."""
    return Machine(
        cores=os.cpu_count() or 0,
        processor=_processor(),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        dcron=__version__,
        store=_store(store_url),
        objects="folder" if objects_url.startswith("file:") else "store",
        load_before=os.getloadavg()[0],
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _store(url: str) -> str:
    """Kind and version, as the server says."""
    hosts = parse_couchdb_url(url).hosts
    welcome = dict(ask(url, "GET", ""))
    kind = "CouchDB" if "couchdb" in welcome else "pouchdb-server (CouchDB's protocol)"
    return f"{kind} {welcome['version']}, {len(hosts)} address{'es' if len(hosts) > 1 else ''}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def misses(measured: Measured, targets: dict[str, float]) -> list[str]:
    """Which targets were missed, in words."""
    found = []
    for kind, target_seconds in targets.items():
        slowest = max(each.offer_seconds for each in measured.changes if each.kind == kind)
        if slowest > target_seconds:
            found.append(f"{kind}: {slowest:.2f} s to the first offer, more than {target_seconds:g} s")
    for word, occurrences in (("lost", measured.account.lost), ("doubled", measured.account.doubled)):
        if occurrences:
            found.append(f"{len(occurrences)} occurrences {word}: {', '.join(occurrences[:NAMED])}")
    return found


def print_report(measured: Measured, targets: dict[str, float]) -> None:
    """The table, with the machine."""
    machine, account = measured.machine, measured.account
    print(f"\nA change of leaders: 3 nodes, {measured.jobs} jobs due each second", end="")
    print(f", lease {measured.lease_seconds:g} s")
    print(f"{machine.cores} cores ({machine.processor}), {machine.kernel}, Python {machine.python}")
    print(f"dcron {machine.dcron}, {machine.store}, objects in a {machine.objects}", end="")
    print(f", load before {machine.load_before:.1f}\n")
    print(f"{'seconds from the stop to':46}{'n':>5}{'min':>7}{'p50':>7}{'p95':>7}{'max':>7}{'target':>8}")
    for kind, target_seconds in targets.items():
        changes = [each for each in measured.changes if each.kind == kind]
        offers = [each.offer_seconds for each in changes]
        starts = [each.started_at - each.stopped_at for each in changes if each.started_at is not None]
        print(f"{kind + ': the first offer':46}{figures(offers)}{target_seconds:>8g}")
        print(f"{kind + ': the first script of the new term':46}{figures(starts)}")
    coalesced = ", ".join(f"{count} {reason}" for reason, count in sorted(account.skipped.items()))
    print(f"\noccurrences: {account.due} due, {account.started} started, {coalesced or '0 coalesced'}")
    print(f"lost: {len(account.lost)}, doubled: {len(account.doubled)}")
    print(f"terms that began by themselves: {measured.unforced}")


def figures(values: Sequence[float]) -> str:
    """Number, minimum, median, 95th percentile and maximum, as columns."""
    if not values:
        return f"{0:>5}"
    figures = (min(values), percentile(values, 50), percentile(values, 95), max(values))
    return f"{len(values):>5}" + "".join(f"{each:7.2f}" for each in figures)


def write_results(measured: Measured, folder: Path) -> Path:
    """The whole run as JSON; its file."""
    return write_json(measured, folder, "failover")


def write_json(measured: Any, folder: Path, name: str) -> Path:
    """A dataclass with all that was measured, as JSON; its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
    path.write_text(json.dumps(asdict(measured), indent=1) + "\n", encoding="utf-8")
    return path
