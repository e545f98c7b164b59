"""What clients asked to change: who, from where, what, when, and what came of it.

Two documents each, created and never updated: the request before the change is made, its result after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dcron.domain.access import Caller
from dcron.domain.documents import Body
from dcron.domain.instants import format_precise, parse_instant

__all__ = [
    "DONE",
    "AuditPage",
    "AuditQuery",
    "AuditRecord",
    "Change",
    "is_result",
    "record_id_of",
    "record_of",
    "request_body",
    "result_body",
    "result_id",
]

MAX_SUBJECT_CHARACTERS = 200
MAX_VALUE_CHARACTERS = 500
"""What is longer is cut: a record is about a change, and does not hold it."""
DONE = "OK"
"""The result of a change that was made; any other is the name of a gRPC status."""
_RESULT_SUFFIX = ":result"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be changed. `method` is the proto's, `subject` a job's name or an id; `content` is what is
    essential of the rest, and has no secrets."""

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
    """Which records: None and "" mean any. `limit` 0 means the usual number."""

    since: datetime | None = None
    until: datetime | None = None
    job: str = ""
    who: str = ""
    limit: int = 0


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Records, newest first. `searched_to` is set where the search ended at its bound: what is older was
    not looked at."""

    records: tuple[AuditRecord, ...]
    searched_to: datetime | None = None


def result_id(record_id: str) -> str:
    """Id of the document with the result."""
    return f"{record_id}{_RESULT_SUFFIX}"


def is_result(document_id: str) -> bool:
    """Whether an id is that of a result."""
    return document_id.endswith(_RESULT_SUFFIX)


def record_id_of(document_id: str) -> str:
    """The record that a document belongs to."""
    return document_id.removesuffix(_RESULT_SUFFIX)


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


def result_body(result: str, answered_at: datetime) -> Body:
    """The document of a result."""
    return {"kind": "audit_result", "result": result, "answered_at": format_precise(answered_at)}


def record_of(record_id: str, request: Mapping[str, Any], result: Mapping[str, Any] | None) -> AuditRecord:
    """The record of its documents; None where the second is not there (yet)."""
    return AuditRecord(
        id=record_id,
        who=request["who"],
        address=request["address"],
        node_id=request["node"],
        change=Change(request["method"], request["subject"], request["content"]),
        asked_at=parse_instant(request["asked_at"]),
        result=result["result"] if result else "",
        answered_at=parse_instant(result["answered_at"]) if result else None,
    )
