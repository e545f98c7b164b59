"""Instants as text: UTC, whole seconds, fixed width, so that byte order is time order."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["floor_second", "format_instant", "format_key", "format_precise", "parse_instant", "parse_key"]

_KEY = "%Y%m%dT%H%M%SZ"


def floor_second(instant: datetime) -> datetime:
    """The whole second at or before an instant."""
    return instant.replace(microsecond=0)


def format_key(instant: datetime) -> str:
    """20261123T130000Z: for ids, where ':' separates the parts."""
    return format_instant(instant).replace("-", "").replace(":", "")


def parse_key(text: str) -> datetime:
    """The instant of `format_key`; ValueError when it is not one."""
    return datetime.strptime(text, _KEY).replace(tzinfo=UTC)


def format_instant(instant: datetime) -> str:
    """2026-11-23T13:00:00Z."""
    return _without_offset(instant).isoformat(timespec="seconds") + "Z"


def format_precise(instant: datetime) -> str:
    """2026-11-23T13:00:00.123456Z: for what was measured rather than scheduled."""
    return _without_offset(instant).isoformat(timespec="microseconds") + "Z"


def _without_offset(instant: datetime) -> datetime:
    # Some instants are written for each execution, and `strftime` takes several times as long.
    return (instant if instant.tzinfo is UTC else instant.astimezone(UTC)).replace(tzinfo=None)


def parse_instant(text: str) -> datetime:
    """The instant of `format_instant` or `format_precise`; ValueError when it is neither."""
    return datetime.fromisoformat(text).astimezone(UTC)
