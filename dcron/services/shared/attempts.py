"""Reading what the database knows of attempts: claims on every leaf, outcomes, verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcron.domain.attempt_results import most_telling
from dcron.domain.documents import claim_of, outcome_of, verdict_id, verdict_of
from dcron.domain.model import Active, Claim, Outcome, Verdict
from dcron.ports import Document, DocumentStore, executions_database

__all__ = ["AttemptRecord", "database_of", "read_attempts"]

READ_BATCH = 500
"""Attempts in one read."""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """All that a quorum knows of one attempt."""

    claims: tuple[Claim, ...]
    outcomes: Mapping[str, Outcome]
    verdict: Verdict | None


def database_of(active: Active) -> str:
    """The month's database that keeps the executions of an occurrence."""
    return executions_database(active.occurrence.scheduled_at)


async def read_attempts(
    store: DocumentStore, database: str, execution_ids: Sequence[str]
) -> dict[str, AttemptRecord]:
    """Claims of all leaves, and the outcomes of all their tokens, from a quorum."""
    records: dict[str, AttemptRecord] = {}
    for start in range(0, len(execution_ids), READ_BATCH):
        batch = execution_ids[start : start + READ_BATCH]
        records |= await _read_batch(store, database, batch)
    return records


async def _read_batch(
    store: DocumentStore, database: str, execution_ids: Sequence[str]
) -> dict[str, AttemptRecord]:
    ids = [*execution_ids, *(verdict_id(identifier) for identifier in execution_ids)]
    found = dict(zip(ids, await store.read(database, ids), strict=True))
    claims = {
        identifier: tuple(claim_of(identifier, leaf.body) for leaf in found[identifier])
        for identifier in execution_ids
    }
    outcome_ids = [f"{claim.execution_id}:{claim.token}" for each in claims.values() for claim in each]
    leaves = await store.read(database, outcome_ids) if outcome_ids else []
    outcomes = {
        identifier: most_telling(outcome_of(leaf.body) for leaf in each)
        for identifier, each in zip(outcome_ids, leaves, strict=True)
        if each
    }
    return {
        identifier: AttemptRecord(
            claims[identifier],
            {
                claim.token: outcomes[f"{identifier}:{claim.token}"]
                for claim in claims[identifier]
                if f"{identifier}:{claim.token}" in outcomes
            },
            _verdict(found[verdict_id(identifier)]),
        )
        for identifier in execution_ids
    }


def _verdict(leaves: Sequence[Document]) -> Verdict | None:
    return verdict_of(leaves[0].body) if leaves else None
