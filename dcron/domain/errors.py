"""Every error that dcron raises on purpose; the docstring of each says what it means to a person.

A lost race is never an error: it is a return value. An error here is bad input, or a peer that
cannot be reached, or a set-up that cannot work.
"""

from __future__ import annotations

__all__ = [
    "AlreadyExists",
    "DcronError",
    "FailedPrecondition",
    "Forbidden",
    "InvalidInput",
    "NodeUnreachable",
    "NotFound",
    "NotUnderstood",
    "ObjectsUnreachable",
    "Overloaded",
    "SetupError",
    "SpoolFull",
    "StoreUnreachable",
]


class DcronError(Exception):
    """Root of all errors that dcron raises on purpose."""

    code = "INTERNAL"
    """What it is to whoever called, by its name in google.rpc.Code. Records of changes use it, too."""


class InvalidInput(DcronError):
    """A value that a client gave cannot be accepted; `field` names it and the message the remedy."""

    code = "INVALID_ARGUMENT"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class NotFound(DcronError):
    """Nothing of that name or id is stored."""

    code = "NOT_FOUND"


class AlreadyExists(DcronError):
    """Something else has that name already."""

    code = "ALREADY_EXISTS"


class Forbidden(DcronError):
    """The caller's certificate does not have the role for what was asked."""

    code = "PERMISSION_DENIED"


class FailedPrecondition(DcronError):
    """The request is well-formed, but the present state of the job or cluster does not allow it."""

    code = "FAILED_PRECONDITION"


class NotUnderstood(FailedPrecondition):
    """A stored document makes no sense to this version: a newer one wrote it, or somebody spoilt it. It is
    left alone."""


class Overloaded(DcronError):
    """A named bound is reached; the same request may succeed later."""

    code = "RESOURCE_EXHAUSTED"


class SetupError(DcronError):
    """The configuration cannot work and waiting will not mend it: a wrong URL, refused credentials,
    a newer format of the stored data, a second node with the same id."""

    code = "FAILED_PRECONDITION"


class StoreUnreachable(DcronError):
    """The document store gave no answer in time, or a broken one. What was asked may or may not have
    been done."""

    code = "UNAVAILABLE"


class ObjectsUnreachable(DcronError):
    """The object store gave no answer in time, or a broken one."""

    code = "UNAVAILABLE"


class NodeUnreachable(DcronError):
    """Another node gave no answer in time. What was asked may or may not have been done."""

    code = "UNAVAILABLE"


class SpoolFull(DcronError):
    """The worker's disk takes no more; what was asked was not done: an attempt was not started, say."""

    code = "RESOURCE_EXHAUSTED"
