"""Mutants of the way from a script's end to the store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from dcron.ports import Document, DocumentStore, WriteKind, WriteResult
from dcron.services.shared import attempts
from dcron.services.worker.outbox import Outbox
from dcron.services.worker.spool import Spool
from dcron.services.worker.write_offs import WriteOffs
from tests.simulation.mutants.proxies import CredulousStore, ExtendingStore, OptimisticStore, giving, together

__all__ = ["MUTANTS"]


def unanswered_outcome_counts_as_stored() -> AbstractContextManager[Any]:
    """An outcome whose write was not answered is dropped from the spool."""
    return giving(Outbox, DocumentStore, OptimisticStore)


def unsure_outcome_is_extended() -> AbstractContextManager[Any]:
    """An outcome that got 202 is written again on top of itself."""
    return giving(Outbox, DocumentStore, ExtendingStore)


def spool_is_forgotten() -> AbstractContextManager[Any]:
    """A node that starts does not look at what its spool holds."""
    return patch.object(Spool, "entries", lambda _: [])


class _VerdictsWin:
    """Keeps back outcomes of executions that a person has settled."""

    def __init__(self, real: Any) -> None:
        self._real = real

    async def write(self, database: str, documents: Sequence[Document]) -> list[WriteResult]:
        ids = [f"{':'.join(document.id.split(':')[:3])}:verdict" for document in documents]
        if any(await self._real.read(database, ids)):
            return [WriteResult(WriteKind.DONE, "1-hidden")] * len(documents)
        return await self._real.write(database, documents)


def verdict_hides_the_outcome() -> AbstractContextManager[Any]:
    """What a person has settled is not overruled by what really happened."""
    return giving(Outbox, DocumentStore, _VerdictsWin)


async def _nothing_delivered(*_: Any) -> frozenset[str]:
    return frozenset()


def deliveries_are_forgotten() -> AbstractContextManager[Any]:
    """A node forgets what it delivered, and believes any copy of the store that knows of no outcome."""
    return together(
        patch.object(Outbox, "delivered", _nothing_delivered),
        giving(WriteOffs, DocumentStore, CredulousStore),
    )


def lost_leaf_wins() -> AbstractContextManager[Any]:
    """Of several leaves of an outcome, one that says `lost` and that the store happens to show first is all
    that is read."""
    return together(
        deliveries_are_forgotten(),
        patch.object(attempts, "most_telling", lambda leaves: next(iter(leaves))),
    )


MUTANTS = {
    unanswered_outcome_counts_as_stored: "f",
    unsure_outcome_is_extended: "e",
    spool_is_forgotten: "f",
    verdict_hides_the_outcome: "k",
    deliveries_are_forgotten: "fjk",
    lost_leaf_wins: "l",
}
"""Each with the checkers that are to find it."""
