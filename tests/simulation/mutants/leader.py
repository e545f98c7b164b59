"""Mutants of the leader: what it believes, and what it launches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from dcron.domain import attempt_results
from dcron.domain.attempt_results import AttemptView
from dcron.domain.errors import StoreUnreachable
from dcron.domain.model import Job
from dcron.domain.offers import OfferedAttempt
from dcron.ports import Clock, DocumentStore
from dcron.services.election import clock_check
from dcron.services.election.clock_check import ClockCheck
from dcron.services.election.terms import Terms
from dcron.services.leader import job_book, tracker
from dcron.services.leader.decider import Decider
from dcron.services.leader.dispatcher import Dispatcher
from dcron.services.leader.job_book import JobBook
from dcron.services.leader.reconciler import Reconciler
from dcron.services.leader.tracker import Tracked, Tracker
from tests.simulation.mutants.proxies import GenerousStore, ListingStore, WallClock, giving, together

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
        patch.object(ClockCheck, "is_steady", lambda _: True),
        patch.object(Reconciler, "_ask", _nobody_answers),
    )


async def _nobody_answers(*_: Any) -> set[str]:
    return set()


def intents_are_not_taken_over() -> AbstractContextManager[Any]:
    """A new leader leaves alone what the last one intended and nobody claimed."""
    return together(
        patch.object(Reconciler, "offer_unclaimed", lambda _: None),
        patch.object(Decider, "_waits_for_take_over", lambda *_: False),
    )


def what_is_pending_is_never_given_anew() -> AbstractContextManager[Any]:
    """What waits for a worker waits on as its job was when it began to."""
    add = Dispatcher.add

    def once(self: Dispatcher, attempt: OfferedAttempt, avoid: tuple[str, ...]) -> None:
        if self.pending(attempt.execution_id) is None:
            add(self, attempt, avoid)

    return together(
        patch.object(Dispatcher, "add", once),
        patch.object(Decider, "_is_offered_otherwise", lambda *_: False),
    )


def verified_by_a_listing() -> AbstractContextManager[Any]:
    """What became of an attempt is read from a listing."""
    read_attempts = tracker.read_attempts

    async def glance(store: Any, database: str, execution_ids: Sequence[str]) -> Any:
        return await read_attempts(ListingStore(store), database, execution_ids)

    return patch.object(tracker, "read_attempts", glance)


def not_started_is_believed_at_once() -> AbstractContextManager[Any]:
    """That nobody started an attempt counts while an offer of it can still become a claim, or has become one
    that the reading does not show."""
    return together(
        patch.object(Dispatcher, "is_closed", lambda *_: True),
        patch.object(Tracker, "accepted", lambda *_: None),
    )


def one_claimant_is_enough() -> AbstractContextManager[Any]:
    """An attempt is settled once one of those who claimed it has an outcome."""

    def any_has_spoken(view: AttemptView) -> bool:
        return view.verified and any(claim.token in view.outcomes for claim in view.claims)

    return patch.object(attempt_results, "_all_have_spoken", any_has_spoken)


def what_was_only_read_is_offered() -> AbstractContextManager[Any]:
    """A new leader offers from job documents that it has read and not written."""

    def as_held(self: JobBook, name: str) -> str | None:
        return self._held[name][1] if name in self._held else None

    return patch.object(JobBook, "confirmed_revision", as_held)


def winning_branch_is_all() -> AbstractContextManager[Any]:
    """Of a job document's branches the winner is taken, and what the others know is dropped."""
    return patch.object(job_book, "merge", lambda leaves, _: leaves[0])


def any_clock_may_lead() -> AbstractContextManager[Any]:
    """A node leads however far its clock is off."""
    return together(
        patch.object(clock_check, "MAX_OFFSET_SECONDS", float("inf")),
        patch.object(ClockCheck, "is_steady", lambda _: True),
    )


def each_term_waits_anew() -> AbstractContextManager[Any]:
    """What a claimant says of its rivals counts for nothing: each leader waits until no offer of an earlier
    one can become a claim."""
    return patch.object(Tracked, "closed_by_claimants", frozenset())


def silence_begins_anew_with_each_term() -> AbstractContextManager[Any]:
    """What earlier leaders have measured of the silence of claims is forgotten."""
    return patch.object(Terms, "_learn_claims", lambda *_: None)


MUTANTS = {
    unsure_intent_is_extended: "bcd",
    offer_without_intent: "bcdhi",
    silence_by_the_wall_clock: "bcdj",
    intents_are_not_taken_over: "h",
    what_is_pending_is_never_given_anew: "n",
    verified_by_a_listing: "cd",
    not_started_is_believed_at_once: "cd",
    one_claimant_is_enough: "cd",
    what_was_only_read_is_offered: "bcdhi",
    winning_branch_is_all: "bcdhi",
    any_clock_may_lead: "bi",
    each_term_waits_anew: "m",
    silence_begins_anew_with_each_term: "m",
}
"""Each with the checkers that are to find it."""
