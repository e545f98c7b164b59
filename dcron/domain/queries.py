"""Filters of lists of jobs and executions, and whether one passes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, Literal

from dcron.domain.model import Job, State
from dcron.domain.views import ExecutionView, SkippedView

__all__ = ["SKIPPED", "ExecutionQuery", "JobQuery", "JobState", "Listed", "StateFilter"]

SKIPPED: Final = "skipped"
StateFilter = State | Literal["skipped"]
Listed = ExecutionView | SkippedView


class JobState(Enum):
    """State of a job. A paused one may be at work on what was launched before."""

    IDLE = "idle"
    ACTIVE = "active"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Filter of jobs: those that meet everything that is given; of several states any one will do."""

    name_prefix: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    """Labels that its specification has, sorted by name."""
    states: tuple[JobState, ...] = ()
    last_states: tuple[State, ...] = ()
    """End of its last settled occurrence."""

    @property
    def is_selective(self) -> bool:
        """Whether jobs of the prefix may fail to meet it."""
        return bool(self.labels or self.states or self.last_states)

    def matches(self, job: Job) -> bool:
        """Whether a job of the prefix is among them."""
        labels = job.specification.labels
        if any(labels.get(name) != value for name, value in self.labels):
            return False
        if self.states and not _states_of(job) & set(self.states):
            return False
        last = job.place.last
        return not self.last_states or (last is not None and last.state in self.last_states)


def _states_of(job: Job) -> set[JobState]:
    states = {JobState.PAUSED} if job.paused else set()
    if job.place.active is not None:
        states.add(JobState.ACTIVE)
    return states or {JobState.IDLE}


@dataclass(frozen=True, slots=True)
class ExecutionQuery:
    """Filter of executions and skip records; what is empty or None lets any pass.

    Without states, skip records are listed of one job only."""

    job: str = ""
    """The job's name, or its uid, which tells it from others that had the name."""
    states: tuple[StateFilter, ...] = ()
    node_id: str = ""
    scheduled_from: datetime | None = None
    scheduled_until: datetime | None = None
    """Scheduled before this instant."""
    manual: bool | None = None
    oldest_first: bool = False

    @property
    def is_of_the_past(self) -> bool:
        """Whether only what has ended, or was skipped, is asked for."""
        return bool(self.states) and State.RUNNING not in self.states

    def reaches(self, scheduled_at: datetime, *, manual: bool) -> bool:
        """Whether an occurrence of this instant and kind can be among them, by its key alone."""
        if self.manual is not None and self.manual is not manual:
            return False
        if self.scheduled_from is not None and scheduled_at < self.scheduled_from:
            return False
        return self.scheduled_until is None or scheduled_at < self.scheduled_until

    def matches(self, listed: Listed) -> bool:
        """Whether what a key lets expect is among them."""
        if isinstance(listed, SkippedView):
            return not self.node_id and (SKIPPED in self.states or not self.states)
        if self.node_id and listed.claim.node_id != self.node_id:
            return False
        return not self.states or listed.state in self.states
