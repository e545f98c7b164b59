"""Mutants of nodes that share a cluster with newer ones."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from dcron.domain import changes, records
from dcron.domain.records import Record, Unrecognized

__all__ = ["MUTANTS"]


def what_is_unknown_is_dropped() -> AbstractContextManager[Any]:
    """Fields that this version does not know are ignored when they are read."""
    value = Record.value

    def known_alone(self: Record[Any], body: Mapping[str, Any], **given: Any) -> Any:
        return value(self, {key: body[key] for key in self._known if key in body}, **given)

    return patch.object(Record, "value", known_alone)


def branches_are_merged_without_what_is_unknown() -> AbstractContextManager[Any]:
    """Of several leaves the unknown fields of none are kept."""
    return patch.object(changes, "all_unknown", lambda _: {})


def unknown_words_are_refused() -> AbstractContextManager[Any]:
    """A state or reason that this version does not know is an error."""

    def refuse(text: str) -> Unrecognized:
        raise ValueError(text)

    return patch.object(records, "Unrecognized", refuse)


MUTANTS = {
    what_is_unknown_is_dropped: "v",
    branches_are_merged_without_what_is_unknown: "v",
    unknown_words_are_refused: "h",
}
"""Each with the checkers that are to find it."""
