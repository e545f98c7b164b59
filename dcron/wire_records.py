"""Messages of what is kept for good: revisions of jobs, and the record of changes."""

from __future__ import annotations

from dcron.domain.audit import AuditRecord
from dcron.domain.model import JobRevision
from dcron.rpc import dcron_pb2 as pb
from dcron.wire import maybe_timestamp, specification_message, timestamp

__all__ = ["audit_message", "revision_message"]


def revision_message(revision: JobRevision) -> pb.JobRevision:
    """One revision of a job."""
    specification = revision.specification
    return pb.JobRevision(
        job=revision.job,
        uid=revision.uid,
        revision=revision.revision,
        specification=specification_message(specification) if specification else None,
        paused=revision.paused,
        changed_at=timestamp(revision.changed_at),
        deleted=specification is None,
    )


def audit_message(record: AuditRecord) -> pb.AuditRecord:
    """The record of a change."""
    return pb.AuditRecord(
        id=record.id,
        asked_at=timestamp(record.asked_at),
        who=record.who,
        address=record.address,
        node_id=record.node_id,
        method=record.change.method,
        subject=record.change.subject,
        content=record.change.content,
        result=record.result,
        answered_at=maybe_timestamp(record.answered_at),
    )
