"""What all scenarios share: a cluster on a pair of stores, scripts that write down when they started."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TypeVar
from unittest.mock import patch

from dcron.domain.instants import parse_key
from dcron.domain.model import Script, Specification
from dcron.ports import JOBS, DocumentStore
from dcron.stores import open_objects
from tests.bench import seeding
from tests.bench.figures import Results
from tests.bench.scale import Scale
from tests.bench.stores import OpenStores, Stores
from tests.system.cluster import Cluster, NodeProcess

__all__ = [
    "FAR",
    "Bench",
    "Marks",
    "cluster_on",
    "due_after",
    "seeded",
    "serving",
    "sleep_until",
    "spools_are_empty",
    "uploaded",
    "with_store",
]

_Answer = TypeVar("_Answer")

LEASE_SECONDS = 6.0
"""The product's default; the cluster of the tests is more hasty."""
SLOTS = 1_000
FAR = "0 0 1 1 *"
"""A schedule that does not come due meanwhile, but at the turn of the year."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a scenario is given: how much to measure, where to put files, where to put what it finds."""

    scale: Scale
    folder: Path
    results: Results

    @contextmanager
    def opened(self, open_stores: OpenStores) -> Iterator[tuple[Stores, Path]]:
        """A pair of stores, and a folder for what is used with them."""
        with TemporaryDirectory(dir=self.folder) as name, open_stores(Path(name)) as stores:
            yield stores, Path(name)


def cluster_on(
    folder: Path,
    stores: Stores,
    *,
    nodes: int = 3,
    program: Sequence[str] = (),
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Cluster:
    """A cluster that is not running yet; `program` runs instead of `dcron serve`, `settings` are DCRON_*."""
    cluster = Cluster(
        folder,
        stores.documents,
        stores.objects,
        # The log as a deployed node writes it.
        {**stores.environment, "DCRON_SLOTS": str(SLOTS), "DCRON_LOG_FORMAT": "json", **settings},
        nodes=nodes,
        lease_seconds=LEASE_SECONDS,
    )
    for node in cluster.nodes:
        node.command = list(program) or node.command
    return cluster


@contextmanager
def serving(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster with a leader; when something fails, the ends of its logs are shown."""
    try:
        cluster.start()
        yield cluster
    except BaseException:
        for node in cluster.nodes:
            if node.log.exists():
                print(f"--- {node.id}\n{node.tail()}")
        raise
    finally:
        cluster.stop()


class Marks:
    """A script whose first act is to write down which execution it is and when it is, and the file for it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "marks"
        self.script = folder / "marking.sh"
        # One write of one short line: lines of several scripts do not mix.
        mark = f'date "+$DCRON_EXECUTION_ID %s.%N" >> {shlex.quote(str(self.path))}'
        self.script.write_text(f"{mark}\necho has started\n")

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)

    def count(self) -> int:
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    def lateness(self) -> dict[datetime, list[float]]:
        """Seconds after the instant, by instant; fails when an execution has started twice."""
        found: dict[datetime, list[float]] = {}
        seen = set()
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            execution_id, at = line.split()
            assert execution_id not in seen, f"{execution_id} has started twice"
            seen.add(execution_id)
            due_at = parse_key(execution_id.split(":")[1])
            found.setdefault(due_at, []).append(float(at) - due_at.timestamp())
        return found

    def lateness_at(self, due_at: datetime, count: int) -> list[float]:
        """Of the executions of one instant, in the order of their starts; fails when they are not `count`."""
        late = self.lateness().get(due_at, [])
        assert len(late) == count, f"{len(late)} starts; {count} were due"
        return late


def uploaded(stores: Stores, script: Path) -> Specification:
    """What a job wants whose script this is, and which is far from due; the object store has the script."""
    text = script.read_bytes()
    stored = Script(hashlib.sha256(text).hexdigest(), len(text), script.name)

    async def put() -> None:
        with patch.dict(os.environ, stores.environment):
            objects = open_objects(stores.objects)
            try:
                await objects.prepare()
                await objects.put_file(stored.key, script, size_bytes=stored.size_bytes)
            finally:
                await objects.close()

    asyncio.run(put())
    return Specification(FAR, stored, interpreter="sh")


def seeded(cluster: Cluster, prefix: str, count: int, specification: Specification, schedule: str) -> None:
    """Register `count` jobs by writing them into the store; they are indexed afterwards."""
    documents = seeding.jobs(prefix, count, replace(specification, schedule=schedule))

    async def store_them(store: DocumentStore) -> None:
        await seeding.store_jobs(store, documents)
        await seeding.let_index(store, (JOBS,))

    with_store(cluster.store_url, store_them)


def with_store(url: str, act: Callable[[DocumentStore], Awaitable[_Answer]]) -> _Answer:
    """Do something with the document store of a URL; what came of it."""

    async def run() -> _Answer:
        store = seeding.open_patient(url)
        await store.prepare()
        try:
            return await act(store)
        finally:
            await store.close()

    return asyncio.run(run())


def due_after(seconds: float) -> datetime:
    """A whole second at least that far ahead."""
    return (datetime.now(UTC) + timedelta(seconds=seconds + 1)).replace(microsecond=0)


def spools_are_empty(nodes: Sequence[NodeProcess]) -> bool:
    """Whether both stores have all outcomes and logs: an attempt stays in its node's spool until then."""
    return not any(any((node.spool / "attempts").iterdir()) for node in nodes)


def sleep_until(instant: datetime) -> None:
    time.sleep(max(0.0, instant.timestamp() - time.time()))
