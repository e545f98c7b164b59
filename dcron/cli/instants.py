"""Instants as people write them: 2026-11-23T13:00, or how long ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
from google.protobuf.timestamp_pb2 import Timestamp

from dcron.cli.durations import parse_duration

__all__ = ["PastType", "stamp"]


class PastType(click.ParamType[datetime]):
    """An instant, or how long ago it was."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """An aware instant, or a usage error; one without an offset is in UTC."""
        if isinstance(value, datetime):
            return value
        text = str(value)
        # Before spans: the eight digits of a date are no seconds.
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            return self._ago(text)
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)

    def _ago(self, text: str) -> datetime:
        try:
            return datetime.now(UTC) - timedelta(seconds=parse_duration(text))
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is neither a time such as 2026-11-23T13:00 nor one ago, such as 2h or 7d")


def stamp(instant: datetime | None) -> Timestamp | None:
    """An instant as a message has it."""
    if instant is None:
        return None
    message = Timestamp()
    message.FromDatetime(instant)
    return message
