"""Views for people: executions put together from their documents, nodes and the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dcron.domain.attempt_results import is_true_end, most_telling
from dcron.domain.model import Claim, ClusterSettings, Outcome, Skip, State, Verdict
from dcron.domain.nodes import LeaderReport, NodeRecord
from dcron.domain.records import Unrecognized

__all__ = [
    "ClusterView",
    "ExecutionView",
    "HeldExecution",
    "NodeView",
    "SkippedView",
    "decisive_outcome",
    "execution_view",
]


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """One execution: the claim that counts, and what is known of how it ended.

    `open_claims` are those whose token has no outcome yet; more than one only after a split store."""

    claim: Claim
    outcome: Outcome | None = None
    verdict: Verdict | None = None
    open_claims: tuple[Claim, ...] = ()
    needs_attention: bool = False

    @property
    def id(self) -> str:
        """Id of the execution."""
        return self.claim.execution_id

    @property
    def state(self) -> State | Unrecognized:
        """State that its outcomes tell; RUNNING while there is none. A verdict steers the schedule, not
        this."""
        return self.outcome.state if self.outcome else State.RUNNING


@dataclass(frozen=True, slots=True)
class SkippedView:
    """The record of occurrences that did not run; `job` is empty when the job is gone."""

    skip: Skip
    job: str = ""


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node as the answering node sees it."""

    record: NodeRecord
    alive: bool
    leading: bool
    draining: bool


@dataclass(frozen=True, slots=True)
class HeldExecution:
    """One execution in a node's spool: running since its claim, or ended at `since` and on its way to
    `waits_for`, in words."""

    execution_id: str
    job: str
    state: State | Unrecognized
    since: datetime
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster in one answer; `report` is what the leader last said.

    With `store_trouble`, why the answering node cannot reach the document store, all this is what that
    node knows by itself: `settings` are unknown, and `held` tells what its spool has."""

    answering_id: str
    leader_id: str
    term: int
    summary: str
    nodes: tuple[NodeView, ...]
    settings: ClusterSettings | None
    report: LeaderReport
    store_trouble: str = ""
    store_trouble_since: datetime | None = None
    held: tuple[HeldExecution, ...] = ()


def decisive_outcome(claims: Sequence[Claim], outcomes: Mapping[str, Outcome]) -> Outcome | None:
    """The true outcome of an attempt by its claimants' tokens; None while it may still run.

    A script that was started proves that its token held the claim. That nobody started it, or that it is
    lost, is known only when every claimant has spoken."""
    ended = next(filter(is_true_end, outcomes.values()), None)
    if ended is not None or not claims or any(claim.token not in outcomes for claim in claims):
        return ended
    return most_telling(outcomes[claim.token] for claim in claims)


def execution_view(
    claims: Sequence[Claim],
    outcomes: Mapping[str, Outcome],
    verdict: Verdict | None,
    attention: frozenset[str] = frozenset(),
) -> ExecutionView | None:
    """One execution out of its documents, by token; None without a claim."""
    if not claims:
        return None
    outcome = decisive_outcome(claims, outcomes)
    still_open = tuple(claim for claim in claims if claim.token not in outcomes)
    if outcome is not None:
        claim = next((claim for claim in claims if claim.token == outcome.token), claims[0])
    else:
        claim = still_open[0]
    return ExecutionView(claim, outcome, verdict, still_open, claim.execution_id in attention)
