"""How a job is written down: its specification, and its place in the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcron.domain.documents import (
    REVISIONS_START,
    Body,
    coalesced_body,
    coalesced_of,
    instant_body,
    instant_of,
    script_body,
    script_of,
    skip_body,
    skip_of,
)
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

__all__ = ["job_body", "job_of", "revision_of", "specification_body", "specification_of"]


def job_body(job: Job) -> Body:
    """The document of a job; `next_at` and `active_since` are its index values."""
    place = job.place
    return {
        "kind": "job",
        "uid": job.uid,
        "revision": job.revision,
        "specification": specification_body(job.specification),
        "created_at": format_precise(job.created_at),
        "changed_at": format_precise(job.changed_at),
        "paused": job.paused,
        "next_at": instant_body(place.next_at),
        "active_since": _active_since(place),
        "place": {
            "sequence": place.sequence,
            "term": place.term,
            "counts_from": format_precise(place.counts_from),
            "paused_from": instant_body(place.paused_from),
            "active": _active_body(place.active) if place.active else None,
            "waiting": [run.request_id for run in place.waiting],
            "skips": [skip_body(skip) for skip in place.skips],
            "last": _last_body(place.last) if place.last else None,
        },
    }


def _active_since(place: Place) -> str | None:
    """Set while the leader has something left to do for the job, due or not."""
    if place.active:
        return format_precise(place.active.intended_at)
    if place.skips:
        return format_precise(place.skips[-1].until)
    return format_precise(place.counts_from) if place.waiting else None


def job_of(name: str, body: Mapping[str, Any]) -> Job:
    """The job of a document."""
    place = body["place"]
    uid = body["uid"]
    if not is_ulid(uid):
        raise ValueError(f"uid is not a ULID: {uid!r}")
    return Job(
        name=name,
        uid=uid,
        revision=body["revision"],
        specification=specification_of(body["specification"]),
        created_at=parse_instant(body["created_at"]),
        changed_at=parse_instant(body["changed_at"]),
        paused=body["paused"],
        place=Place(
            sequence=place["sequence"],
            term=place["term"],
            next_at=instant_of(body["next_at"]),
            counts_from=parse_instant(place["counts_from"]),
            paused_from=instant_of(place["paused_from"]),
            active=_active_of(uid, place["active"]) if place["active"] else None,
            waiting=tuple(ManualRun(request_id) for request_id in place["waiting"]),
            skips=tuple(skip_of(skip) for skip in place["skips"]),
            last=_last_of(place["last"]) if place["last"] else None,
        ),
    )


def revision_of(identifier: str, body: Mapping[str, Any]) -> JobRevision:
    """The revision of a document that keeps one."""
    uid, _, number = identifier.removeprefix(REVISIONS_START).partition(":")
    removed = body.get("deleted", False)
    return JobRevision(
        job=body["job"],
        uid=uid,
        revision=int(number),
        specification=None if removed else specification_of(body),
        paused=body.get("paused", False),
        changed_at=parse_instant(body["changed_at"]),
    )


def specification_body(specification: Specification) -> Body:
    """A specification as JSON."""
    return {
        "schedule": specification.schedule,
        "timezone": specification.timezone,
        "interpreter": specification.interpreter,
        "script": script_body(specification.script),
        "arguments": list(specification.arguments),
        "environment": dict(specification.environment),
        "labels": dict(specification.labels),
        "timeout_seconds": specification.timeout_seconds,
        "grace_seconds": specification.grace_seconds,
        "max_attempts": specification.max_attempts,
        "failure_retries": specification.failure_retries,
    }


def specification_of(body: Mapping[str, Any]) -> Specification:
    """The specification of a JSON body."""
    return Specification(
        schedule=body["schedule"],
        timezone=body["timezone"],
        interpreter=body["interpreter"],
        script=script_of(body["script"]),
        arguments=tuple(body["arguments"]),
        environment=body["environment"],
        labels=body["labels"],
        timeout_seconds=body["timeout_seconds"],
        grace_seconds=body["grace_seconds"],
        max_attempts=body["max_attempts"],
        failure_retries=body["failure_retries"],
    )


def _active_body(active: Active) -> Body:
    return {
        "occurrence": active.occurrence.key,
        "scheduled_at": format_instant(active.occurrence.scheduled_at),
        "manual": active.occurrence.manual,
        "attempt": active.attempt,
        "term": active.term,
        "intended_at": format_precise(active.intended_at),
        "coalesced": coalesced_body(active.coalesced),
        "spent": active.spent,
        "failures": active.failures,
        "avoid": list(active.avoid),
        "after": list(active.after),
        "revoked": active.revoked,
    }


def _active_of(uid: str, body: Mapping[str, Any]) -> Active:
    return Active(
        occurrence=Occurrence(
            uid, body["occurrence"], parse_instant(body["scheduled_at"]), manual=body["manual"]
        ),
        attempt=body["attempt"],
        term=body["term"],
        intended_at=parse_instant(body["intended_at"]),
        coalesced=coalesced_of(body["coalesced"]),
        spent=body["spent"],
        failures=body["failures"],
        avoid=tuple(body["avoid"]),
        after=tuple(body.get("after", ())),
        revoked=body.get("revoked", False),
    )


def _last_body(last: LastOutcome) -> Body:
    return {
        "execution": last.execution_id,
        "state": last.state.value,
        "settled_at": format_precise(last.settled_at),
    }


def _last_of(body: Mapping[str, Any]) -> LastOutcome:
    return LastOutcome(body["execution"], State(body["state"]), parse_instant(body["settled_at"]))
