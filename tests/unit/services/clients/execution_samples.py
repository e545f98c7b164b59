"""Executions of two jobs, and how they come into a store."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from dcron.domain.documents import claim_body, outcome_body, skip_record_body
from dcron.domain.execution_id import split_document_id
from dcron.domain.ids import new_ulid
from dcron.domain.model import Claim, Occurrence, Outcome, Skip, State
from dcron.ports import Document, executions_database
from tests.unit.services.doubles import SCRIPT, START, SplitStore

DAY = timedelta(days=1)
# Made before all that ran.
UID = new_ulid(START - 90 * DAY, b"j" * 10)
OTHER_UID = new_ulid(START - 90 * DAY, b"k" * 10)
NAME = "report"


def claim_at(at: datetime, attempt: int = 1, *, uid: str = UID, mark: str = "t1", request: str = "") -> Claim:
    occurrence = Occurrence.of_request(uid, request) if request else Occurrence.of_schedule(uid, at)
    name = NAME if uid == UID else "other"
    identifier = occurrence.attempt(attempt).text
    return Claim(
        identifier,
        mark,
        "n2",
        name,
        3,
        1,
        SCRIPT,
        occurrence.scheduled_at,
        bool(request),
        at + timedelta(seconds=attempt),
        30.0,
    )


def outcome_for(claim: Claim, state: State, **fields: object) -> Outcome:
    outcome = Outcome(claim.execution_id, claim.token, claim.node_id, state, claim.claimed_at + DAY / 100)
    return replace(outcome, **fields)


async def put(store: SplitStore, *items: Claim | Outcome | Skip) -> None:
    for item in items:
        if isinstance(item, Claim):
            document = Document(item.execution_id, claim_body(item))
        elif isinstance(item, Outcome):
            document = Document(item.id, outcome_body(item))
        else:
            document = Document(item.id, skip_record_body(item, NAME if item.uid == UID else "other"))
        parts = split_document_id(document.id)
        instant = parts[0].instant if parts else item.scheduled_at
        [result] = await store.write(executions_database(instant), [document])
        assert result.done
