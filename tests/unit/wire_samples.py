"""What the tests of messages have in common."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from dcron.domain.model import Script, Specification

UID = "01KB0000000000000000000001"
RUN = "01KB0000000000000000000009"
EXECUTION = f"{UID}:20260302T120000Z:002"
START = datetime(2026, 3, 2, 12, tzinfo=UTC)
SCRIPT = Script("a" * 64, 11, "script.sh")
SCRIPT_TEXT = {"sha256": "a" * 64, "size_bytes": "11", "file_name": "script.sh"}


def second(number: int) -> datetime:
    return START + timedelta(seconds=number)


def at(number: int) -> str:
    return f"2026-03-02T12:00:{number:02d}Z"


def told(message: Message) -> dict[str, Any]:
    """What a message says, as JSON has it: numbers of 64 bits are texts there."""
    return MessageToDict(message, preserving_proto_field_name=True)


def assert_says(message: Message, expected: dict[str, Any], *, never: frozenset[str] = frozenset()) -> None:
    """The message says exactly this, and that names all its fields but those in `never`."""
    assert told(message) == expected
    assert set(expected) == set(message.DESCRIPTOR.fields_by_name) - never


SPECIFICATION = Specification(
    schedule="@daily",
    script=SCRIPT,
    timezone="Europe/Berlin",
    interpreter="sh",
    arguments=("a", "b"),
    environment={"K": "V"},
    labels={"zone": "north"},
    timeout_seconds=61.0,
    grace_seconds=0.5,
    max_attempts=4,
    failure_retries=2,
)
