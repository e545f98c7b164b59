"""The nouns of dcron as immutable values; see the glossary in ARCHITECTURE.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from dcron.domain.bounds import within
from dcron.domain.execution_id import ExecutionId
from dcron.domain.ids import ulid_time
from dcron.domain.instants import floor_second, format_key
from dcron.domain.records import Stored, Unrecognized

__all__ = [
    "Active",
    "Claim",
    "ClusterSettings",
    "Coalesced",
    "Job",
    "JobRevision",
    "LastOutcome",
    "LogObject",
    "ManualRun",
    "Occurrence",
    "Outcome",
    "Place",
    "Script",
    "Skip",
    "SkipReason",
    "Specification",
    "State",
    "Verdict",
    "VerdictKind",
]


class State(Enum):
    """State of an execution; RUNNING while nothing has come of it."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"
    NOT_STARTED = "not_started"


class SkipReason(Enum):
    """Reason why an occurrence has no execution."""

    COALESCED = "coalesced"
    MISSED = "missed"
    PAUSED = "paused"
    FROZEN = "frozen"


class VerdictKind(Enum):
    """Way in which a person settled an execution."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Script(Stored):
    """An uploaded file, addressed by its content; `file_name` is for people only."""

    sha256: str
    size_bytes: int
    file_name: str = ""

    @property
    def key(self) -> str:
        """Its key in the object store."""
        return f"scripts/{self.sha256}"


@dataclass(frozen=True, slots=True)
class Specification(Stored):
    """Wishes of a user for a job. See CONTRIBUTING for what a further field takes."""

    schedule: str
    script: Script
    timezone: str = "UTC"
    interpreter: str = ""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = field(default=0.0, metadata=within(0, 7 * 24 * 3600, "; 0: no limit"))
    grace_seconds: float = field(default=10.0, metadata=within(0, 3600))
    max_attempts: int = field(default=3, metadata=within(1, 100))
    failure_retries: int = field(default=0, metadata=within(0, 100))


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One scheduled instant of one job, or one manual run of it.

    `key` is the instant in fixed width, or the ULID that the asking client made: asking twice with
    the same ULID is the same occurrence.
    """

    uid: str
    key: str
    scheduled_at: datetime
    manual: bool = False

    @staticmethod
    def of_schedule(uid: str, scheduled_at: datetime) -> Occurrence:
        """The occurrence of a job's schedule at an instant."""
        return Occurrence(uid, format_key(scheduled_at), scheduled_at)

    @staticmethod
    def of_request(uid: str, request_id: str) -> Occurrence:
        """The occurrence that a client asked for."""
        return Occurrence(uid, request_id, floor_second(ulid_time(request_id)), manual=True)

    def attempt(self, number: int) -> ExecutionId:
        """Id of one attempt at it."""
        return ExecutionId(self.uid, self.key, number)


@dataclass(frozen=True, slots=True)
class Coalesced(Stored):
    """Further occurrences that one execution stands for; `count` is None when too many to count."""

    until: datetime
    count: int | None


@dataclass(frozen=True, slots=True)
class Skip(Stored):
    """Occurrences from `scheduled_at` through `until` that did not run, and why."""

    uid: str
    scheduled_at: datetime
    until: datetime
    reason: SkipReason | Unrecognized
    count: int | None
    into: str = ""
    """Key of the occurrence that stands for coalesced ones."""

    @property
    def id(self) -> str:
        """Id of its document. It says the range: two leaders may decide from one start how far it goes, and
        both records are to be kept."""
        return f"{self.uid}:{format_key(self.scheduled_at)}:skipped:{format_key(self.until)}"


@dataclass(frozen=True, slots=True)
class Active(Stored):
    """The occurrence of a job that is being worked on, and its current attempt.

    Written before the attempt is offered (intent first), so that any leader can go on with it.
    """

    occurrence: Occurrence
    attempt: int
    term: int
    intended_at: datetime
    coalesced: Coalesced | None = None
    spent: int = 0
    """Earlier attempts that count against `max_attempts`."""
    failures: int = 0
    """Earlier attempts that failed by themselves."""
    avoid: tuple[str, ...] = ()
    """Nodes of earlier attempts: another one is preferred."""
    after: tuple[str, ...] = ()
    """Tokens of the claims of the attempt before it, as they were known when this one was intended."""
    revoked: bool = False
    """A pause or change that was answered came before its instant, and its intent may never have counted:
    it is not offered; if it runs even so, it is waited for."""

    @property
    def id(self) -> ExecutionId:
        """Id of the current attempt."""
        return self.occurrence.attempt(self.attempt)

    @property
    def execution_id(self) -> str:
        """Id of the current attempt as documents have it."""
        return self.id.text

    @property
    def latest_ids(self) -> tuple[str, ...]:
        """Ids of the current attempt and of the one before it, if there is one."""
        numbers = (self.attempt, self.attempt - 1) if self.attempt > 1 else (self.attempt,)
        return tuple(self.occurrence.attempt(number).text for number in numbers)

    @property
    def ahead_seconds(self) -> float:
        """Seconds before its instant at which it was intended; 0 when that had come. By the leader's clock
        alone."""
        if self.occurrence.manual:
            return 0.0
        return max((self.occurrence.scheduled_at - self.intended_at).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True)
class ManualRun(Stored):
    """A run that somebody asked for and that has not been launched yet."""

    request_id: str


@dataclass(frozen=True, slots=True)
class LastOutcome(Stored):
    """End of the last settled occurrence."""

    execution_id: str
    state: State | Unrecognized
    settled_at: datetime


@dataclass(frozen=True, slots=True)
class Place(Stored):
    """A job's place in the schedule; written by the leader, and by nodes when a client changes the job."""

    sequence: int
    """Grows with each write; with the term it tells which of two branches is ahead."""
    term: int
    next_at: datetime | None
    """First occurrence not accounted for yet; None while paused or when there is none."""
    counts_from: datetime
    """Occurrences of the present schedule count after this instant."""
    paused_from: datetime | None = None
    """While paused: first occurrence that the pause holds back."""
    active: Active | None = None
    waiting: tuple[ManualRun, ...] = ()
    skips: tuple[Skip, ...] = ()
    """Decided with this write; copied to the executions afterwards, and dropped by a later write."""
    last: LastOutcome | None = None


@dataclass(frozen=True, slots=True)
class Job(Stored):
    """Job as a user registered it, and its place in the schedule."""

    name: str
    uid: str
    revision: int
    specification: Specification
    created_at: datetime
    changed_at: datetime
    place: Place
    paused: bool = False


@dataclass(frozen=True, slots=True)
class JobRevision:
    """A job as one change left it; `specification` is None where that was its removal."""

    job: str
    uid: str
    revision: int
    specification: Specification | None
    paused: bool
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Claim(Stored):
    """The document that gives a worker the right to start an attempt."""

    execution_id: str
    token: str
    node_id: str
    job: str
    term: int
    revision: int
    script: Script
    scheduled_at: datetime
    manual: bool
    claimed_at: datetime
    timeout_seconds: float
    coalesced: Coalesced | None = None

    @property
    def id(self) -> ExecutionId:
        """Its execution id in its parts; ValueError when somebody has spoilt it."""
        return ExecutionId.parse(self.execution_id)


@dataclass(frozen=True, slots=True)
class LogObject(Stored):
    """Place of a log; `cut_bytes` were printed beyond the limit and not kept."""

    key: str
    size_bytes: int
    cut_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Outcome(Stored):
    """Outcome of an attempt, written by its claimant alone. `state` is never RUNNING."""

    execution_id: str
    token: str
    node_id: str
    state: State | Unrecognized
    finished_at: datetime
    started_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    log: LogObject | None = None
    closes: bool = False
    """Whether no other claim of its attempt can win any more. Older nodes do not tell."""

    @property
    def id(self) -> str:
        """Id of its document."""
        return f"{self.execution_id}:{self.token}"


@dataclass(frozen=True, slots=True)
class Verdict(Stored):
    """Word of a person that settles an execution: steers the schedule, hides nothing."""

    execution_id: str
    kind: VerdictKind | Unrecognized
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ClusterSettings(Stored):
    """Settings that hold for the whole cluster."""

    format_version: int
    floor: datetime
    """Nothing scheduled before this instant is ever started."""
    frozen: bool = False
    frozen_at: datetime | None = None
    """Begin of the last freeze; it ended at `thawed_at` unless `frozen`."""
    sequence: int = 0
    thawed_at: datetime | None = None
    said_at: datetime | None = None
    """Time at which somebody last asked for a freeze or a thaw, whether that changed anything or not."""
