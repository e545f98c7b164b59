"""Results of attempts as far as their job is concerned, and whether a next one may follow: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dcron.domain.execution_id import MAX_ATTEMPT
from dcron.domain.model import Active, Claim, Job, Outcome, State, Verdict, VerdictKind
from dcron.domain.records import Unrecognized

__all__ = [
    "SILENCE_MARGIN_SECONDS",
    "AttemptView",
    "Result",
    "has_cause",
    "has_lost_its_cause",
    "is_true_end",
    "most_telling",
    "result_of",
    "silence_limit_seconds",
]

SILENCE_MARGIN_SECONDS = 10.0
"""Time beyond timeout and grace that an outcome may take before its attempt counts as silent."""


def is_true_end(outcome: Outcome) -> bool:
    """Whether an outcome tells what a script did: it proves that its token held the claim."""
    return outcome.state not in (State.NOT_STARTED, State.LOST)


def most_telling(outcomes: Iterable[Outcome]) -> Outcome:
    """The one that counts of several outcomes of one token, as leaves or readings of its document: a true end
    before `lost`, which a node may have written that did not know of it, and that before `not_started`."""
    ranks: dict[State | Unrecognized, int] = {State.NOT_STARTED: 2, State.LOST: 1}
    return min(outcomes, key=lambda outcome: ranks.get(outcome.state, 0))


@dataclass(frozen=True, slots=True)
class AttemptView:
    """Knowledge of an attempt from the database.

    `verified` says that it was read from a quorum, all leaves. Without it, only what cannot be
    overturned counts: the outcome of a script that was seen to run proves whose claim it was.
    """

    claims: tuple[Claim, ...] = ()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    verdict: Verdict | None = None
    verified: bool = False
    silent: bool = False
    """No outcome came within the timeout, as the leader's monotonic clock has it."""
    claims_closed: bool = False
    """No offer of this attempt can still become a claim."""
    before: AttemptView | None = None
    """The attempt before it, as a quorum knew it after this one was intended; None while it was not read."""

    @property
    def is_unclaimed(self) -> bool:
        """Whether a quorum knows of nobody who has claimed or resolved it."""
        return self.verified and not self.claims and self.verdict is None

    @property
    def is_closed_by_claimant(self) -> bool:
        """Whether a claimant has written that no other claim can win. What won before that is seen by whoever
        reads it from a quorum after this outcome was known."""
        return any(outcome.closes for outcome in self.outcomes.values())


@dataclass(frozen=True, slots=True)
class Result:
    """End of an attempt, as far as the schedule is concerned."""

    state: State | Unrecognized
    node_ids: tuple[str, ...]
    retry: bool
    spends: bool
    why: str


def silence_limit_seconds(timeout_seconds: float, grace_seconds: float) -> float | None:
    """Seconds that a claimed attempt may stay without outcome; None when it may for ever."""
    if timeout_seconds <= 0:
        return None
    return timeout_seconds + grace_seconds + SILENCE_MARGIN_SECONDS


def result_of(job: Job, active: Active, view: AttemptView) -> Result | None:
    """Result of the active attempt; None while that is open.

    A state that only a newer version knows is an end like another, without a further attempt."""
    nodes = tuple(claim.node_id for claim in view.claims)
    if view.verdict is not None:
        return _by_verdict(view.verdict, active, nodes)
    for outcome in view.outcomes.values():
        if is_true_end(outcome):
            return _by_outcome(job, active, outcome)
    if _all_have_spoken(view):
        # Whoever lost its claim cannot tell whether it started: it counts once nobody else did.
        lost = [outcome for outcome in view.outcomes.values() if outcome.state is State.LOST]
        if lost:
            return _by_outcome(job, active, lost[0])
        if view.claims_closed:
            retry = active.attempt < MAX_ATTEMPT
            return Result(State.NOT_STARTED, nodes, retry, spends=False, why="was not started")
    if view.silent:
        retry = _attempts_left(job, active)
        return Result(State.LOST, nodes, retry, spends=True, why="timed out in silence")
    return None


def _all_have_spoken(view: AttemptView) -> bool:
    """Every claimant on every leaf has written its outcome."""
    return view.verified and bool(view.claims) and all(claim.token in view.outcomes for claim in view.claims)


def _by_verdict(verdict: Verdict, active: Active, nodes: tuple[str, ...]) -> Result | None:
    """What a person's word makes of an attempt; None where only a leader of a newer version can tell."""
    if isinstance(verdict.kind, Unrecognized):
        return None
    why = f"was resolved as {verdict.kind.value} by {verdict.by}"
    if verdict.kind is VerdictKind.RETRY:
        return Result(State.LOST, nodes, retry=active.attempt < MAX_ATTEMPT, spends=False, why=why)
    state = State.SUCCEEDED if verdict.kind is VerdictKind.SUCCEEDED else State.FAILED
    return Result(state, nodes, retry=False, spends=False, why=why)


def _by_outcome(job: Job, active: Active, outcome: Outcome) -> Result:
    state, retry = outcome.state, False
    if state in (State.TIMED_OUT, State.LOST):
        retry = job.specification.timeout_seconds > 0 and _attempts_left(job, active)
    elif state is State.FAILED:
        retry = active.failures < job.specification.failure_retries and active.attempt < MAX_ATTEMPT
    return Result(state, (outcome.node_id,), retry, spends=state is not State.FAILED, why=state.value)


def _attempts_left(job: Job, active: Active) -> bool:
    return active.spent + 1 < job.specification.max_attempts and active.attempt < MAX_ATTEMPT


def has_cause(active: Active, view: AttemptView) -> bool:
    """Whether an attempt may be started as far as the one before it goes, which was read once more for that:
    it may have been intended on a copy of the store that was cut off and did not know of a claim."""
    before = view.before
    if active.attempt == 1:
        return True
    if before is None or _contradicts(before, active):
        return False
    return before.claims_closed or before.verdict is not None or not _none_started(before.claims, before)


def _contradicts(before: AttemptView, active: Active) -> bool:
    """Whether an attempt has ended, or is at work, in a way that allows no next one."""
    if before.verdict is not None:
        return before.verdict.kind in (VerdictKind.SUCCEEDED, VerdictKind.FAILED)
    if any(outcome.state in (State.SUCCEEDED, State.CANCELLED) for outcome in before.outcomes.values()):
        return True
    known = [outcome for token, outcome in before.outcomes.items() if token in active.after]
    if any(is_true_end(outcome) for outcome in known):
        # Its claim won: no other one can have started.
        return False
    unknown = [claim for claim in before.claims if claim.token not in active.after]
    return not _none_started(unknown, before)


def _none_started(claims: Iterable[Claim], view: AttemptView) -> bool:
    """Whether each of these claimants has written that it did not start."""
    outcomes = [view.outcomes.get(claim.token) for claim in claims]
    return all(outcome is not None and outcome.state is State.NOT_STARTED for outcome in outcomes)


def has_lost_its_cause(active: Active, view: AttemptView) -> bool:
    """Whether an attempt that nobody has started, or still can, ought not to have been intended."""
    if view.before is None or not (view.verified and view.claims_closed) or view.verdict is not None:
        return False
    ran = any(outcome.state is not State.NOT_STARTED for outcome in view.outcomes.values())
    return _none_started(view.claims, view) and not ran and _contradicts(view.before, active)
