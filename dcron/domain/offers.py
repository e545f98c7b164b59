"""Values that pass between leader and worker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from dcron.domain.model import Active, Coalesced, Job, Specification
from dcron.domain.planning import AHEAD_SECONDS

__all__ = [
    "MAX_OFFER",
    "ClaimReference",
    "KnownClaims",
    "OfferAnswer",
    "OfferResult",
    "OfferedAttempt",
    "offered",
]

MAX_OFFER = 500
"""Attempts in one offer at most."""


@dataclass(frozen=True, slots=True)
class OfferedAttempt:
    """One attempt with all that is needed to run it."""

    execution_id: str
    job: str
    revision: int
    specification: Specification
    scheduled_at: datetime
    manual: bool
    coalesced: Coalesced | None = None
    start_in_seconds: float = 0.0
    """Seconds from the offer to its instant, when its script starts. A length of time, for no node compares
    its clock with another's."""

    def at(self, now: datetime) -> OfferedAttempt:
        """The same as it is offered now, by the leader's clock."""
        if self.manual or self.scheduled_at <= now:
            return self
        ahead_seconds = (self.scheduled_at - now).total_seconds()
        # More is left only when the leader's clock was set back since it decided.
        return replace(self, start_in_seconds=min(ahead_seconds, AHEAD_SECONDS))


class OfferResult(Enum):
    """Answer of a worker to an offered attempt."""

    ACCEPTED = "accepted"
    """It is claimed by this worker, now or at an earlier asking."""
    BUSY = "busy"
    DRAINING = "draining"
    OLDER_TERM = "older_term"
    NOT_CLAIMED = "not_claimed"
    """Its claim was not a plain success: the claim documents tell more."""
    UNABLE = "unable"
    """It cannot take it at present; nothing was claimed."""


@dataclass(frozen=True, slots=True)
class OfferAnswer:
    """The result and, in words, why."""

    result: OfferResult
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ClaimReference:
    """A claim as the database has it."""

    execution_id: str
    token: str


@dataclass(frozen=True, slots=True)
class KnownClaims:
    """What a worker says of the claims that it was asked for. The others it goes on to write off as lost."""

    known: frozenset[str]
    """Tokens of those that are not to be given up: held, or delivered."""
    delivered: frozenset[str] = frozenset()
    """Tokens of those whose outcome a quorum of the store has taken: where none is read, it is on its way."""


def offered(job: Job, active: Active) -> OfferedAttempt:
    """The offer of a job's active attempt, under the job's present revision."""
    return OfferedAttempt(
        execution_id=active.execution_id,
        job=job.name,
        revision=job.revision,
        specification=job.specification,
        scheduled_at=active.occurrence.scheduled_at,
        manual=active.occurrence.manual,
        coalesced=active.coalesced,
    )
