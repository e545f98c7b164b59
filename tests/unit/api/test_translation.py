"""What gRPC's side tells the gate, and how the errors of dcron read in gRPC."""

from __future__ import annotations

import grpc
import pytest

from dcron.api.access import METHODS
from dcron.api.audit import CHANGES
from dcron.api.errors import status_of
from dcron.domain import errors
from dcron.domain.errors import (
    AlreadyExists,
    DcronError,
    FailedPrecondition,
    Forbidden,
    InvalidInput,
    NodeUnreachable,
    NotFound,
    NotUnderstood,
    ObjectsUnreachable,
    Overloaded,
    SetupError,
    SpoolFull,
    StoreUnreachable,
)
from dcron.services.clients.gate import RULES
from dcron.services.clients.revisions import StaleRevision

STATUS = {
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NodeUnreachable: grpc.StatusCode.UNAVAILABLE,
    NotFound: grpc.StatusCode.NOT_FOUND,
    NotUnderstood: grpc.StatusCode.FAILED_PRECONDITION,
    ObjectsUnreachable: grpc.StatusCode.UNAVAILABLE,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    SetupError: grpc.StatusCode.FAILED_PRECONDITION,
    SpoolFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    StaleRevision: grpc.StatusCode.ABORTED,
    StoreUnreachable: grpc.StatusCode.UNAVAILABLE,
}


@pytest.mark.parametrize(("kind", "status"), STATUS.items())
def test_an_error_has_a_status(kind: type[DcronError], status: grpc.StatusCode) -> None:
    error = InvalidInput("name", "is empty") if kind is InvalidInput else kind("why")
    assert status_of(error) is status


def test_the_table_above_has_every_error_that_the_domain_names() -> None:
    named = {getattr(errors, name) for name in errors.__all__}
    assert named - {DcronError} == set(STATUS) - {StaleRevision}


def test_every_method_has_the_name_by_which_the_gate_knows_it() -> None:
    assert METHODS["/dcron.v1.Public/PauseJob"] == "PauseJob"
    assert sorted(METHODS.values()) == sorted(RULES)


def test_whatever_is_recorded_can_be_put_in_words() -> None:
    assert set(CHANGES) == {name for name, rule in RULES.items() if rule.recorded}
