"""Spans of time as people write them: 30s, 5m, 1h30m, 0."""

from __future__ import annotations

import re

import click
from google.protobuf.duration_pb2 import Duration

__all__ = ["DURATION", "DurationType", "format_duration", "format_span", "parse_duration", "span"]

_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_PLAIN = re.compile(_NUMBER)
_PARTS = re.compile("".join(f"(?:({_NUMBER}){unit})?" for unit in "dhms"))
_NANOSECONDS = 1_000_000_000
_UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse_duration(text: str) -> float:
    """Seconds; a plain number is seconds already. ValueError says what is allowed."""
    stripped = text.strip()
    if stripped.startswith("-"):
        raise ValueError(f"{text!r} is negative; give 0 or a time such as 30s, 5m or 1h30m")
    if _PLAIN.fullmatch(stripped):
        return float(stripped)
    match = _PARTS.fullmatch(stripped)
    if match is None or not stripped:
        raise ValueError(f"{text!r} is not a time; give 0, seconds, or such as 30s, 5m, 1h30m or 2d")
    parts = zip(match.groups(), _UNIT_SECONDS.values(), strict=True)
    return sum(float(number) * seconds for number, seconds in parts if number)


def format_duration(seconds: float) -> str:
    """`1h30m`, `42s`; below a minute with up to three decimals."""
    if seconds < _UNIT_SECONDS["m"]:
        return f"{round(seconds, 3):g}s"
    rest = round(seconds)
    parts = []
    for unit, length in _UNIT_SECONDS.items():
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def span(seconds: float) -> Duration:
    """Seconds as a message has them."""
    message = Duration()
    message.FromNanoseconds(round(seconds * _NANOSECONDS))
    return message


def format_span(message: Duration) -> str:
    """A span of time out of a message, for people."""
    return format_duration(message.ToNanoseconds() / _NANOSECONDS)


class DurationType(click.ParamType[float]):
    """A command-line value that is a span of time."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, or a usage error."""
        if isinstance(value, int | float):
            return float(value)
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = DurationType()
