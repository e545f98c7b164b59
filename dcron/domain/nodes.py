"""Record of a node in its own document, which nobody else writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dcron.domain.documents import instant_of
from dcron.domain.instants import format_precise, parse_instant

__all__ = ["MAX_REPORTED", "LeaderReport", "NodeRecord", "Waiting", "node_body", "node_of"]

MAX_REPORTED = 20
"""Waiting occurrences and executions needing attention that a leader's report names at most."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One attempt that is intended and not claimed yet, and why, in words."""

    job: str
    execution_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeaderReport:
    """Report of the leader, for every node to tell: at most MAX_REPORTED of each list."""

    alive: tuple[str, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    waiting_count: int = 0
    attention: tuple[str, ...] = ()
    active_count: int = 0
    claims_known_seconds: Mapping[str, float] | None = None
    """By token, for how long leaders have known a claim without outcome, at least; None from older nodes."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One node's document. `incarnation` is drawn at each start; `spool_id` stays with the spool's folder.

    `leading` is the term it leads or 0; `resigned` the last term it gave up by itself, or 0. Results in
    the spool wait since `spooled_since`. Older nodes tell neither that nor `lease_seconds` (0)."""

    node_id: str
    incarnation: str
    spool_id: str
    address: str
    version: str
    slots: int
    started_at: datetime
    renewed_at: datetime
    running: int = 0
    draining: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    spooled: int = 0
    warnings: tuple[str, ...] = ()
    leading: int = 0
    resigned: int = 0
    stopped: bool = False
    report: LeaderReport | None = None
    spooled_since: datetime | None = None
    lease_seconds: float = 0.0


def node_body(record: NodeRecord) -> dict[str, Any]:
    """The document of a node."""
    return {
        "kind": "node",
        "token": record.incarnation,
        "spool_id": record.spool_id,
        "address": record.address,
        "version": record.version,
        "slots": record.slots,
        "started_at": format_precise(record.started_at),
        "renewed_at": format_precise(record.renewed_at),
        "running": record.running,
        "draining": record.draining,
        "labels": dict(record.labels),
        "spooled": record.spooled,
        "warnings": list(record.warnings),
        "leading": record.leading,
        "resigned": record.resigned,
        "stopped": record.stopped,
        "report": _report_body(record.report) if record.report else None,
        "spooled_since": format_precise(record.spooled_since) if record.spooled_since else None,
        "lease_seconds": record.lease_seconds,
    }


def node_of(node_id: str, body: Mapping[str, Any]) -> NodeRecord:
    """The node of a document."""
    return NodeRecord(
        node_id=node_id,
        incarnation=body["token"],
        spool_id=body["spool_id"],
        address=body["address"],
        version=body["version"],
        slots=body["slots"],
        started_at=parse_instant(body["started_at"]),
        renewed_at=parse_instant(body["renewed_at"]),
        running=body["running"],
        draining=body["draining"],
        labels=body["labels"],
        spooled=body["spooled"],
        warnings=tuple(body["warnings"]),
        leading=body["leading"],
        resigned=body["resigned"],
        stopped=body["stopped"],
        report=_report_of(body["report"]) if body["report"] else None,
        spooled_since=instant_of(body.get("spooled_since")),
        lease_seconds=body.get("lease_seconds", 0.0),
    )


def _report_body(report: LeaderReport) -> dict[str, Any]:
    return {
        "alive": list(report.alive),
        "waiting": [
            {"job": waiting.job, "execution": waiting.execution_id, "reason": waiting.reason}
            for waiting in report.waiting
        ],
        "waiting_count": report.waiting_count,
        "attention": list(report.attention),
        "active_count": report.active_count,
        "claims_known_seconds": report.claims_known_seconds and dict(report.claims_known_seconds),
    }


def _report_of(body: Mapping[str, Any]) -> LeaderReport:
    return LeaderReport(
        alive=tuple(body["alive"]),
        waiting=tuple(
            Waiting(waiting["job"], waiting["execution"], waiting["reason"]) for waiting in body["waiting"]
        ),
        waiting_count=body["waiting_count"],
        attention=tuple(body["attention"]),
        active_count=body["active_count"],
        claims_known_seconds=body.get("claims_known_seconds"),
    )
