"""JSON bodies and ids of the documents, both ways.

Bodies carry a `kind`. What this version does not know of a body is kept and written again, so that nodes of
two neighbouring versions can share a cluster; a change that older nodes must not read raises FORMAT_VERSION.
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
from dcron.domain.records import Body, Field, Record, Unrecognized, maybe, one, word

__all__ = [
    "COALESCED",
    "FORMAT_VERSION",
    "INITIAL_SETTINGS",
    "INSTANT",
    "MAYBE_INSTANT",
    "MAYBE_PRECISE",
    "PRECISE",
    "REVISIONS_START",
    "SCRIPT",
    "SETTINGS_ID",
    "SKIP",
    "claim_body",
    "claim_of",
    "drain_id",
    "instant_body",
    "instant_of",
    "node_id_of",
    "node_key",
    "outcome_body",
    "outcome_of",
    "removal_id",
    "revision_id",
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

FORMAT_VERSION = 1
SETTINGS_ID = "settings"
INITIAL_SETTINGS = ClusterSettings(FORMAT_VERSION, floor=datetime(2000, 1, 1, tzinfo=UTC))
REVISIONS_START = "~"
"""Sorts after every job name, so that jobs are one range of ids and their revisions another."""


def instant_body(instant: datetime | None) -> str | None:
    """A scheduled instant as JSON."""
    return format_instant(instant) if instant else None


def _precise_body(instant: datetime | None) -> str | None:
    return format_precise(instant) if instant else None


def instant_of(text: str | None) -> datetime | None:
    """The instant of a JSON value."""
    return parse_instant(text) if text else None


INSTANT = Field(encode=format_instant, decode=parse_instant)
PRECISE = Field(encode=format_precise, decode=parse_instant)
MAYBE_INSTANT = Field(encode=instant_body, decode=instant_of)
MAYBE_PRECISE = Field(encode=_precise_body, decode=instant_of)

SCRIPT = Record(Script)
COALESCED = Record(Coalesced, until=INSTANT)
SKIP = Record(
    Skip,
    document="skipped",
    beside=["job", "state_at"],
    scheduled_at=INSTANT,
    until=INSTANT,
    reason=word(SkipReason),
)
_CLAIM = Record(
    Claim,
    document="claim",
    given=["execution_id"],
    node_id=Field("node"),
    script=one(SCRIPT),
    scheduled_at=INSTANT,
    claimed_at=PRECISE,
    coalesced=maybe(COALESCED),
)
_OUTCOME = Record(
    Outcome,
    document="outcome",
    beside=["state_at"],
    execution_id=Field("execution"),
    node_id=Field("node"),
    state=word(State),
    started_at=MAYBE_PRECISE,
    finished_at=PRECISE,
    log=maybe(Record(LogObject)),
)
_VERDICT = Record(
    Verdict,
    document="verdict",
    execution_id=Field("execution"),
    kind=word(VerdictKind, "verdict"),
    at=PRECISE,
)
_SETTINGS = Record(
    ClusterSettings,
    document="settings",
    floor=PRECISE,
    frozen_at=MAYBE_PRECISE,
    thawed_at=MAYBE_PRECISE,
    said_at=MAYBE_PRECISE,
)


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


def state_key(state: State | Unrecognized, finished_at: datetime) -> str:
    """Value of the `state_at` index: outcomes of one state, by time."""
    return f"{state.value} {format_precise(finished_at)}"


def claim_body(claim: Claim) -> Body:
    """The document of a claim."""
    return _CLAIM.body(claim)


def claim_of(identifier: str, body: Mapping[str, Any]) -> Claim:
    """The claim of a document."""
    return _CLAIM.value(body, execution_id=identifier)


def outcome_body(outcome: Outcome) -> Body:
    """The document of an outcome; `state_at` is its index value."""
    return _OUTCOME.body(outcome, state_at=state_key(outcome.state, outcome.finished_at))


def outcome_of(body: Mapping[str, Any]) -> Outcome:
    """The outcome of a document."""
    return _OUTCOME.value(body)


def verdict_body(verdict: Verdict) -> Body:
    """The document of a verdict."""
    return _VERDICT.body(verdict)


def verdict_of(body: Mapping[str, Any]) -> Verdict:
    """The verdict of a document."""
    return _VERDICT.value(body)


def skip_body(skip: Skip) -> Body:
    """A skip inside a job document."""
    return SKIP.body(skip)


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
    return SKIP.value(body)


def settings_body(settings: ClusterSettings) -> Body:
    """The document of what holds for the whole cluster."""
    return _SETTINGS.body(settings)


def settings_of(body: Mapping[str, Any]) -> ClusterSettings:
    """The settings of a document."""
    return _SETTINGS.value(body)
