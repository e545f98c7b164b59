"""The id of an execution: job, occurrence and attempt in one text that sorts by time within its job."""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

from dcron.domain.ids import is_ulid, ulid_time
from dcron.domain.instants import format_key, parse_key

__all__ = ["MAX_ATTEMPT", "ExecutionId", "split_document_id"]

MAX_ATTEMPT = 999
"""Highest number an attempt can have; an id has three digits for it."""

# Digits of this alphabet alone: `\d` and int() know those of other scripts, too.
_PATTERN = re.compile(r"([0-9A-Z]{26}):([0-9A-Z]{16}|[0-9A-Z]{26}):([0-9]{3})")


class ExecutionId(NamedTuple):
    """One attempt at an occurrence of a job.

    `uid` is the job's ULID. `key` is the occurrence's instant in fixed width (20261123T130000Z), or the
    ULID of a manual run. `attempt` counts from 1 to MAX_ATTEMPT.
    """

    uid: str
    key: str
    attempt: int

    @staticmethod
    def parse(text: str) -> ExecutionId:
        """Read an id as `text` writes it; ValueError for everything else."""
        parsed = ExecutionId.parse_or_none(text)
        if parsed is None:
            raise ValueError(f"not an execution id: {text!r}")
        return parsed

    @staticmethod
    def parse_or_none(text: str) -> ExecutionId | None:
        """Read an id as `text` writes it; None for everything else."""
        match = _PATTERN.fullmatch(text)
        if match is None:
            return None
        uid, key, attempt = match.groups()
        if attempt == "000" or not is_ulid(uid) or _instant_of(key) is None:
            return None
        return ExecutionId(uid, key, int(attempt))

    @property
    def text(self) -> str:
        """<uid>:<key>:<attempt>, the attempt in three digits."""
        return f"{self.uid}:{self.key}:{self.attempt:03d}"

    def __str__(self) -> str:
        return self.text

    @property
    def instant(self) -> datetime:
        """When its occurrence is scheduled, or its run was asked for; names the month's database."""
        instant = _instant_of(self.key)
        if instant is None:
            raise ValueError(f"not the key of an occurrence: {self.key!r}")
        return instant

    @property
    def occurrence(self) -> str:
        """<uid>:<key>, which all attempts at one occurrence have in common."""
        return f"{self.uid}:{self.key}"

    def with_attempt(self, number: int) -> ExecutionId:
        """Another attempt at the same occurrence."""
        return self._replace(attempt=number)

    def reaches(self, other: ExecutionId) -> bool:
        """Whether this is the other attempt, or a later one at the same occurrence."""
        return self[:2] == other[:2] and self.attempt >= other.attempt


def split_document_id(document_id: str) -> tuple[ExecutionId, str] | None:
    """Split the id of a claim, an outcome or a verdict into its execution and the rest.

    The rest is empty for a claim, and a token or `verdict` otherwise. None for other documents (skips)."""
    uid, _, after_uid = document_id.partition(":")
    key, _, after_key = after_uid.partition(":")
    attempt, _, rest = after_key.partition(":")
    identifier = ExecutionId.parse_or_none(f"{uid}:{key}:{attempt}")
    return (identifier, rest) if identifier else None


def _instant_of(key: str) -> datetime | None:
    """The instant of an occurrence's key; None when dcron writes no key like it."""
    if is_ulid(key):
        return ulid_time(key)
    try:
        instant = parse_key(key)
    except ValueError:
        return None
    return instant if format_key(instant) == key else None
