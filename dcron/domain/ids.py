"""ULIDs: ids of 26 characters that sort by the millisecond in which they were made."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

__all__ = ["ULID_RANDOMNESS_BYTES", "is_ulid", "new_ulid", "ulid_time"]

ULID_RANDOMNESS_BYTES = 10

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOMNESS_BITS = ULID_RANDOMNESS_BYTES * 8
_LENGTH = 26
_TIME_LENGTH = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# 26 characters could carry 130 bits; the first may not exceed 7, for a ULID has 128.
_PATTERN = re.compile(f"[0-7][{_ALPHABET}]{{{_LENGTH - 1}}}")


def new_ulid(now: datetime, randomness: bytes) -> str:
    """The ULID of an aware instant from 1970 on and exactly ULID_RANDOMNESS_BYTES random bytes."""
    if len(randomness) != ULID_RANDOMNESS_BYTES:
        raise ValueError(f"a ULID takes {ULID_RANDOMNESS_BYTES} random bytes, not {len(randomness)}")
    milliseconds = (now - _EPOCH) // _MILLISECOND
    if milliseconds < 0:
        raise ValueError(f"a ULID cannot be of an instant before 1970: {now}")
    number = milliseconds << _RANDOMNESS_BITS | int.from_bytes(randomness, "big")
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_LENGTH)))


def is_ulid(text: str) -> bool:
    """Whether `text` is a ULID as `new_ulid` writes it, in a year that a datetime can hold.

    Lower case is none: ids are compared byte by byte, so there is one way only to write each.
    """
    return _PATTERN.fullmatch(text) is not None and _milliseconds(text) <= _LAST_MILLISECOND


def ulid_time(ulid: str) -> datetime:
    """Instant at which a ULID was made, to the millisecond; ValueError when it is not one."""
    if not is_ulid(ulid):
        raise ValueError(f"not a ULID: {ulid!r}")
    return _EPOCH + _milliseconds(ulid) * _MILLISECOND


def _milliseconds(ulid: str) -> int:
    number = 0
    for character in ulid[:_TIME_LENGTH]:
        number = number << 5 | _ALPHABET.index(character)
    return number


_LAST_MILLISECOND = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
