"""Which fields of a specification an update takes."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from dcron.domain.errors import InvalidInput
from dcron.rpc import dcron_pb2 as pb
from dcron.wire_requests import mask_from

WANTED = pb.Specification(schedule="@daily", timeout=Duration())


@pytest.mark.parametrize(
    ("paths", "fields"),
    [
        (["grace", "labels"], ["grace_seconds", "labels"]),
        (["labels", "labels"], ["labels"]),
        # Set is what was written down, be it 0.
        ([], ["schedule", "timeout_seconds"]),
    ],
)
def test_named_fields_are_taken_or_those_that_are_set(paths: list[str], fields: list[str]) -> None:
    assert mask_from(FieldMask(paths=paths), WANTED) == fields


def test_a_star_takes_every_field() -> None:
    assert len(mask_from(FieldMask(paths=["*"]), pb.Specification())) == len(
        pb.Specification.DESCRIPTOR.fields
    )


@pytest.mark.parametrize("paths", [["nonsense"], ["timeout", "uid"], ["script.sha256"], ["*", "labels"]])
def test_what_is_no_field_is_refused(paths: list[str]) -> None:
    with pytest.raises(
        InvalidInput, match=r"unknown: .*; name some of arguments, .*, or .\*. for all"
    ) as caught:
        mask_from(FieldMask(paths=paths), WANTED)
    assert caught.value.field == "update_mask"


def test_an_update_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no field is named or set"):
        mask_from(FieldMask(), pb.Specification())
