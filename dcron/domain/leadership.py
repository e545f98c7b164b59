"""Leadership: pure rules over what a node has seen, measured by its own monotonic clock.

A term is claimed once, by creating its document. Its holder leads while its own node document says
`leading: <term>` and keeps changing. No node compares its clock with another's: a follower counts a
holder as gone when *it* has seen no new revision of that document for the length of the lease.
(The rule of client-go's leader election, with the term document in place of the shared lease record.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

__all__ = [
    "Action",
    "Decision",
    "Lease",
    "Reading",
    "TermView",
    "claims_since",
    "decide",
    "lead_until",
    "observe",
    "silent_holder",
]


@dataclass(frozen=True, slots=True)
class Lease:
    """Time for which a silent leader is still believed, and how often it renews."""

    length_seconds: float = 6.0

    @property
    def renewal_seconds(self) -> float:
        """Time between two renewals: a third of the lease."""
        return self.length_seconds / 3

    @property
    def leading_seconds(self) -> float:
        """Seconds after the start of its last good renewal for which a leader still acts: it must have
        stopped well before any follower may count it as gone."""
        return self.length_seconds * 2 / 3


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest term and its holder's node document, as just read from a quorum.

    `holder_revision` is empty when the holder has no node document."""

    term: int
    holder_id: str
    holder_incarnation: str
    holder_revision: str = ""
    holder_leading: int = 0
    holder_resigned: int = 0


@dataclass(frozen=True, slots=True)
class TermView:
    """Belief of a node about the newest term; `seen_at` is its monotonic clock at the last sign of life, and
    `led` says whether the holder was ever seen to lead it."""

    reading: Reading
    seen_at: float
    led: bool = False


class Action(Enum):
    """Act of a node about leadership."""

    FOLLOW = "follow"
    CLAIM = "claim"
    LEAD = "lead"


@dataclass(frozen=True, slots=True)
class Decision:
    """Act, its reason (in words, for log and status), and when to look again at the latest."""

    action: Action
    why: str
    again_seconds: float


def observe(view: TermView | None, reading: Reading, monotonic: float) -> TermView:
    """The view after a reading: a sign of life is a new term, or a new revision of the holder's
    document that still says it leads."""
    alive = reading.holder_leading == reading.term
    if view is None or reading.term > view.reading.term:
        return TermView(reading, monotonic, led=alive)
    if reading.term < view.reading.term:
        return view
    if alive and reading.holder_revision != view.reading.holder_revision:
        return TermView(reading, monotonic, led=True)
    return replace(view, reading=reading, led=view.led or alive)


def decide(
    view: TermView | None, incarnation: str, lease: Lease, monotonic: float, *, hindrance: str = ""
) -> Decision:
    """Decision of the node of this `incarnation`. `hindrance` says why it may not lead."""
    if view is None:
        return _claim_unless(hindrance, "no term has been claimed yet", lease)
    reading = view.reading
    if reading.holder_incarnation == incarnation:
        if reading.holder_resigned >= reading.term:
            return _claim_unless(hindrance, f"resigned term {reading.term} itself", lease)
        return Decision(Action.LEAD, f"leads term {reading.term}", lease.renewal_seconds)
    if reading.holder_resigned >= reading.term:
        return _claim_unless(hindrance, f"{reading.holder_id} resigned term {reading.term}", lease)
    silent_seconds = monotonic - view.seen_at
    left_seconds = lease.length_seconds - silent_seconds
    if not view.led:
        left_seconds += _turn(incarnation, reading.term) * lease.renewal_seconds
    if left_seconds > 0:
        why = f"follows {reading.holder_id} in term {reading.term}"
        return Decision(Action.FOLLOW, why, min(lease.renewal_seconds, left_seconds))
    why = (
        f"{reading.holder_id}, which led term {reading.term}, has been silent for longer than the lease of "
        f"{lease.length_seconds:g} s"
    )
    return _claim_unless(hindrance, why, lease)


def _turn(incarnation: str, term: int) -> float:
    """Share of the wait, from 0 to 1, after which this node claims what follows a term that nobody led; each
    time another.

    Many may have claimed such a term at once, so that none got a plain success. They have all seen it at the
    same moment, and would all claim the next one at the same moment."""
    digest = hashlib.sha256(f"{incarnation}:{term}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def _claim_unless(hindrance: str, why: str, lease: Lease) -> Decision:
    if hindrance:
        return Decision(
            Action.FOLLOW, f"{why}, but this node may not lead: {hindrance}", lease.renewal_seconds
        )
    return Decision(Action.CLAIM, why, 0.0)


def silent_holder(view: TermView | None, incarnation: str) -> dict[str, str]:
    """The node whose silence allows the node of this `incarnation` to claim the next term, and the
    revision its document stayed at; none when the holder resigned, never led, or is another incarnation by
    now."""
    if view is None:
        return {}
    reading = view.reading
    spoke = reading.holder_leading == reading.term > reading.holder_resigned
    return (
        {reading.holder_id: reading.holder_revision}
        if spoke and reading.holder_incarnation != incarnation
        else {}
    )


def claims_since(
    before: Mapping[str, float], told_seconds: Mapping[str, float], monotonic: float
) -> dict[str, float]:
    """Since when, by this node's own clock, leaders have known claims, at the latest: by token.

    A leader has measured `told_seconds` before it wrote them, so no clocks are compared. What it tells no
    more is settled. `before` is what was known from earlier readings."""
    return {
        token: min(monotonic - seconds, before.get(token, monotonic))
        for token, seconds in told_seconds.items()
    }


def lead_until(lease: Lease, renewal_started_at: float) -> float:
    """Monotonic time until which a leader may act after a renewal that got a plain success.

    Counted from before the request was sent: followers can have seen it no earlier."""
    return renewal_started_at + lease.leading_seconds
