"""What happened, as seen from outside the nodes: the only thing that checkers judge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

__all__ = [
    "EPOCH",
    "STORM",
    "Asked",
    "Defect",
    "Ended",
    "Event",
    "Fault",
    "Final",
    "History",
    "OfferReached",
    "Offered",
    "Started",
    "Stored",
    "Written",
    "instant",
]

EPOCH = datetime(2026, 3, 31, 23, 50, tzinfo=UTC)
"""Virtual second 0: shortly before a new month, so that executions of one run are in two databases."""
STORM = "storm"
"""The fault in which leaders change every few seconds, and nothing is wrong but nodes that go and come."""


def instant(at: float) -> datetime:
    """The true time at a virtual second."""
    return EPOCH + timedelta(seconds=at)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a virtual second."""

    at: float


@dataclass(frozen=True, slots=True)
class Started(Event):
    """A keeper started a script."""

    node: str
    execution_id: str
    token: str
    timeout_seconds: float
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """A script ended; `seen` is False when its machine went down with it, so that nobody saw how."""

    node: str
    execution_id: str
    token: str
    state: str
    seen: bool


@dataclass(frozen=True, slots=True)
class Stored(Event):
    """A revision of a document reached the first of the store's copies."""

    database: str
    id: str
    revision: str
    parent: str | None
    deleted: bool
    body: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Written(Event):
    """The store answered a write of one document; whether the answer arrived is another matter."""

    node: str
    database: str
    id: str
    kind: str
    revision: str | None


@dataclass(frozen=True, slots=True)
class Offered(Event):
    """A worker answered an offer. `newest_term` is the newest that any earlier offer had brought it."""

    node: str
    incarnation: int
    term: int
    newest_term: int
    answers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class OfferReached(Event):
    """An offer came to a worker, which has not looked at it yet."""

    node: str
    term: int


@dataclass(frozen=True, slots=True)
class Asked(Event):
    """A client's request through a node. `answer` is "ok", the name of an error, or "" when none came;
    `offset_seconds` is how far the node's clock was off."""

    asked_at: float
    node: str
    action: str
    job: str
    answer: str
    offset_seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Fault(Event):
    """Something went wrong on purpose until `until`; `what` names the kind, `where` nodes or copies."""

    until: float
    what: str
    where: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Defect(Event):
    """A node said or did what it never should: an unexpected exception."""

    node: str
    what: str


@dataclass(frozen=True, slots=True)
class Final:
    """The state after all faults have ended and the cluster had its time: `leaves` by database and id."""

    at: float
    leaves: Mapping[tuple[str, str], tuple[tuple[str, Mapping[str, Any]], ...]]
    objects: Mapping[str, bytes]
    leaders: tuple[str, ...]
    leaders_settled: tuple[str, ...]
    """Who led once the cluster had had its time, before the jobs were paused."""
    spooled: Mapping[str, tuple[str, ...]]
    running: frozenset[str]
    shown: Mapping[str, str]
    """The state of each execution as a node tells it to clients."""


_Kind = TypeVar("_Kind", bound=Event)


class History:
    """Events in order, and the final state once there is one. `watchers` see each event as it happens."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.watchers: list[Callable[[Event], None]] = []
        self.final: Final | None = None
        self.faults_end = 0.0

    def add(self, event: Event) -> None:
        """Note an event."""
        self.events.append(event)
        for watch in self.watchers:
            watch(event)

    def of(self, kind: type[_Kind]) -> list[_Kind]:
        """The events of one kind, in order."""
        return [event for event in self.events if type(event) is kind]

    def lines(self) -> list[str]:
        """All events as text, one a line."""
        return [
            f"{type(event).__name__} {json.dumps(asdict(event), sort_keys=True)}" for event in self.events
        ]

    def digest(self) -> str:
        """A fingerprint: two runs with the same history have the same."""
        return hashlib.sha256("\n".join(self.lines()).encode()).hexdigest()
