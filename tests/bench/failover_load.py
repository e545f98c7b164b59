"""The load of `make failover`, jobs that are due every second, and what became of each occurrence."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc

from dcron.domain.documents import claim_of, skip_of
from dcron.domain.ids import ULID_RANDOMNESS_BYTES, new_ulid
from dcron.domain.instants import format_key
from dcron.domain.job_documents import job_of
from dcron.domain.model import Claim, Skip, SkipReason
from dcron.ports import JOBS, DocumentStore
from dcron.rpc import dcron_pb2 as pb
from dcron.rpc.dcron_pb2_grpc import PublicStub
from dcron.stores import open_store
from tests.system.cluster import Cluster, NodeProcess

EACH_SECOND = "* * * * * *"
ONCE_A_YEAR = "0 0 1 1 *"
ASKED_JOBS = 4
"""Jobs that run when asked to, in turn."""
ASK_SECONDS = 5.0
SECOND = timedelta(seconds=1)
PAGE = 1_000
LISTING_SECONDS = 15.0
"""A listing comes from one copy of a cluster, which may be this far behind."""

SCRIPT = """LC_ALL=C
echo "$DCRON_EXECUTION_ID $EPOCHREALTIME" >> {marks}
"""
"""For bash, which tells the time without starting another program."""


@dataclass(frozen=True)
class Watched:
    """A job, and when it ran for sure: its occurrences after `since` and before `until` are to be found."""

    name: str
    uid: str
    since: datetime
    until: datetime

    def calendar(self) -> Iterator[datetime]:
        """Every whole second."""
        instant = self.since.replace(microsecond=0) + SECOND
        while instant < self.until:
            yield instant
            instant += SECOND


@dataclass(frozen=True)
class Mark:
    """What a script wrote when it started."""

    execution_id: str
    at: float


@dataclass
class Records:
    """What the store says of the watched jobs."""

    claims: dict[str, Claim] = field(default_factory=dict)
    skips: dict[str, list[Skip]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class Account:
    """How many occurrences were due, and what became of them; `lost` and `doubled` name them."""

    due: int = 0
    started: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)


class Load:
    """Jobs whose scripts leave a mark at each start: due every second, or when asked for."""

    def __init__(self, cluster: Cluster, count: int) -> None:
        self._cluster = cluster
        self._marks = cluster.folder / "marks"
        self._each_second = [f"each-second-{number:02}" for number in range(1, count + 1)]
        self._when_asked = [f"when-asked-{number}" for number in range(1, ASKED_JOBS + 1)]
        self._created: dict[str, tuple[pb.Job, datetime]] = {}
        self.asked: list[str] = []
        """Execution ids of the runs that were asked for, and whose asking was answered."""

    def register(self) -> None:
        """Have the jobs run from now on."""
        script = self._cluster.folder / "mark.sh"
        script.write_text(SCRIPT.format(marks=self._marks))
        options = ("--schedule", EACH_SECOND, "--interpreter", "bash", "--paused")
        self._cluster.do("job", "create", "pattern", *options, str(script))
        with public(self._cluster.nodes[0]) as stub:
            specification = stub.GetJob(pb.GetJobRequest(name="pattern")).specification
            for name in (*self._each_second, *self._when_asked):
                specification.schedule = EACH_SECOND if name in self._each_second else ONCE_A_YEAR
                created = stub.CreateJob(pb.CreateJobRequest(name=name, specification=specification))
                self._created[name] = (created, datetime.now(UTC))

    def ask(self, via: NodeProcess) -> None:
        """Ask for a run now, so that something is to be offered before the next second begins."""
        name = self._when_asked[len(self.asked) % ASKED_JOBS]
        request_id = new_ulid(datetime.now(UTC), secrets.token_bytes(ULID_RANDOMNESS_BYTES))
        request = pb.RunJobRequest(name=name, request_id=request_id)
        with public(via) as stub:
            answer = stub.RunJob(request, timeout=ASK_SECONDS)
        self.asked.append(answer.execution_id)

    def has_caught_up(self, since: datetime) -> bool:
        """Whether each job has started for an instant after `since`: no change of leaders holds one up."""
        keys: dict[str, str] = {}
        for mark in self.marks():
            uid, key, _ = mark.execution_id.split(":")
            keys[uid] = max(keys.get(uid, ""), key)
        uids = (self._created[name][0].uid for name in self._each_second)
        return all(keys.get(uid, "") > format_key(since) for uid in uids)

    def pause(self) -> list[Watched]:
        """Let nothing more fall due; all nodes must run."""
        watched = []
        with public(self._cluster.nodes[0]) as stub:
            for name in self._each_second:
                created, since = self._created[name]
                until = datetime.now(UTC)
                stub.PauseJob(pb.PauseJobRequest(name=name))
                watched.append(Watched(name, created.uid, since, until))
        for name in self._when_asked:
            created, since = self._created[name]
            watched.append(Watched(name, created.uid, since, since))
        return watched

    def is_idle(self) -> bool:
        """Whether no job has anything left to do."""
        with public(self._cluster.nodes[0]) as stub:
            jobs = [stub.GetJob(pb.GetJobRequest(name=name)) for name in self._created]
        return not any(job.HasField("active") or job.waiting_execution_ids for job in jobs)

    def marks(self) -> list[Mark]:
        """What the scripts wrote until now."""
        return read_marks(self._marks)


@contextmanager
def public(node: NodeProcess) -> Iterator[PublicStub]:
    """The API of one node."""
    with grpc.insecure_channel(node.address) as channel:
        yield PublicStub(channel)


def read_marks(path: Path) -> list[Mark]:
    """One line is one start."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Mark(execution_id, float(at)) for execution_id, at in map(str.split, lines)]


def settled_account(
    store_url: str, watched: Sequence[Watched], asked: Sequence[str], marks: Sequence[Mark]
) -> tuple[Account, Records]:
    """The account once all that was due is settled; what a listing lacks is looked for again."""
    deadline = time.monotonic() + LISTING_SECONDS
    while True:
        records = asyncio.run(read_records(store_url, watched))
        account = take_account(watched, asked, marks, records)
        if not account.lost or time.monotonic() > deadline:
            return account, records
        time.sleep(1.0)


async def read_records(store_url: str, watched: Sequence[Watched]) -> Records:
    """Claims and skip records, those in job documents too."""
    store = open_store(store_url)
    records = Records()
    try:
        documents = await store.read(JOBS, [job.name for job in watched])
        for wanted, leaves in zip(watched, documents, strict=True):
            for leaf in leaves:
                place = job_of(wanted.name, leaf.body).place
                records.skips[wanted.uid].extend(place.skips)
                if place.paused_from is not None:
                    # What a pause held back has its record when the job goes on.
                    held = Skip(wanted.uid, place.paused_from, wanted.until, SkipReason.PAUSED, None)
                    records.skips[wanted.uid].append(held)
        for database in await store.databases():
            for job in watched:
                await _read_month(store, database, job.uid, records)
    finally:
        await store.close()
    return records


async def _read_month(store: DocumentStore, database: str, uid: str, records: Records) -> None:
    start, end = f"{uid}:", f"{uid};"
    while True:
        page = await store.range(database, start, end, limit=PAGE)
        for document in page:
            if document.body["kind"] == "claim":
                records.claims[document.id] = claim_of(document.id, document.body)
            elif document.body["kind"] == "skipped":
                records.skips[uid].append(skip_of(document.body))
        if len(page) < PAGE:
            return
        start = f"{page[-1].id}\0"


def take_account(
    watched: Sequence[Watched], asked: Sequence[str], marks: Sequence[Mark], records: Records
) -> Account:
    """Each second of each job, and each run that was asked for, has one start, or a skip record that says
    why it has none. A start that the store does not know of accounts for nothing."""
    account = Account()
    starts: Counter[str] = Counter()
    for mark in marks:
        if mark.execution_id in records.claims:
            starts[_occurrence(mark.execution_id)] += 1
    for job in watched:
        covered = dict(_skipped_seconds(records.skips[job.uid]))
        for instant in job.calendar():
            key = f"{job.uid}:{instant:%Y%m%dT%H%M%SZ}"
            _count(account, key, starts[key], covered.get(instant, ""))
    for execution_id in asked:
        key = _occurrence(execution_id)
        _count(account, key, starts[key], "")
    return account


def _occurrence(execution_id: str) -> str:
    return execution_id.rpartition(":")[0]


def _count(account: Account, key: str, starts: int, skip_reason: str) -> None:
    account.due += 1
    account.started += starts > 0
    if starts > 1 or (starts and skip_reason):
        account.doubled.append(key)
    elif skip_reason:
        account.skipped[skip_reason] = account.skipped.get(skip_reason, 0) + 1
    elif not starts:
        account.lost.append(key)


def _skipped_seconds(skips: Sequence[Skip]) -> Iterator[tuple[datetime, str]]:
    for skip in skips:
        instant = skip.scheduled_at
        while instant <= skip.until:
            yield instant, skip.reason.value
            instant += SECOND
