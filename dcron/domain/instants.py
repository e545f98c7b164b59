"""Instants as text: UTC, whole seconds, fixed width, so that byte order is time order."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

__all__ = ["floor_second", "format_instant", "format_key", "format_precise", "parse_instant", "parse_key"]

_KEY = "%Y%m%dT%H%M%SZ"
_RECENT = 1_024
"""Texts that are kept: what is due and decided on at once has most of its instants in common, and each
execution has a dozen of them written."""


def floor_second(instant: datetime) -> datetime:
    """The whole second at or before an instant."""
    return instant.replace(microsecond=0)


@lru_cache(_RECENT)
def format_key(instant: datetime) -> str:
    """20261123T130000Z: for ids, where ':' separates the parts."""
    return format_instant(instant).replace("-", "").replace(":", "")


def parse_key(text: str) -> datetime:
    """The instant of `format_key`; ValueError when it is not one."""
    return datetime.strptime(text, _KEY).replace(tzinfo=UTC)


@lru_cache(_RECENT)
def format_instant(instant: datetime) -> str:
    """2026-11-23T13:00:00Z."""
    return _in_utc(instant, "seconds")


@lru_cache(_RECENT)
def format_precise(instant: datetime) -> str:
    """2026-11-23T13:00:00.123456Z: for what was measured rather than scheduled."""
    return _in_utc(instant, "microseconds")


def _in_utc(instant: datetime, timespec: str) -> str:
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=timespec) + "Z"


def parse_instant(text: str) -> datetime:
    """The instant of `format_instant` or `format_precise`; ValueError when it is neither."""
    return datetime.fromisoformat(text).astimezone(UTC)
