"""Knowledge of the leader about active attempts, and when it last heard of them.

The changes feed brings news quickly; a read from a quorum (`verify`) settles what a feed cannot: that
nobody started an attempt, or that nothing has come of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

import structlog

from dcron.domain.attempt_results import (
    SILENCE_MARGIN_SECONDS,
    AttemptView,
    is_true_end,
    most_telling,
    silence_limit_seconds,
)
from dcron.domain.documents import claim_of, outcome_of, verdict_of
from dcron.domain.execution_id import split_document_id
from dcron.domain.model import Active, Claim, Job, Outcome
from dcron.ports import Clock, Document, DocumentStore
from dcron.services.shared.attempts import AttemptRecord, database_of, read_attempts
from dcron.services.shared.months import by_month

__all__ = ["Tracked", "Tracker"]

MAX_TOLD = 100
"""Attempts of which a leader tells the others for how long their claims have been known."""

log = structlog.get_logger()


@dataclass(slots=True)
class Tracked:
    """One active attempt. `heard_at` is the monotonic time of the last sign of its claimant; timeout and
    grace are those that its job has by now."""

    job: str
    active: Active
    timeout_seconds: float
    grace_seconds: float
    view: AttemptView = field(default_factory=AttemptView)
    heard_at: float | None = None
    accepted_by: set[str] = field(default_factory=set)
    """Nodes that have said that they claimed it: a reading without their claims is not from a quorum, but
    from a copy that answers alone and does not know of them."""
    looked_at: str | None = None
    """The revision of its job, if confirmed, when it and the attempt before it were last read."""

    def was_looked_back(self, confirmed_revision: str | None) -> bool:
        """Whether the attempt before it, if any, was read after its intent had the plain success that it has:
        what was read before that may have come from one copy."""
        looked_back = confirmed_revision is not None and self.looked_at == confirmed_revision
        return self.active.attempt == 1 or looked_back

    @property
    def closed_by_claimants(self) -> set[str]:
        """Those of it and the attempt before it that a claimant has closed: no later term has to wait again
        until no offer can become a claim."""
        views = (self.view, self.view.before)
        return {
            execution_id
            for execution_id, view in zip(self.active.latest_ids, views, strict=False)
            if view is not None and view.is_closed_by_claimant
        }

    @property
    def silence_limit_seconds(self) -> float | None:
        """Seconds that it may stay without outcome, by the timeouts that it was claimed with; None for
        ever."""
        timeouts = [claim.timeout_seconds for claim in self.view.claims] or [self.timeout_seconds]
        longest_seconds = max(timeouts) if min(timeouts) > 0 else 0.0
        return silence_limit_seconds(longest_seconds, self.grace_seconds)


class Tracker:
    """Active attempts by execution id; tells which jobs have news."""

    def __init__(
        self, store: DocumentStore, clock: Clock, claims_since: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        """`claims_since` tells since when earlier leaders have known claims: see `Leadership`."""
        self._store = store
        self._clock = clock
        self._claims_since = claims_since
        self._tracked: dict[str, Tracked] = {}
        self._of_job: dict[str, str] = {}
        self._doubtful: set[str] = set()

    def follow(self, job: Job) -> None:
        """Follow the active attempt of a job, or stop when it has none."""
        active = job.place.active
        if active is None:
            self.drop(job.name)
            return
        timeout_seconds = job.specification.timeout_seconds
        grace_seconds = job.specification.grace_seconds
        if self._of_job.get(job.name) == active.execution_id:
            known = self._tracked[active.execution_id]
            known.active, known.timeout_seconds, known.grace_seconds = active, timeout_seconds, grace_seconds
            return
        self.drop(job.name)
        self._of_job[job.name] = active.execution_id
        self._tracked[active.execution_id] = Tracked(job.name, active, timeout_seconds, grace_seconds)
        assert len(self._of_job) == len(self._tracked), "a job has one active attempt"

    def drop(self, job: str) -> None:
        """Follow nothing of a job any more."""
        execution_id = self._of_job.pop(job, None)
        if execution_id is not None:
            del self._tracked[execution_id]
            self._doubtful.discard(execution_id)
            assert len(self._doubtful) <= len(self._tracked), "only what is followed is doubtful"

    @property
    def doubtful(self) -> frozenset[str]:
        """Execution ids of the attempts that are to be read from a quorum."""
        return frozenset(self._doubtful)

    def doubt(self, execution_id: str) -> None:
        """Mark an attempt, if it is followed, to be read from a quorum."""
        if execution_id in self._tracked:
            self._doubtful.add(execution_id)

    def trust(self, execution_id: str) -> None:
        """Unmark an attempt until there is a new doubt."""
        self._doubtful.discard(execution_id)

    def get(self, execution_id: str) -> Tracked | None:
        """Attempt that is followed under an execution id; None when there is none."""
        return self._tracked.get(execution_id)

    def of_job(self, job: str) -> Tracked | None:
        """Attempt of a job that is followed; None when there is none."""
        return self._tracked.get(self._of_job.get(job, ""))

    def all(self) -> list[Tracked]:
        """Everything that is followed."""
        return list(self._tracked.values())

    def databases(self) -> set[str]:
        """The month databases of all that is followed."""
        return {database_of(tracked.active) for tracked in self._tracked.values()}

    def learn(self, documents: Iterable[Document]) -> list[str]:
        """Take in documents of the changes feed; names of the jobs that can be settled now."""
        news: list[str] = []
        for document in documents:
            parts = split_document_id(document.id)
            if parts is None or document.deleted:
                continue
            identifier, rest = parts
            tracked = self._tracked.get(identifier.text)
            if tracked is None:
                continue
            if self._learn(tracked, document, is_claim=not rest):
                news.append(tracked.job)
        return news

    def _learn(self, tracked: Tracked, document: Document, *, is_claim: bool) -> bool:
        """Whether a document of an attempt may settle it. Kinds that only a newer version knows do not."""
        kind = document.body.get("kind")
        if kind == "claim" and is_claim:
            self._learn_claim(tracked, document)
        elif kind == "verdict":
            tracked.view = replace(tracked.view, verdict=verdict_of(document.body))
            return True
        elif kind == "outcome":
            return self._learn_outcome(tracked, document)
        return False

    def _learn_claim(self, tracked: Tracked, document: Document) -> None:
        claim = claim_of(document.id, document.body)
        if all(known.token != claim.token for known in tracked.view.claims):
            tracked.view = replace(tracked.view, claims=(*tracked.view.claims, claim), verified=False)
        if tracked.heard_at is None:
            tracked.heard_at = self._known_since([claim])

    def _learn_outcome(self, tracked: Tracked, document: Document) -> bool:
        outcome = outcome_of(document.body)
        outcomes = _with_outcomes(tracked.view.outcomes, {outcome.token: outcome})
        tracked.view = replace(tracked.view, outcomes=outcomes)
        if not is_true_end(outcome):
            self.doubt(tracked.active.execution_id)
            return False
        return True

    async def verify(
        self,
        execution_ids: Collection[str],
        closed: Collection[str] = (),
        confirmed: Mapping[str, str | None] = MappingProxyType({}),
    ) -> list[str]:
        """Read attempts and the ones before them from a quorum; names of their jobs. Raises StoreUnreachable.

        `closed` names those that no offer could make a claim of any more already before this reading,
        `confirmed` has the revisions of jobs that were confirmed by then."""
        followed = [self._tracked[each] for each in execution_ids if each in self._tracked]
        jobs: list[str] = []
        for database, wanted in by_month(followed, _scheduled_at).items():
            known = [(tracked, tracked.view.claims) for tracked in wanted]
            ids = [each for tracked in wanted for each in tracked.active.latest_ids]
            records = await read_attempts(self._store, database, ids)
            for tracked, claims in known:
                if self._tracked.get(tracked.active.execution_id) is tracked:
                    self._take_record(tracked, records, claims, closed)
                    tracked.looked_at = confirmed.get(tracked.job)
                    jobs.append(tracked.job)
        return jobs

    def accepted(self, execution_id: str, node_id: str) -> None:
        """A worker has said that it claimed an attempt. A reading that does not show that does not count."""
        tracked = self._tracked.get(execution_id)
        if tracked is None:
            return
        tracked.accepted_by.add(node_id)
        if tracked.view.verified and all(claim.node_id != node_id for claim in tracked.view.claims):
            tracked.view = replace(tracked.view, verified=False, claims_closed=False)
            self.doubt(execution_id)

    def _take_record(
        self,
        tracked: Tracked,
        records: Mapping[str, AttemptRecord],
        known: tuple[Claim, ...],
        closed: Collection[str],
    ) -> None:
        """Take in what a quorum knew, beside the claims that the feed brought since (all but `known`)."""
        execution_id, *previous = tracked.active.latest_ids
        record = records[execution_id]
        read = {claim.token for claim in (*known, *record.claims)}
        newer = tuple(claim for claim in tracked.view.claims if claim.token not in read)
        claims = (*record.claims, *newer)
        knows_of_all = tracked.accepted_by <= {claim.node_id for claim in claims}
        before = _view_of(records[previous[0]], closed=previous[0] in closed) if previous else None
        tracked.view = replace(
            tracked.view,
            claims=claims,
            outcomes=_with_outcomes(tracked.view.outcomes, record.outcomes),
            verdict=record.verdict or tracked.view.verdict,
            verified=not newer and knows_of_all,
            claims_closed=execution_id in closed,
            before=before,
        )
        assert not (tracked.accepted_by and tracked.view.is_unclaimed), "who has accepted it has claimed it"
        assert (before is None) == (tracked.active.attempt == 1), (
            "the attempt before it is read along with it"
        )
        if record.claims and tracked.heard_at is None:
            tracked.heard_at = self._known_since(record.claims)

    def _known_since(self, claims: Iterable[Claim]) -> float:
        """Since when a leader has known one of the claims, by this one's monotonic clock."""
        now = self._clock.monotonic()
        return min((self._claims_since.get(claim.token, now) for claim in claims), default=now)

    def claims_known_seconds(self) -> dict[str, float]:
        """For how long claims without outcome have been known, by token: for MAX_TOLD of those whose timeouts
        are to pass next, so that the next leader need not begin to wait anew."""
        now = self._clock.monotonic()
        waiting = [
            (each.heard_at + each.silence_limit_seconds, each.active.execution_id, now - each.heard_at)
            for each in self._tracked.values()
            if each.heard_at is not None and each.silence_limit_seconds is not None
        ]
        return {
            claim.token: seconds
            for _, execution_id, seconds in heapq.nsmallest(MAX_TOLD, waiting)
            for claim in self._tracked[execution_id].view.claims
            if claim.token not in self._tracked[execution_id].view.outcomes
        }

    def silent(self) -> list[Tracked]:
        """Claimed attempts whose outcome is overdue."""
        now = self._clock.monotonic()
        return [
            tracked
            for tracked in self._tracked.values()
            if tracked.silence_limit_seconds is not None
            and tracked.heard_at is not None
            and not tracked.view.silent
            and now - tracked.heard_at > tracked.silence_limit_seconds
        ]

    def heard(self, tracked: Tracked) -> None:
        """Its claimant says that it still has it: ask again after the margin."""
        limit = tracked.silence_limit_seconds or 0.0
        tracked.heard_at = self._clock.monotonic() - limit + SILENCE_MARGIN_SECONDS

    def give_up(self, tracked: Tracked) -> None:
        """Its timeout has passed in silence."""
        tracked.view = replace(tracked.view, silent=True)
        log.warning(
            "execution is silent past its timeout",
            action="silence",
            job=tracked.job,
            execution=tracked.active.execution_id,
        )


def _with_outcomes(known: Mapping[str, Outcome], found: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Outcomes by token. What a copy that is cut off says takes back no true end."""
    return {**known, **{token: most_telling([known.get(token, new), new]) for token, new in found.items()}}


def _scheduled_at(tracked: Tracked) -> datetime:
    return tracked.active.occurrence.scheduled_at


def _view_of(record: AttemptRecord, *, closed: bool) -> AttemptView:
    return AttemptView(record.claims, record.outcomes, record.verdict, verified=True, claims_closed=closed)
