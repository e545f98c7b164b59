"""What the history says of jobs and attempts, put together for the checkers; no judgement yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from dcron.domain.documents import claim_of, outcome_of, skip_of
from dcron.domain.ids import is_ulid
from dcron.domain.job_documents import job_of
from dcron.domain.model import Claim, Job, Outcome, Skip
from dcron.ports import JOBS
from tests.simulation.history import Ended, Fault, History, Started, Stored, Written, instant
from tests.simulation.newer import understood

__all__ = ["CLOCK_OFF", "Attempt", "Run", "Timeline", "Version", "occurrences", "parts_of"]

PERIODS = {
    "*/5 * * * * *": 5,
    "*/10 * * * * *": 10,
    "*/15 * * * * *": 15,
    "*/30 * * * * *": 30,
    "* * * * *": 60,
}


CLOCK_OFF = timedelta(seconds=6)
"""A leader's clock may be off by 5 s,"""
CLOCK_RIGHT = timedelta(milliseconds=1)
"""and is right where nobody has set it."""


@dataclass(frozen=True, slots=True)
class Version:
    """One stored state of a job document."""

    at: float
    revision: str
    parent: str | None
    deleted: bool
    job: Job | None


@dataclass(slots=True)
class Run:
    """One script, from outside."""

    started: Started
    ended: Ended | None = None

    def lasts_at(self, at: float) -> bool:
        """Whether it ran at this second."""
        return self.started.at <= at and (self.ended is None or at < self.ended.at)


@dataclass(slots=True)
class Attempt:
    """All documents of one execution, each with the second at which it was first stored."""

    claims: list[tuple[float, Claim]] = field(default_factory=list)
    outcomes: list[tuple[float, Outcome]] = field(default_factory=list)
    verdicts: list[tuple[float, Mapping[str, Any]]] = field(default_factory=list)


def parts_of(execution_id: str) -> tuple[str, str, int]:
    """Job uid, occurrence key and attempt."""
    uid, key, attempt = execution_id.split(":")[:3]
    return uid, key, int(attempt)


def occurrences(schedule: str, after: datetime, until: datetime) -> Iterator[datetime]:
    """The calendar, computed without dcron: all schedules of the simulation are plain steps of seconds."""
    period = PERIODS[schedule]
    second = int(after.timestamp()) // period * period + period
    while second <= until.timestamp():
        yield datetime.fromtimestamp(second, after.tzinfo)
        second += period


class Timeline:
    """Answers questions about a finished run."""

    def __init__(self, history: History) -> None:
        assert history.final is not None
        self.history = history
        self.final = history.final

    @cached_property
    def runs(self) -> list[Run]:
        """All scripts, in order of their starts."""
        ends = {event.token: event for event in self.history.of(Ended)}
        return [Run(event, ends.get(event.token)) for event in self.history.of(Started)]

    @cached_property
    def attempts(self) -> dict[str, Attempt]:
        """All documents of executions by execution id, losing leaves among them."""
        attempts: dict[str, Attempt] = {}
        for event in self.history.of(Stored):
            if not event.database.startswith("executions-") or event.deleted:
                continue
            if event.body["kind"] == "skipped":
                continue
            attempt = attempts.setdefault(":".join(event.id.split(":")[:3]), Attempt())
            if event.body["kind"] == "claim":
                attempt.claims.append((event.at, claim_of(event.id, event.body)))
            elif event.body["kind"] == "outcome":
                attempt.outcomes.append((event.at, outcome_of(understood(event.body))))
            else:
                attempt.verdicts.append((event.at, event.body))
        return attempts

    @cached_property
    def versions(self) -> dict[str, list[Version]]:
        """Every stored state of every job document, by name."""
        versions: dict[str, list[Version]] = {}
        for event in self.history.of(Stored):
            if event.database == JOBS and not event.id.startswith("~"):
                job = None if event.deleted else job_of(event.id, understood(event.body))
                version = Version(event.at, event.revision, event.parent, event.deleted, job)
                versions.setdefault(event.id, []).append(version)
        return versions

    @cached_property
    def lineages(self) -> dict[str, list[Version]]:
        """The states that led to the last one of each job document, oldest first. States on branches
        that were merged away are not among them."""
        lineages = {}
        for name, versions in self.versions.items():
            by_revision = {version.revision: version for version in versions}
            last = max(versions, key=lambda version: _rank(version, self.final.leaves.get((JOBS, name))))
            chain = [last]
            while chain[-1].parent is not None and chain[-1].parent in by_revision:
                chain.append(by_revision[chain[-1].parent])
            lineages[name] = chain[::-1]
        return lineages

    def lives(self) -> Iterator[tuple[str, list[Version], bool]]:
        """Each job from its registration on: uid, its states, and whether it was removed at the end."""
        for lineage in self.lineages.values():
            life: list[Version] = []
            for version in lineage:
                if life and (version.job is None or version.job.uid != life[-1].job.uid):
                    yield life[-1].job.uid, life, True
                    life = []
                if version.job is not None:
                    life.append(version)
            if life:
                yield life[-1].job.uid, life, False

    def states(self, uid: str) -> list[Version]:
        """Every stored state of one job, on any branch, oldest first."""
        return [
            version
            for versions in self.versions.values()
            for version in versions
            if version.job is not None and version.job.uid == uid
        ]

    @cached_property
    def skips(self) -> dict[str, list[Skip]]:
        """The skip records that are stored in the end, by job uid."""
        skips: dict[str, list[Skip]] = {}
        for (database, _), leaves in self.final.leaves.items():
            body = leaves[0][1]
            if database.startswith("executions-") and body["kind"] == "skipped":
                skip = skip_of(understood(body))
                skips.setdefault(skip.uid, []).append(skip)
        return skips

    @cached_property
    def scheduled(self) -> dict[str, dict[str, datetime]]:
        """Instants of the occurrences of schedules that have a claim, by job uid and key."""
        found: dict[str, dict[str, datetime]] = {}
        for execution_id, attempt in self.attempts.items():
            uid, key, _ = parts_of(execution_id)
            if attempt.claims and not is_ulid(key):
                found.setdefault(uid, {})[key] = attempt.claims[0][1].scheduled_at
        return found

    @cached_property
    def acknowledged(self) -> set[tuple[str, str, str]]:
        """Database, id and revision of every plain success."""
        return {
            (event.database, event.id, event.revision or "")
            for event in self.history.of(Written)
            if event.kind == "done"
        }

    def faults(self, *kinds: str) -> list[Fault]:
        """The faults of some kinds."""
        return [event for event in self.history.of(Fault) if event.what in kinds]

    def clock_tolerance(self, since: float, until: float) -> timedelta:
        """How far off a leader's clock may have been at some time between two virtual seconds."""
        off = any(fault.at <= until and fault.until >= since for fault in self.faults("clock"))
        return CLOCK_OFF if off else CLOCK_RIGHT

    def true_time(self, at: float) -> datetime:
        """The instant of a virtual second."""
        return instant(at)


def _rank(version: Version, leaves: Any) -> tuple[bool, int, str]:
    winning = bool(leaves) and version.revision == leaves[0][0]
    generation, _, digest = version.revision.partition("-")
    return winning, int(generation), digest
