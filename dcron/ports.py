"""Needs of the services towards the world, as Protocols; adapters fulfil them, tests swap them.

Rules that hold for every port: done is a return value, a lost race is a return value, unreachable is
an exception (`StoreUnreachable`, `ObjectsUnreachable`, `NodeUnreachable`), after which the request may
or may not have been carried out. Every call has its own deadline inside the adapter, shorter than the
lease, and no adapter repeats a write by itself.

The stores in memory (`adapters/memory.py`, `adapters/memory_objects.py`) are shipped for tests and the
simulation. No URL opens them; `dcron dev` keeps its stores on disk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from dcron.domain.checkup import StoreFacts
from dcron.domain.offers import ClaimReference, KnownClaims, OfferAnswer, OfferedAttempt

__all__ = [
    "AUDIT",
    "CLUSTER",
    "INDEXES",
    "JOBS",
    "ChangeBatch",
    "Clock",
    "Document",
    "DocumentStore",
    "IndexRow",
    "Known",
    "NodeClient",
    "ObjectStore",
    "ProcessExit",
    "ProcessRunner",
    "ProcessStart",
    "StartResult",
    "StoreInspector",
    "UploadTarget",
    "WriteKind",
    "WriteResult",
    "executions_database",
    "generation",
]

JOBS = "jobs"
CLUSTER = "cluster"
AUDIT = "audit"
EXECUTIONS_PREFIX = "executions-"

INDEXES: Mapping[str, tuple[str, ...]] = {
    JOBS: ("next_at", "active_since"),
    CLUSTER: (),
    AUDIT: (),
    EXECUTIONS_PREFIX: ("claimed_at", "state_at"),
}
"""Top-level string fields that `DocumentStore.find` can range over, by kind of database. A document
without the field, or with null in it, is not in that index."""


def executions_database(instant: datetime) -> str:
    """Name of the month's database in which the executions scheduled at `instant` (UTC) are kept."""
    return f"{EXECUTIONS_PREFIX}{instant.year:04}-{instant.month:02}"


@dataclass(frozen=True, slots=True)
class Document:
    """One leaf of a document. `body` holds neither id nor revision. `revision` is None to create."""

    id: str
    body: Mapping[str, Any]
    revision: str | None = None
    deleted: bool = False


def generation(revision: str) -> int:
    """Number of writes that led to a revision: the one before its dash."""
    return int(revision.partition("-")[0])


class WriteKind(Enum):
    """Result of writing one document."""

    DONE = "done"
    """Stored on a quorum: CouchDB's 201."""
    LOST = "lost"
    """Somebody else was first: CouchDB's 409. The store may even so hold no winner (see design)."""
    UNSURE = "unsure"
    """Stored, but not on a quorum: CouchDB's 202. Never build on it: read again first."""
    REJECTED = "rejected"
    """The store will never take this document: too large, or malformed."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """`revision` is set with DONE and UNSURE, `reason` with REJECTED."""

    kind: WriteKind
    revision: str | None = None
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether this write, and it alone, took effect on a quorum."""
        return self.kind is WriteKind.DONE


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One hint from an index: the document's id and the indexed value."""

    id: str
    key: str


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Documents changed since a position, in no particular order, each as it is now; `since` is opaque.

    `branched` are the ids among them that have more than one live leaf on the copy that told; of
    executions, which are never updated, it may say nothing."""

    documents: tuple[Document, ...]
    since: str
    branched: frozenset[str] = frozenset()


Known = Callable[[str, str], bool]
"""Whether whoever asks for changes has no use for the document of this id at this revision."""


class DocumentStore(Protocol):
    """Jobs, executions, leadership and the record of changes, in databases named by `JOBS`,
    `executions_database`, `CLUSTER` and `AUDIT`.

    Only `write` and `read` may decide anything. `range`, `find` and `changes` are hints: on a cluster
    they come from one copy and may be many seconds old.
    """

    async def prepare(self) -> None:
        """Make the databases and indexes that are missing; safe to call from many nodes at once.

        Raises SetupError where waiting will not help (credentials), StoreUnreachable otherwise."""

    async def write(self, database: str, documents: Sequence[Document]) -> list[WriteResult]:
        """Create (`revision` None), update or delete each document by revision, independently of the
        others; results in the same order. A month's database that is missing is made on the way.

        Creating over a deleted document succeeds; an update whose document does not exist is LOST.
        Never repeated by itself. Raises StoreUnreachable: then any of them may have been stored."""

    async def read(self, database: str, ids: Sequence[str]) -> list[tuple[Document, ...]]:
        """All live leaves of each document, the winner first, read from a quorum, in the order of
        `ids`; an empty tuple where there is none (or the database is missing)."""

    async def confirm(self, database: str, documents: Sequence[Document]) -> list[bool]:
        """Make a quorum keep documents that were created and never updated, as they were read: True for each
        that it keeps. What a write found to be there (LOST), and what was read, may be on one copy alone.

        Changes nothing. Raises StoreUnreachable."""

    async def range(
        self, database: str, start: str, end: str, *, limit: int, descending: bool = False
    ) -> list[Document]:
        """Documents with start <= id < end by byte order, at most `limit`; a hint. With `descending`
        the same set from its end. A missing database holds nothing."""

    async def find(
        self,
        database: str,
        index: str,
        *,
        start: str = "",
        end: str = "\uffff",
        limit: int,
        descending: bool = False,
    ) -> list[IndexRow]:
        """Rows of an index (see INDEXES) with start <= key < end, ordered by key, at most `limit`; a
        hint whose cost follows `limit`, not what is stored."""

    async def changes(
        self,
        database: str,
        since: str | None,
        *,
        wait_seconds: float,
        limit: int = 1000,
        known: Known | None = None,
    ) -> ChangeBatch:
        """Changes after `since`; returns at once when there is something, else after at most
        `wait_seconds` with nothing. None means from now on: answers at once with a position.

        What is `known` at the revision that it has now may be left out, which can spare reading it."""

    async def databases(self) -> list[str]:
        """Names of the executions databases that exist, oldest first."""

    async def make_ready(self, database: str) -> None:
        """Make an executions database with its indexes before it is needed: making one takes a cluster
        seconds, which the first executions of a month would wait for.

        Raises StoreUnreachable, also where this user may not make one."""

    async def drop(self, database: str) -> None:
        """Remove one executions database; no error if it is gone."""

    async def wall_clock(self) -> datetime:
        """The store's own time, cut to the second and up to a second old (CouchDB's Date header)."""

    async def close(self) -> None:
        """Release connections; the store is not used afterwards."""


class StoreInspector(Protocol):
    """A look at a document store as this node's user finds it, for `dcron doctor`."""

    async def inspect(self) -> StoreFacts:
        """Facts about a store; makes nothing and leaves nothing. What cannot be reached is among the
        facts."""

    async def close(self) -> None:
        """Release connections."""


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """Target of a client's HTTP PUT of a script, until it expires."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class ObjectStore(Protocol):
    """Scripts and logs by key (`scripts/<sha256>`, `logs/...`). Writing a key again replaces it whole;
    a reader sees the old or the new object, never a part."""

    async def prepare(self) -> None:
        """Make sure the bucket or folder is there and usable. SetupError or ObjectsUnreachable."""

    async def is_prepared(self) -> bool:
        """Whether the bucket or folder is there; makes nothing. ObjectsUnreachable."""

    async def presign_put(self, key: str, *, size_bytes: int, expires_seconds: int) -> UploadTarget | None:
        """A URL by which a client without credentials may PUT this key; None where clients upload
        through a node (`put_stream`)."""

    async def put_file(self, key: str, path: Path, *, size_bytes: int, trailer: bytes = b"") -> None:
        """Upload the first `size_bytes` of a file, then `trailer`, without holding the file in memory."""

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], *, max_bytes: int) -> int:
        """Store a stream, return its length; InvalidInput("script", ...) and nothing stored when longer
        than `max_bytes`. Only for bodies small enough for one node's memory or disk."""

    async def size(self, key: str) -> int | None:
        """Length in bytes, None where there is no such object."""

    def read(self, key: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """The object from `offset` in chunks of at most 1 MiB; raises NotFound at the first chunk."""

    async def delete(self, key: str) -> None:
        """Remove the object; no error if it is gone."""

    async def close(self) -> None:
        """Release connections and threads."""


class NodeClient(Protocol):
    """Questions of a node to another one, at its `host:port`. NodeUnreachable when no answer came in time:
    then the other may or may not have acted."""

    async def offer(
        self,
        address: str,
        node_id: str,
        term: int,
        number: int,
        leader_id: str,
        attempts: Sequence[OfferedAttempt],
    ) -> list[OfferAnswer]:
        """Offer at most MAX_OFFER attempts to a worker; one answer each, in order. `number` grows with each
        offer of a term, so that a worker tells one that comes late or twice."""

    async def cancel(self, address: str, execution_id: str) -> bool:
        """Ask a worker to stop an execution; False when it does not run there."""

    async def known_claims(self, address: str, node_id: str, claims: Sequence[ClaimReference]) -> KnownClaims:
        """Which of these claims the worker holds or has delivered; it writes the others off as lost."""

    def follow_log(
        self, address: str, execution_id: str, offset: int, *, follow: bool
    ) -> AsyncIterator[bytes]:
        """The log of an attempt from the worker's spool; NotFound when the worker does not hold it."""

    async def announce_resignation(self, address: str, term: int) -> None:
        """Tell another node that this term has no leader any more, so that it looks at once."""

    async def close(self) -> None:
        """Close all connections."""


class Clock(Protocol):
    """Time as this machine sees it.

    Pauses go by the event loop's own time. Whatever is compared with a claim, a lease or another process goes
    by this clock, so that tests and the simulation can move it."""

    def now(self) -> datetime:
        """Wall clock, aware, UTC. For schedules and for people; never for measuring silence."""

    def monotonic(self) -> float:
        """Seconds that never step, for measuring silence and deadlines."""

    def boottime(self) -> float:
        """Seconds since boot including suspend (CLOCK_BOOTTIME), to notice that we slept."""


@dataclass(frozen=True, slots=True)
class ProcessStart:
    """A script to start. `folder` is the attempt's folder in the spool: the runner writes `log` and
    `exit.json` there, and after a power cut its `attempt.json`, which holds `claim`. `environment` is
    complete: nothing is inherited."""

    execution_id: str
    token: str
    folder: Path
    claim: Mapping[str, Any]
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    timeout_seconds: float
    grace_seconds: float
    max_log_bytes: int
    not_after_boottime: float
    """The script must not start once CLOCK_BOOTTIME is past this."""


class StartResult(Enum):
    """Whether a script runs."""

    STARTED = "started"
    TOO_LATE = "too_late"
    """`not_after_boottime` had passed: nothing was started."""
    FAILED = "failed"
    """The program could not be executed; the reason is the exit's `error`."""
    SPOOL_FULL = "spool_full"
    """The node has no room for it on its disk, or for another process: nothing was started and no exit can be
    read."""


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """End of a script. Exactly one of exit_code, signal and error is set, unless the runner itself
    was killed (`lost`): then none is, for nobody saw the end."""

    token: str
    exit_code: int | None = None
    signal: int | None = None
    error: str = ""
    lost: bool = False
    timed_out: bool = False
    cancelled: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    log_bytes: int = 0
    """Length of what the script printed, kept or not."""


class ProcessRunner(Protocol):
    """Starts scripts so that they outlive this daemon, and learns their true exit status."""

    async def open(self) -> None:
        """Connect to what runs already, or start it. Must come first."""

    async def start(self, starts: Sequence[ProcessStart]) -> list[StartResult]:
        """Start each script in a session of its own; results in the same order."""

    async def cancel(self, token: str) -> bool:
        """Stop a script and all it left behind: TERM, grace, KILL. False when it does not run."""

    async def running(self) -> frozenset[str]:
        """Tokens of the scripts that run now, those adopted from before included."""

    async def next_exit(self) -> str:
        """Wait for a script to end; its token. Ends that happened while nobody listened are found by
        `read_exit`."""

    def read_exit(self, folder: Path, token: str) -> ProcessExit | None:
        """End of the script as `folder` has it; None while it runs or never started."""

    async def close(self) -> None:
        """Let go; scripts run on."""
