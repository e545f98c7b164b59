"""Comparison with what no feed tells: silent attempts, claims that their worker lost, nodes that are gone."""

from __future__ import annotations

import structlog

from dcron.domain.errors import NodeUnreachable
from dcron.domain.offers import ClaimReference, KnownClaims, offered
from dcron.domain.standing import Standing
from dcron.ports import NodeClient
from dcron.services.leader.dispatcher import Dispatcher
from dcron.services.leader.knowledge import Knowledge
from dcron.services.leader.tracker import Tracked
from dcron.services.shared.node_watch import NodeWatch

__all__ = ["Reconciler"]

MAX_CLAIMS = 500
"""Claims in one question to a worker."""
MISSED_LOOKS = 3
"""Readings in a row that miss a delivered outcome before a person is told."""

_NO_ANSWER = KnownClaims(frozenset())

log = structlog.get_logger()


class Reconciler:
    """Compares what is followed with the nodes and the offers under way."""

    def __init__(
        self,
        knowledge: Knowledge,
        dispatcher: Dispatcher,
        nodes: NodeClient,
        watch: NodeWatch,
    ) -> None:
        self._knowledge = knowledge
        self._book, self._tracker = knowledge.book, knowledge.tracker
        self._dispatcher = dispatcher
        self._nodes = nodes
        self._watch = watch
        self._missing: dict[str, int] = {}
        """By token, how often in a row its node has said that it delivered an outcome that was not read."""

    def offer_unclaimed(self) -> None:
        """Offer every attempt that may start, if its intent is certain, and no other one any more."""
        for tracked in self._tracker.all():
            is_pending = self._dispatcher.pending(tracked.active.execution_id) is not None
            if not is_pending and not tracked.view.is_unclaimed:
                continue
            standing = self._knowledge.standing_of(tracked)
            if standing.is_withdrawn:
                self._dispatcher.drop(tracked.active.execution_id)
            elif standing is Standing.OFFER:
                self._offer(tracked)

    def _offer(self, tracked: Tracked) -> None:
        assert self._book.is_confirmed(tracked.job), "an intent is on a quorum before it is offered"
        assert tracked.view.is_unclaimed, "what is claimed is not offered"
        job = self._book.get(tracked.job)
        active = job.place.active if job is not None else None
        if job is not None and active is not None:
            self._dispatcher.add(offered(job, active), active.avoid)

    def attention(self) -> list[str]:
        """Executions that only a person can settle: without timeout, and their node is gone; or their outcome
        was delivered, and the store does not have it."""
        alive = self._watch.alive()
        return [
            tracked.active.execution_id
            for tracked in self._tracker.all()
            if (tracked.silence_limit_seconds is None and self._open_claims(tracked, alive, gone=True))
            or self._is_missed(tracked)
        ]

    def _is_missed(self, tracked: Tracked) -> bool:
        open_claims = (claim for claim in tracked.view.claims if claim.token not in tracked.view.outcomes)
        return any(self._missing.get(claim.token, 0) >= MISSED_LOOKS for claim in open_claims)

    def _open_claims(self, tracked: Tracked, alive: frozenset[str], *, gone: bool) -> list[ClaimReference]:
        return [
            ClaimReference(claim.execution_id, claim.token)
            for claim in tracked.view.claims
            if claim.token not in tracked.view.outcomes and (claim.node_id not in alive) is gone
        ]

    async def settle_silence(self) -> list[Tracked]:
        """Ask the claimants of overdue attempts; those that stay silent are given up and returned.

        One whose outcome was delivered is not silent: it is read again."""
        overdue = self._tracker.silent()
        if not overdue:
            return []
        held = await self._ask(overdue)
        given_up = []
        for tracked in overdue:
            if any(claim.token in held for claim in tracked.view.claims):
                self._tracker.heard(tracked)
            else:
                self._tracker.give_up(tracked)
                given_up.append(tracked)
        return given_up

    async def compare_claims(self) -> None:
        """Let live workers say which claims they hold or have delivered; they write off the others."""
        attempts = self._tracker.all()
        followed = {claim.token for tracked in attempts for claim in tracked.view.claims}
        self._missing = {token: looks for token, looks in self._missing.items() if token in followed}
        await self._ask(attempts)

    async def _ask(self, attempts: list[Tracked]) -> set[str]:
        """Tokens of open claims that live claimants hold or have delivered; the latter become doubtful."""
        alive = self._watch.alive()
        by_node: dict[str, list[ClaimReference]] = {}
        for tracked in attempts:
            for reference in self._open_claims(tracked, alive, gone=False):
                node_id = next(c.node_id for c in tracked.view.claims if c.token == reference.token)
                by_node.setdefault(node_id, []).append(reference)
        held: set[str] = set()
        for node_id, references in by_node.items():
            for start in range(0, len(references), MAX_CLAIMS):
                asked = references[start : start + MAX_CLAIMS]
                answer = await self._ask_node(node_id, asked)
                held |= answer.known
                self._note_missing(asked, answer)
        return held

    async def _ask_node(self, node_id: str, references: list[ClaimReference]) -> KnownClaims:
        address = self._watch.address(node_id)
        if address is None:
            return _NO_ANSWER
        try:
            return await self._nodes.known_claims(address, node_id, references)
        except NodeUnreachable as error:
            log.warning("cannot compare claims", action="compare_claims", worker=node_id, error=str(error))
            return _NO_ANSWER

    def _note_missing(self, asked: list[ClaimReference], answer: KnownClaims) -> None:
        """Have outcomes that were delivered and not read looked for, and count how often that was so."""
        for reference in asked:
            if reference.token not in answer.delivered:
                self._missing.pop(reference.token, None)
                continue
            self._missing[reference.token] = self._missing.get(reference.token, 0) + 1
            self._tracker.doubt(reference.execution_id)
