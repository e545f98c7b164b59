"""Mandate that the elector lends to a scheduler: a term, and whether it may still be acted in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Deposed", "Leadership"]


class Deposed(Exception):
    """The term is over, or can no longer be acted in; nothing is wrong with that."""


@dataclass(frozen=True, slots=True)
class Leadership:
    """A term and whether it may still be acted in; ask `may_lead` right before each act."""

    term: int
    node_id: str
    may_lead: Callable[[], bool]
    look: Callable[[], None]
    """Ask the elector to look at once whether somebody else leads, and what the store's clock says."""
    clock_is_steady: Callable[[], bool]
    """Whether the wall clock has gone on as it should since it was compared with the store's."""
    silent: Mapping[str, str]
    """Nodes that had not renewed for a lease when the term was claimed, with the revision they stayed at:
    the earlier leader, unless it resigned."""
    claims_since: Mapping[str, float] = field(default_factory=dict)
    """Since when, by the monotonic clock, earlier leaders have known claims without outcome, by token."""
