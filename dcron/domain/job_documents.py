"""JSON of a job: its specification, and its place in the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcron.domain.documents import (
    COALESCED,
    MAYBE_INSTANT,
    PRECISE,
    REVISIONS_START,
    SCRIPT,
    SKIP,
    instant_body,
    instant_of,
)
from dcron.domain.errors import NotUnderstood
from dcron.domain.ids import is_ulid
from dcron.domain.instants import format_instant, format_precise, parse_instant
from dcron.domain.model import (
    Active,
    Job,
    JobRevision,
    LastOutcome,
    ManualRun,
    Occurrence,
    Place,
    Specification,
    State,
)
from dcron.domain.records import Body, Field, Record, maybe, one, several, word

__all__ = ["job_body", "job_of", "revision_of", "specification_body", "specification_of"]

REVISION_BESIDE = frozenset({"kind", "job", "deleted", "paused", "changed_at"})
"""What the document of a revision says beside the members of its specification."""
_SPOILT = (AttributeError, KeyError, TypeError, ValueError)
"""Exceptions that reading a body raises where it is not as this version writes it."""
TEXTS = Field(encode=list, decode=tuple)

_SPECIFICATION = Record(Specification, script=one(SCRIPT), arguments=TEXTS)
_ACTIVE = Record(
    Active,
    given=["occurrence"],
    beside=["occurrence", "scheduled_at", "manual"],
    intended_at=PRECISE,
    coalesced=maybe(COALESCED),
    avoid=TEXTS,
    after=TEXTS,
)
_RUN = Record(ManualRun)
_LAST = Record(LastOutcome, execution_id=Field("execution"), state=word(State), settled_at=PRECISE)
_PLACE = Record(
    Place,
    given=["next_at", "active"],
    beside=["active"],
    counts_from=PRECISE,
    paused_from=MAYBE_INSTANT,
    waiting=Field(
        encode=lambda runs: [_run_body(run) for run in runs],
        decode=lambda bodies: tuple(_run_of(body) for body in bodies),
    ),
    skips=several(SKIP),
    last=maybe(_LAST),
)
_JOB = Record(
    Job,
    document="job",
    given=["name", "place"],
    beside=["next_at", "active_since", "place"],
    specification=one(_SPECIFICATION),
    created_at=PRECISE,
    changed_at=PRECISE,
)


def job_body(job: Job) -> Body:
    """The document of a job; `next_at` and `active_since` are its index values."""
    place = job.place
    return _JOB.body(
        job,
        next_at=instant_body(place.next_at),
        active_since=_active_since(place),
        place=_PLACE.body(place, active=_active_body(place.active) if place.active else None),
    )


def _active_since(place: Place) -> str | None:
    """Set while the leader has something left to do for the job, due or not."""
    if place.active:
        return format_precise(place.active.intended_at)
    if place.skips:
        return format_precise(place.skips[-1].until)
    return format_precise(place.counts_from) if place.waiting else None


def job_of(name: str, body: Mapping[str, Any]) -> Job:
    """The job of a document; NotUnderstood when this version can make nothing of it."""
    try:
        return _job_of(name, body)
    except _SPOILT as error:
        raise _not_understood(f"the document of job {name!r}", error) from error


def _not_understood(what: str, error: Exception) -> NotUnderstood:
    return NotUnderstood(
        f"{what} is left alone, for this node does not understand it ({error!r}): "
        "it was written by a newer version of dcron, or spoilt; upgrade this node, or ask a newer one"
    )


def _job_of(name: str, body: Mapping[str, Any]) -> Job:
    uid, place = body["uid"], body["place"]
    if not is_ulid(uid):
        raise ValueError(f"uid is not a ULID: {uid!r}")
    return _JOB.value(
        body,
        name=name,
        place=_PLACE.value(
            place,
            next_at=instant_of(body["next_at"]),
            active=_active_of(uid, place["active"]) if place["active"] else None,
        ),
    )


def revision_of(identifier: str, body: Mapping[str, Any]) -> JobRevision:
    """The revision of a document that keeps one; NotUnderstood when this version can make nothing of it."""
    try:
        return _revision_of(identifier, body)
    except _SPOILT as error:
        raise _not_understood(f"the document of revision {identifier!r}", error) from error


def _revision_of(identifier: str, body: Mapping[str, Any]) -> JobRevision:
    uid, _, number = identifier.removeprefix(REVISIONS_START).partition(":")
    removed = body.get("deleted", False)
    wanted = {key: value for key, value in body.items() if key not in REVISION_BESIDE}
    return JobRevision(
        job=body["job"],
        uid=uid,
        revision=int(number),
        specification=None if removed else specification_of(wanted),
        paused=body.get("paused", False),
        changed_at=parse_instant(body["changed_at"]),
    )


def specification_body(specification: Specification) -> Body:
    """A specification as JSON."""
    return _SPECIFICATION.body(specification)


def specification_of(body: Mapping[str, Any]) -> Specification:
    """The specification of a JSON body."""
    return _SPECIFICATION.value(body)


def _active_body(active: Active) -> Body:
    return _ACTIVE.body(
        active,
        occurrence=active.occurrence.key,
        scheduled_at=format_instant(active.occurrence.scheduled_at),
        manual=active.occurrence.manual,
    )


def _active_of(uid: str, body: Mapping[str, Any]) -> Active:
    scheduled_at = parse_instant(body["scheduled_at"])
    occurrence = Occurrence(uid, body["occurrence"], scheduled_at, manual=body["manual"])
    return _ACTIVE.value(body, occurrence=occurrence)


def _run_body(run: ManualRun) -> Body | str:
    """Its request alone, as long as there is nothing else to say of a run."""
    return _RUN.body(run) if run.unknown else run.request_id


def _run_of(body: Mapping[str, Any] | str) -> ManualRun:
    return ManualRun(body) if isinstance(body, str) else _RUN.value(body)
