"""How the nouns are written down: JSON bodies and ids of the documents, both ways.

Bodies carry a `kind`. Unknown fields are ignored when read, so that nodes of two neighbouring versions
can share a cluster; a change that older nodes must not read raises FORMAT_VERSION.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dcron.domain.execution_id import ExecutionId
from dcron.domain.instants import format_instant, format_precise, parse_instant
from dcron.domain.model import (
    Claim,
    ClusterSettings,
    Coalesced,
    LogObject,
    Outcome,
    Script,
    Skip,
    SkipReason,
    State,
    Verdict,
    VerdictKind,
)

__all__ = [
    "FORMAT_VERSION",
    "INITIAL_SETTINGS",
    "REVISIONS_START",
    "SETTINGS_ID",
    "Body",
    "claim_body",
    "claim_of",
    "coalesced_body",
    "coalesced_of",
    "drain_id",
    "instant_body",
    "instant_of",
    "node_id_of",
    "node_key",
    "outcome_body",
    "outcome_of",
    "removal_id",
    "revision_id",
    "script_body",
    "script_of",
    "settings_body",
    "settings_of",
    "skip_body",
    "skip_instant",
    "skip_of",
    "skip_record_body",
    "state_key",
    "term_key",
    "verdict_body",
    "verdict_id",
    "verdict_of",
]

Body = dict[str, Any]

FORMAT_VERSION = 1
SETTINGS_ID = "settings"
INITIAL_SETTINGS = ClusterSettings(FORMAT_VERSION, floor=datetime(2000, 1, 1, tzinfo=UTC))
REVISIONS_START = "~"
"""Sorts after every job name, so that jobs are one range of ids and their revisions another."""


def revision_id(uid: str, revision: int) -> str:
    """Id of the document that keeps one revision of a job."""
    return f"{REVISIONS_START}{uid}:{revision:09d}"


def removal_id(name: str, uid: str) -> str:
    """Id of the document by which a removed job is found by its name."""
    return f"{REVISIONS_START}removed:{name}:{uid}"


def term_key(term: int) -> str:
    """Id of a term's document."""
    return f"term:{term:012d}"


def node_key(node_id: str) -> str:
    """Id of a node's document."""
    return f"node:{node_id}"


def node_id_of(key: str) -> str:
    """The node id in `node_key` or `drain_id`."""
    return key.split(":", 1)[1]


def drain_id(node_id: str) -> str:
    """Id of the document that says whether a node drains."""
    return f"drain:{node_id}"


def verdict_id(execution_id: str) -> str:
    """Id of a person's word on an execution."""
    return f"{execution_id}:verdict"


def state_key(state: State, finished_at: datetime) -> str:
    """Value of the `state_at` index: outcomes of one state, by time."""
    return f"{state.value} {format_precise(finished_at)}"


def claim_body(claim: Claim) -> Body:
    """The document of a claim."""
    return {
        "kind": "claim",
        "token": claim.token,
        "node": claim.node_id,
        "job": claim.job,
        "term": claim.term,
        "revision": claim.revision,
        "script": script_body(claim.script),
        "scheduled_at": format_instant(claim.scheduled_at),
        "manual": claim.manual,
        "claimed_at": format_precise(claim.claimed_at),
        "timeout_seconds": claim.timeout_seconds,
        "coalesced": coalesced_body(claim.coalesced),
    }


def claim_of(identifier: str, body: Mapping[str, Any]) -> Claim:
    """The claim of a document."""
    return Claim(
        execution_id=identifier,
        token=body["token"],
        node_id=body["node"],
        job=body["job"],
        term=body["term"],
        revision=body["revision"],
        script=script_of(body["script"]),
        scheduled_at=parse_instant(body["scheduled_at"]),
        manual=body["manual"],
        claimed_at=parse_instant(body["claimed_at"]),
        timeout_seconds=body["timeout_seconds"],
        coalesced=coalesced_of(body["coalesced"]),
    )


def outcome_body(outcome: Outcome) -> Body:
    """The document of an outcome; `state_at` is its index value."""
    log = outcome.log
    return {
        "kind": "outcome",
        "execution": outcome.execution_id,
        "token": outcome.token,
        "node": outcome.node_id,
        "state": outcome.state.value,
        "state_at": state_key(outcome.state, outcome.finished_at),
        "started_at": format_precise(outcome.started_at) if outcome.started_at else None,
        "finished_at": format_precise(outcome.finished_at),
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "message": outcome.message,
        "cpu_seconds": outcome.cpu_seconds,
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "log": {"key": log.key, "size_bytes": log.size_bytes, "cut_bytes": log.cut_bytes} if log else None,
        "closes": outcome.closes,
    }


def outcome_of(body: Mapping[str, Any]) -> Outcome:
    """The outcome of a document."""
    log = body["log"]
    return Outcome(
        execution_id=body["execution"],
        token=body["token"],
        node_id=body["node"],
        state=State(body["state"]),
        started_at=instant_of(body["started_at"]),
        finished_at=parse_instant(body["finished_at"]),
        exit_code=body["exit_code"],
        signal=body["signal"],
        message=body["message"],
        cpu_seconds=body["cpu_seconds"],
        peak_memory_bytes=body["peak_memory_bytes"],
        log=LogObject(log["key"], log["size_bytes"], log["cut_bytes"]) if log else None,
        closes=body.get("closes", False),
    )


def verdict_body(verdict: Verdict) -> Body:
    """The document of a verdict."""
    return {
        "kind": "verdict",
        "execution": verdict.execution_id,
        "verdict": verdict.kind.value,
        "by": verdict.by,
        "reason": verdict.reason,
        "at": format_precise(verdict.at),
    }


def verdict_of(body: Mapping[str, Any]) -> Verdict:
    """The verdict of a document."""
    return Verdict(
        body["execution"], VerdictKind(body["verdict"]), body["by"], body["reason"], parse_instant(body["at"])
    )


def skip_body(skip: Skip) -> Body:
    """A skip inside a job document."""
    return {
        "kind": "skipped",
        "uid": skip.uid,
        "scheduled_at": format_instant(skip.scheduled_at),
        "until": format_instant(skip.until),
        "reason": skip.reason.value,
        "count": skip.count,
        "into": skip.into,
    }


def skip_record_body(skip: Skip, job: str) -> Body:
    """The document of a skip that is kept with a job's executions; `state_at` is its index value."""
    state_at = f"skipped {format_precise(skip.scheduled_at)} {skip.uid}"
    return {**skip_body(skip), "job": job, "state_at": state_at}


def skip_instant(identifier: str) -> datetime | None:
    """The first instant of a skip record by its id, which names the month's database; None for other ids."""
    occurrence, kind, _ = identifier.partition(":skipped:")
    parsed = ExecutionId.parse_or_none(f"{occurrence}:001") if kind else None
    return parsed.instant if parsed else None


def skip_of(body: Mapping[str, Any]) -> Skip:
    """The skip of a document."""
    return Skip(
        uid=body["uid"],
        scheduled_at=parse_instant(body["scheduled_at"]),
        until=parse_instant(body["until"]),
        reason=SkipReason(body["reason"]),
        count=body["count"],
        into=body["into"],
    )


def settings_body(settings: ClusterSettings) -> Body:
    """The document of what holds for the whole cluster."""
    return {
        "kind": "settings",
        "format_version": settings.format_version,
        "floor": format_precise(settings.floor),
        "frozen": settings.frozen,
        "frozen_at": format_precise(settings.frozen_at) if settings.frozen_at else None,
        "thawed_at": format_precise(settings.thawed_at) if settings.thawed_at else None,
        "said_at": format_precise(settings.said_at) if settings.said_at else None,
        "sequence": settings.sequence,
    }


def settings_of(body: Mapping[str, Any]) -> ClusterSettings:
    """The settings of a document."""
    return ClusterSettings(
        format_version=body["format_version"],
        floor=parse_instant(body["floor"]),
        frozen=body["frozen"],
        frozen_at=instant_of(body["frozen_at"]),
        thawed_at=instant_of(body.get("thawed_at")),
        said_at=instant_of(body.get("said_at")),
        sequence=body["sequence"],
    )


def script_body(script: Script) -> Body:
    """A script's address as JSON."""
    return {"sha256": script.sha256, "size_bytes": script.size_bytes, "file_name": script.file_name}


def script_of(body: Mapping[str, Any]) -> Script:
    """The script of a JSON body."""
    return Script(body["sha256"], body["size_bytes"], body["file_name"])


def coalesced_body(coalesced: Coalesced | None) -> Body | None:
    """What one execution stands for, as JSON."""
    return {"until": format_instant(coalesced.until), "count": coalesced.count} if coalesced else None


def coalesced_of(body: Mapping[str, Any] | None) -> Coalesced | None:
    """What a JSON body says that one execution stands for."""
    return Coalesced(parse_instant(body["until"]), body["count"]) if body else None


def instant_body(instant: datetime | None) -> str | None:
    """A scheduled instant as JSON."""
    return format_instant(instant) if instant else None


def instant_of(text: str | None) -> datetime | None:
    """The instant of a JSON value."""
    return parse_instant(text) if text else None
