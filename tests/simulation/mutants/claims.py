"""Mutants of the worker: who may start what."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from dcron.domain.model import State
from dcron.domain.offers import ClaimReference, KnownClaims
from dcron.ports import DocumentStore, ProcessStart
from dcron.services.worker.executor import Executor
from dcron.services.worker.worker import Worker
from tests.simulation.mutants.proxies import GenerousStore, OptimisticStore, giving

__all__ = ["MUTANTS"]

NEWEST = sys.maxsize
"""Number of an offer that is newer than any other."""


def claim_after_start() -> AbstractContextManager[Any]:
    """Scripts start at once, and the claims are written meanwhile."""
    write_claims = Worker._write_claims

    async def claimed_later(self: Worker, entries: list[Any]) -> set[str]:
        self._begin(write_claims(self, entries))
        return {entry.claim.token for entry in entries}

    return patch.object(Worker, "_write_claims", claimed_later)


def unsure_claim_is_a_win() -> AbstractContextManager[Any]:
    """A claim that got 202 starts."""
    return giving(Worker, DocumentStore, GenerousStore)


def unanswered_claim_is_a_win() -> AbstractContextManager[Any]:
    """A claim whose write was not answered starts."""
    return giving(Worker, DocumentStore, OptimisticStore)


def older_terms_are_obeyed() -> AbstractContextManager[Any]:
    """Offers of older terms are taken."""
    refusal = Worker._refusal

    def any_term(self: Worker, term: int, _: int) -> Any:
        return refusal(self, max(term, self._local.newest_term), NEWEST)

    return patch.object(Worker, "_refusal", any_term)


def late_start() -> AbstractContextManager[Any]:
    """A script starts however long ago it was claimed."""
    process = Executor._process

    def whenever(self: Executor, launch: Any) -> ProcessStart:
        return replace(process(self, launch), not_after_boottime=float("inf"))

    return patch.object(Executor, "_process", whenever)


def claimed_ahead_starts_at_once() -> AbstractContextManager[Any]:
    """What is claimed ahead of its instant starts before it."""

    async def no_wait(_: Executor, launches: list[Any], __: float) -> list[Any]:
        return launches

    return patch.object(Executor, "_await_instant", no_wait)


def living_claims_are_written_off() -> AbstractContextManager[Any]:
    """A worker that is asked for its claims writes off what it runs."""

    async def forget(self: Worker, _: str, claims: Sequence[ClaimReference]) -> KnownClaims:
        for claim in claims:
            entry = self._executor.entry_of(claim.execution_id)
            if entry is not None and self._executor.is_running(entry):
                self._executor.refuse(entry, "forgotten", State.LOST)
        return KnownClaims(frozenset())

    return patch.object(Worker, "known_claims", forget)


MUTANTS = {
    claim_after_start: "a",
    unsure_claim_is_a_win: "ac",
    unanswered_claim_is_a_win: "a",
    older_terms_are_obeyed: "g",
    late_start: "acdf",
    claimed_ahead_starts_at_once: "b",
    living_claims_are_written_off: "fj",
}
"""Each with the checkers that are to find it."""
