"""Whether an active attempt may be offered to workers, and if not, why and what is to be done: pure.

The facts come from the leader's memory; docs/leader-knowledge.md says who keeps each of them.
"""

from __future__ import annotations

from enum import Enum

from dcron.domain.attempt_results import AttemptView, has_cause
from dcron.domain.model import Active, ClusterSettings
from dcron.domain.planning import may_be_offered

__all__ = ["Standing", "standing"]


class Standing(Enum):
    """Act that the leader may do with an active attempt."""

    OFFER = "offer"
    """Nobody has claimed it, and its intent is on a quorum: workers may have it."""
    WRITE_AGAIN_FIRST = "write again first"
    """It would be offered, but its job was only read: that counts once it is written with a plain success."""
    READ_AGAIN = "read again"
    """What is known of it, or of the attempt before it, is older than what happened since."""
    TAKE_BACK = "take back"
    """The attempt before it gives it no cause, or none yet: it is offered no more, and both are read again
    until no offer can become a claim. Then the planner goes back to the one before."""
    LET_CLOSE = "let close"
    """Nobody has started it and nobody is to: it is read again until no offer can become a claim. Then the
    planner settles it, or lets another attempt follow."""
    AWAIT_JOB = "await job"
    """It would be offered, but its job is being changed or written: it is read again first."""
    WAIT = "wait"
    """It is claimed, resolved or closed. Its next news, an outcome or a decision, comes by itself."""

    @property
    def is_doubtful(self) -> bool:
        """Whether only another reading from a quorum leads on from here."""
        return self in (Standing.READ_AGAIN, Standing.TAKE_BACK, Standing.LET_CLOSE)

    @property
    def is_withdrawn(self) -> bool:
        """Whether it is not to be offered any more, if it is."""
        return self in (Standing.TAKE_BACK, Standing.LET_CLOSE, Standing.WAIT)


def standing(
    active: Active,
    view: AttemptView,
    settings: ClusterSettings,
    *,
    held: bool,
    confirmed: bool,
    looked_back: bool,
) -> Standing:
    """Standing of an active attempt.

    `held` says that its job was not changed since it was read, as far as is known, and has this attempt;
    `confirmed`, that the job was written as it is held with a plain success; `looked_back`, that the attempt
    before it, if any, was read after that."""
    if not view.verified:
        return Standing.READ_AGAIN
    offerable = may_be_offered(active, settings)
    if view.is_unclaimed:
        if not has_cause(active, view):
            return Standing.TAKE_BACK
        if confirmed and not looked_back:
            return Standing.READ_AGAIN
        if offerable:
            return _of_offerable(held=held, confirmed=confirmed)
    nobody_is_at_work = all(claim.token in view.outcomes for claim in view.claims)
    if (view.claims or not offerable) and nobody_is_at_work and not view.claims_closed:
        return Standing.LET_CLOSE
    return Standing.WAIT


def _of_offerable(*, held: bool, confirmed: bool) -> Standing:
    if not held:
        return Standing.AWAIT_JOB
    return Standing.OFFER if confirmed else Standing.WRITE_AGAIN_FIRST
