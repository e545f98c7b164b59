"""Claims that a quorum is known to have, after a restart: no claim sent later can win their attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from dcron.domain.errors import StoreUnreachable
from dcron.domain.model import Claim
from dcron.ports import Document, DocumentStore, executions_database, generation

__all__ = ["ClaimConfirmer"]

TRIES = 3
TRY_AGAIN_SECONDS = 0.5
CONFIRM_BATCH = 500
"""Claims in one request."""

log = structlog.get_logger()


class ClaimConfirmer:
    """Has claims of which the answer may never have been heard kept by a quorum of the store."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    async def confirm(self, claims: Sequence[Claim]) -> frozenset[str]:
        """Tokens of the claims that a quorum has now, after TRIES tries at most.

        A claim that never arrived, one that the store does not confirm, and all while the store is away are
        left out."""
        left = {claim.token: claim for claim in claims}
        for number in range(TRIES):
            if number:
                await asyncio.sleep(TRY_AGAIN_SECONDS)
            try:
                for database, group in _by_database(list(left.values())):
                    for token in await self._confirm(database, group):
                        del left[token]
            except StoreUnreachable as error:
                log.warning("cannot confirm claims", action="confirm_claims", error=str(error))
            if not left:
                break
        return frozenset(claim.token for claim in claims if claim.token not in left)

    async def _confirm(self, database: str, claims: Sequence[Claim]) -> list[str]:
        found = await self._store.read(database, [claim.execution_id for claim in claims])
        own: list[tuple[str, Document]] = []
        for claim, leaves in zip(claims, found, strict=True):
            mine = [leaf for leaf in leaves if leaf.body.get("token") == claim.token]
            # Only what is as it was created can be confirmed; somebody changed the others by hand.
            own += [(claim.token, leaf) for leaf in mine if _is_as_created(leaf)]
            if not all(map(_is_as_created, mine)):
                log.error("claim was changed", action="confirm_claims", execution=claim.execution_id)
        if not own:
            return []
        confirmed = await self._store.confirm(database, [leaf for _, leaf in own])
        return [token for (token, _), done in zip(own, confirmed, strict=True) if done]


def _is_as_created(leaf: Document) -> bool:
    return leaf.revision is not None and generation(leaf.revision) == 1


def _by_database(claims: Sequence[Claim]) -> list[tuple[str, Sequence[Claim]]]:
    """The claims of each month, in requests of a bounded size."""
    of_month: dict[str, list[Claim]] = {}
    for claim in claims:
        of_month.setdefault(executions_database(claim.scheduled_at), []).append(claim)
    return [
        (database, group[start : start + CONFIRM_BATCH])
        for database, group in of_month.items()
        for start in range(0, len(group), CONFIRM_BATCH)
    ]
