"""What messages say of what is kept, held field by field; see test_wire.py."""

from __future__ import annotations

from dataclasses import replace

from dcron import wire_records
from dcron.domain.audit import AuditRecord, Change
from dcron.domain.model import JobRevision
from dcron.wire import specification_message
from tests.unit.wire_samples import SPECIFICATION, UID, assert_says, at, second, told


def test_a_record_of_a_change_says_all_of_itself() -> None:
    change = Change("PauseJob", "backup", {"reason": "x"})
    record = AuditRecord("id", "ann", "host", "n1", change, second(1), "OK", second(2))
    assert_says(
        wire_records.audit_message(record),
        {
            "id": "id",
            "asked_at": at(1),
            "who": "ann",
            "address": "host",
            "node_id": "n1",
            "method": "PauseJob",
            "subject": "backup",
            "content": {"reason": "x"},
            "result": "OK",
            "answered_at": at(2),
        },
    )


def test_a_revision_says_all_of_itself() -> None:
    revision = JobRevision("backup", UID, 7, SPECIFICATION, paused=True, changed_at=second(1))
    expected = {
        "job": "backup",
        "uid": UID,
        "revision": "7",
        "specification": told(specification_message(SPECIFICATION)),
        "paused": True,
        "changed_at": at(1),
    }
    assert_says(wire_records.revision_message(revision), expected, never=frozenset({"deleted"}))
    removal = told(wire_records.revision_message(replace(revision, specification=None)))
    del expected["specification"]
    assert removal == {**expected, "deleted": True}
