"""Mutants of the leader: what it believes, and what it launches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from dcron.domain.errors import StoreUnreachable
from dcron.domain.model import Job
from dcron.ports import Clock, DocumentStore
from dcron.services.book import JobBook
from dcron.services.elector import Elector
from dcron.services.reconciler import Reconciler
from dcron.services.tracker import Tracker
from tests.simulation.mutants.proxies import GenerousStore, WallClock, giving, together

__all__ = ["MUTANTS"]


def unsure_intent_is_extended() -> AbstractContextManager[Any]:
    """A job document that got 202 is launched from and written on."""
    return giving(JobBook, DocumentStore, GenerousStore)


def offer_without_intent() -> AbstractContextManager[Any]:
    """What is planned is offered whether or not the intent was written."""
    write = JobBook.write

    async def never_mind(self: JobBook, jobs: Sequence[Job]) -> list[bool]:
        try:
            await write(self, jobs)
        except StoreUnreachable:
            return [True] * len(jobs)
        return [True] * len(jobs)

    return patch.object(JobBook, "write", never_mind)


def silence_by_the_wall_clock() -> AbstractContextManager[Any]:
    """How long an execution has been silent is measured by the wall clock, and nobody is asked."""
    return together(
        giving(Tracker, Clock, WallClock),
        patch.object(Elector, "_clock_is_steady", lambda _: True),
        patch.object(Reconciler, "_ask", _nobody_answers),
    )


async def _nobody_answers(*_: Any) -> set[str]:
    return set()


def intents_are_not_taken_over() -> AbstractContextManager[Any]:
    """A new leader leaves alone what the last one intended and nobody claimed."""
    return patch.object(Reconciler, "offer_unclaimed", lambda _: None)


MUTANTS = {
    unsure_intent_is_extended: "bcd",
    offer_without_intent: "bcdhi",
    silence_by_the_wall_clock: "cdj",
    intents_are_not_taken_over: "h",
}
"""Each with the checkers that are to find it."""
