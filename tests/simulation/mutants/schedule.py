"""Mutants of the schedule: what is due, what is skipped, what a client's change does."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest.mock import patch

from dcron.domain import changes, planning
from dcron.domain.attempt_results import AttemptView, Result
from dcron.domain.model import Active, ClusterSettings, Job, State
from dcron.services.clients import catalogue
from dcron.services.leader import tracker
from dcron.services.leader.reconciler import Reconciler
from dcron.services.shared.cluster_settings import KnownSettings, read_settings
from tests.simulation.mutants.proxies import ListingStore, together

__all__ = ["MUTANTS"]


def resume_fires_for_the_past() -> AbstractContextManager[Any]:
    """What a pause held back is launched when it ends."""
    resume = changes.resume

    def with_the_past(job: Job, now: datetime) -> Job:
        resumed = resume(job, now)
        if not job.paused or job.place.paused_from is None:
            return resumed
        return replace(resumed, place=replace(resumed.place, next_at=job.place.paused_from))

    return patch.object(changes, "resume", with_the_past)


def coalesced_without_a_record() -> AbstractContextManager[Any]:
    """Occurrences that were waited out leave no record."""
    launch_due = planning._launch_due

    def silently(job: Job, moment: planning.Moment, due_at: datetime) -> planning.Step:
        step = launch_due(job, moment, due_at)
        return replace(step, job=replace(step.job, place=replace(step.job.place, skips=job.place.skips)))

    return patch.object(planning, "_launch_due", silently)


def overlap() -> AbstractContextManager[Any]:
    """An execution counts as ended as soon as it is claimed."""
    result_of = planning.result_of

    def hasty(job: Job, active: Active, view: AttemptView) -> Any:
        if view.claims:
            return Result(State.SUCCEEDED, (), retry=False, spends=False, why="was claimed")
        return result_of(job, active, view)

    return patch.object(planning, "result_of", hasty)


def impatient_retry() -> AbstractContextManager[Any]:
    """An execution counts as silent long before its timeout."""

    async def nobody_answers(*_: Any) -> set[str]:
        return set()

    return together(
        patch.object(tracker, "silence_limit_seconds", lambda *_: 1.0),
        patch.object(Reconciler, "_ask", nobody_answers),
    )


def skip_decided_from_a_listing() -> AbstractContextManager[Any]:
    """Whether the cluster is frozen, and so an occurrence is to be skipped, is read from a listing."""

    async def glance(known: KnownSettings) -> ClusterSettings:
        return await read_settings(ListingStore(known._store))

    return patch.object(KnownSettings, "read", glance)


def answered_before_the_instant() -> AbstractContextManager[Any]:
    """A change is answered though what was launched ahead of its instant has yet to start."""

    async def no_wait(*_: Any) -> None:
        return

    return patch.object(catalogue, "let_come", no_wait)


MUTANTS = {
    resume_fires_for_the_past: "i",
    coalesced_without_a_record: "b",
    overlap: "d",
    impatient_retry: "cdj",
    skip_decided_from_a_listing: "b",
    answered_before_the_instant: "i",
}
"""Each with the checkers that are to find it."""
