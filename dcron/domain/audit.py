"""Records of changes that clients asked for: who, from where, what, when, and what came of it.

A document for each change before it is made, and one with the results of all changes of a call after; created
and never updated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dcron.domain.access import Caller
from dcron.domain.instants import format_precise, parse_instant
from dcron.domain.records import Body

__all__ = [
    "DONE",
    "AuditPage",
    "AuditQuery",
    "AuditRecord",
    "Change",
    "is_result",
    "record_of",
    "request_body",
    "results_body",
    "results_id",
    "results_of",
]

MAX_SUBJECT_CHARACTERS = 200
MAX_VALUE_CHARACTERS = 500
"""Longest value in a record; the rest is cut: a record is about a change, and does not hold it."""
DONE = "OK"
"""The result of a change that was made; any other is the name of a gRPC status."""
_RESULT_SUFFIX = ":result"


@dataclass(frozen=True, slots=True)
class Change:
    """Change that a client asks for. `method` is the proto's, `subject` a job's name or an id; `content` is
    what is essential of the rest, and has no secrets."""

    method: str
    subject: str
    content: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One change as it was asked for of one node. `result` is empty where nobody knows what came of it."""

    id: str
    who: str
    address: str
    node_id: str
    change: Change
    asked_at: datetime
    result: str = ""
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Filter of records: None and "" mean any."""

    since: datetime | None = None
    until: datetime | None = None
    job: str = ""
    who: str = ""


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Records, newest first; `next_token` is empty where none follow."""

    records: tuple[AuditRecord, ...]
    next_token: str = ""


def results_id(record_ids: Sequence[str]) -> str:
    """Id of the document with the results of one call's changes: it sorts after all their records, and within
    the same millisecond."""
    return f"{max(record_ids)}{_RESULT_SUFFIX}"


def is_result(document_id: str) -> bool:
    """Whether an id is that of results."""
    return document_id.endswith(_RESULT_SUFFIX)


def request_body(caller: Caller, node_id: str, change: Change, asked_at: datetime) -> Body:
    """The document of a request."""
    return {
        "kind": "audit",
        "who": caller.name,
        "address": caller.address,
        "node": node_id,
        "method": change.method,
        "subject": change.subject[:MAX_SUBJECT_CHARACTERS],
        "content": {name: value[:MAX_VALUE_CHARACTERS] for name, value in change.content.items()},
        "asked_at": format_precise(asked_at),
    }


def results_body(results: Mapping[str, str], answered_at: datetime) -> Body:
    """The document of what came of each record of one call."""
    return {"kind": "audit_result", "results": dict(results), "answered_at": format_precise(answered_at)}


def results_of(body: Mapping[str, Any]) -> dict[str, tuple[str, datetime]]:
    """Result of each record, and when it came, from the document of results."""
    answered_at = parse_instant(body["answered_at"])
    return {record_id: (result, answered_at) for record_id, result in body["results"].items()}


def record_of(record_id: str, request: Mapping[str, Any], result: tuple[str, datetime] | None) -> AuditRecord:
    """The record of a request and its result; None where that is not there (yet)."""
    return AuditRecord(
        id=record_id,
        who=request["who"],
        address=request["address"],
        node_id=request["node"],
        change=Change(request["method"], request["subject"], request["content"]),
        asked_at=parse_instant(request["asked_at"]),
        result=result[0] if result else "",
        answered_at=result[1] if result else None,
    )
