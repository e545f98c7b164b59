"""The form in which values are stored, written down by hand: other versions read it, so it does not change.

A test that only reads back what was written would not see another key, nor another `kind`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dcron.domain import documents, job_documents
from dcron.domain.model import (
    Active,
    Claim,
    ClusterSettings,
    Coalesced,
    Job,
    LastOutcome,
    LogObject,
    ManualRun,
    Occurrence,
    Outcome,
    Place,
    Script,
    Skip,
    SkipReason,
    Specification,
    State,
    Verdict,
    VerdictKind,
)
from dcron.services.clients.cluster import DRAIN_FORM, Drain

UID = "01KB0000000000000000000001"
RUN = "01KB0000000000000000000009"
START = datetime(2026, 3, 2, 12, tzinfo=UTC)
EXECUTION = f"{UID}:20260302T120000Z:002"
SCRIPT = Script("a" * 64, 11, "script.sh")
SCRIPT_BODY = {"sha256": "a" * 64, "size_bytes": 11, "file_name": "script.sh"}


def second(number: int) -> datetime:
    return START + timedelta(seconds=number)


def at(number: int) -> str:
    return f"2026-03-02T12:00:{number:02d}Z"


def precisely(number: int) -> str:
    return f"2026-03-02T12:00:{number:02d}.000000Z"


CLAIM = Claim(
    execution_id=EXECUTION,
    token="t",
    node_id="n1",
    job="backup",
    term=3,
    revision=4,
    script=SCRIPT,
    scheduled_at=second(5),
    manual=True,
    claimed_at=second(6),
    timeout_seconds=7.5,
    coalesced=Coalesced(second(8), 9),
)
CLAIM_BODY = {
    "kind": "claim",
    "token": "t",
    "node": "n1",
    "job": "backup",
    "term": 3,
    "revision": 4,
    "script": SCRIPT_BODY,
    "scheduled_at": at(5),
    "manual": True,
    "claimed_at": precisely(6),
    "timeout_seconds": 7.5,
    "coalesced": {"until": at(8), "count": 9},
}
OUTCOME = Outcome(
    execution_id=EXECUTION,
    token="t",
    node_id="n1",
    state=State.TIMED_OUT,
    finished_at=second(2),
    started_at=second(1),
    exit_code=3,
    signal=4,
    message="words",
    cpu_seconds=5.5,
    peak_memory_bytes=6,
    log=LogObject("logs/x", 7, 8),
    closes=True,
)
OUTCOME_BODY = {
    "kind": "outcome",
    "execution": EXECUTION,
    "token": "t",
    "node": "n1",
    "state": "timed_out",
    "state_at": f"timed_out {precisely(2)}",
    "started_at": precisely(1),
    "finished_at": precisely(2),
    "exit_code": 3,
    "signal": 4,
    "message": "words",
    "cpu_seconds": 5.5,
    "peak_memory_bytes": 6,
    "log": {"key": "logs/x", "size_bytes": 7, "cut_bytes": 8},
    "closes": True,
}
VERDICT = Verdict(EXECUTION, VerdictKind.RETRY, "ann", "seen", second(1))
VERDICT_BODY = {
    "kind": "verdict",
    "execution": EXECUTION,
    "verdict": "retry",
    "by": "ann",
    "reason": "seen",
    "at": precisely(1),
}
SKIP = Skip(UID, second(1), second(2), SkipReason.COALESCED, 3, "20260302T120000Z")
SKIP_BODY = {
    "kind": "skipped",
    "uid": UID,
    "scheduled_at": at(1),
    "until": at(2),
    "reason": "coalesced",
    "count": 3,
    "into": "20260302T120000Z",
}
SETTINGS = ClusterSettings(
    format_version=1,
    floor=second(1),
    frozen=True,
    frozen_at=second(2),
    sequence=3,
    thawed_at=second(4),
    said_at=second(5),
)
SETTINGS_BODY = {
    "kind": "settings",
    "format_version": 1,
    "floor": precisely(1),
    "frozen": True,
    "frozen_at": precisely(2),
    "thawed_at": precisely(4),
    "said_at": precisely(5),
    "sequence": 3,
}
SPECIFICATION = Specification(
    schedule="@daily",
    script=SCRIPT,
    timezone="Europe/Berlin",
    interpreter="sh",
    arguments=("a", "b"),
    environment={"K": "V"},
    labels={"zone": "north"},
    timeout_seconds=1.5,
    grace_seconds=2.5,
    max_attempts=4,
    failure_retries=5,
)
SPECIFICATION_BODY = {
    "schedule": "@daily",
    "timezone": "Europe/Berlin",
    "interpreter": "sh",
    "script": SCRIPT_BODY,
    "arguments": ["a", "b"],
    "environment": {"K": "V"},
    "labels": {"zone": "north"},
    "timeout_seconds": 1.5,
    "grace_seconds": 2.5,
    "max_attempts": 4,
    "failure_retries": 5,
}
JOB = Job(
    name="backup",
    uid=UID,
    revision=2,
    specification=SPECIFICATION,
    created_at=second(1),
    changed_at=second(2),
    paused=True,
    place=Place(
        sequence=3,
        term=4,
        next_at=second(5),
        counts_from=second(6),
        paused_from=second(7),
        active=Active(
            Occurrence.of_schedule(UID, START),
            2,
            8,
            second(9),
            coalesced=Coalesced(second(10), None),
            spent=11,
            failures=12,
            avoid=("n1",),
            after=("t",),
            revoked=True,
        ),
        waiting=(ManualRun(RUN),),
        skips=(SKIP,),
        last=LastOutcome(EXECUTION, State.LOST, second(13)),
    ),
)
JOB_BODY = {
    "kind": "job",
    "uid": UID,
    "revision": 2,
    "specification": SPECIFICATION_BODY,
    "created_at": precisely(1),
    "changed_at": precisely(2),
    "paused": True,
    "next_at": at(5),
    "active_since": precisely(9),
    "place": {
        "sequence": 3,
        "term": 4,
        "counts_from": precisely(6),
        "paused_from": at(7),
        "active": {
            "occurrence": "20260302T120000Z",
            "scheduled_at": at(0),
            "manual": False,
            "attempt": 2,
            "term": 8,
            "intended_at": precisely(9),
            "coalesced": {"until": at(10), "count": None},
            "spent": 11,
            "failures": 12,
            "avoid": ["n1"],
            "after": ["t"],
            "revoked": True,
        },
        "waiting": [RUN],
        "skips": [SKIP_BODY],
        "last": {"execution": EXECUTION, "state": "lost", "settled_at": precisely(13)},
    },
}


@pytest.mark.parametrize(
    ("written", "read", "value", "body"),
    [
        (documents.claim_body, lambda body: documents.claim_of(EXECUTION, body), CLAIM, CLAIM_BODY),
        (documents.outcome_body, documents.outcome_of, OUTCOME, OUTCOME_BODY),
        (documents.verdict_body, documents.verdict_of, VERDICT, VERDICT_BODY),
        (documents.skip_body, documents.skip_of, SKIP, SKIP_BODY),
        (documents.settings_body, documents.settings_of, SETTINGS, SETTINGS_BODY),
        (
            DRAIN_FORM.encode,
            lambda body: DRAIN_FORM.decode("drain:n1", body),
            Drain(draining=True, at=second(1)),
            {"kind": "drain", "draining": True, "at": precisely(1)},
        ),
        (job_documents.job_body, lambda body: job_documents.job_of("backup", body), JOB, JOB_BODY),
    ],
    ids=["claim", "outcome", "verdict", "skip", "settings", "drain", "job"],
)
def test_a_value_is_stored_in_this_form_and_no_other(
    written: Any, read: Any, value: Any, body: dict[str, Any]
) -> None:
    assert written(value) == body
    found = read(body)
    assert found == value
    assert found.unknown == {}


def test_a_skip_record_of_a_job_names_it_and_has_its_place_in_the_index() -> None:
    body = documents.skip_record_body(SKIP, "backup")
    assert body == {**SKIP_BODY, "job": "backup", "state_at": f"skipped {precisely(1)} {UID}"}
    assert documents.skip_of(body) == SKIP
    assert documents.skip_instant(SKIP.id) == second(1)
    assert documents.skip_instant(EXECUTION) is None


def test_a_revision_is_read_without_what_its_document_says_beside_the_specification() -> None:
    body = {
        "kind": "revision",
        "job": "backup",
        **SPECIFICATION_BODY,
        "paused": True,
        "changed_at": precisely(1),
    }
    kept = job_documents.revision_of(documents.revision_id(UID, 7), body)
    assert (kept.job, kept.uid, kept.revision, kept.specification) == ("backup", UID, 7, SPECIFICATION)
    assert (kept.paused, kept.changed_at) == (True, second(1))
    removed = {"kind": "revision", "job": "backup", "deleted": True, "changed_at": precisely(1)}
    assert job_documents.revision_of(documents.revision_id(UID, 8), removed).specification is None


def test_an_older_document_lacks_fields_that_have_a_default() -> None:
    older = {key: value for key, value in OUTCOME_BODY.items() if key != "closes"}
    assert documents.outcome_of(older) == replace(OUTCOME, closes=False)
