"""Offers intended attempts to workers: one request per worker with its share, round-robin.

An attempt stays here until a worker has claimed it. Each worker answers for itself; a slow or dead one
holds up nobody else. The claim in the database decides, so offering twice is safe.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import structlog

from dcron.domain.errors import NodeUnreachable
from dcron.domain.offers import MAX_OFFER, OfferAnswer, OfferedAttempt, OfferResult
from dcron.domain.placement import Candidate, candidates, refused
from dcron.ports import Clock, NodeClient
from dcron.services.leader.mandate import Leadership
from dcron.services.leader.tracker import Tracker
from dcron.services.shared.starts_first import StartsFirst
from dcron.services.shared.trouble import Trouble

__all__ = ["CLAIM_SETTLE_SECONDS", "Dispatcher"]

CLAIM_SETTLE_SECONDS = 17.0
"""Time after its deadline in which an offer whose answer was lost can still become a claim. It can arrive
until a silent connection is given up (15 s after it was sent). Then come the pause that a worker allows
itself and the deadline of the claim's write. An offer that was answered can become none: see
`Worker.offer`."""
MAX_SHARE = 100
"""Attempts in one request: a worker claims them together, and has to start them
within seconds."""
assert MAX_SHARE <= MAX_OFFER, "a worker would refuse the whole offer"
SWEEP_SECONDS = 1.0
"""After this long, workers that refused are asked again."""
MAX_SAID = 20
"""Waiting attempts that get a line in the log in one sweep."""
SUSPECT_SECONDS = 2.0
"""A worker that did not answer is left alone for this long."""

ABOUT_TO_BE_OFFERED = "is about to be offered"
NO_WORKER = "no live node takes executions; start one, or 'dcron node undrain' one"
NO_LABEL = (
    "no live node with the labels {labels} takes executions; start one that has them, or change the job's "
    "with 'dcron job update'"
)
BUSY = "all slots are taken; it starts when one is free"
NO_ANSWER = "no answer to the offer; the log of the leader says why"

log = structlog.get_logger()


@dataclass(slots=True)
class _Pending:
    """An attempt that nobody has claimed yet."""

    attempt: OfferedAttempt
    avoid: tuple[str, ...]
    asked: set[str] = field(default_factory=set)
    ask_again: str = ""
    """The worker whose answer was lost, to be asked once more before others."""
    refusals: dict[str, str] = field(default_factory=dict)
    """What each worker that was asked has said last, as long as it can be asked again."""
    said: frozenset[str] = frozenset((ABOUT_TO_BE_OFFERED,))
    """The reasons that the log has."""


@dataclass(slots=True)
class _Peer:
    """Memory of the leader about a worker between offers."""

    trouble: Trouble
    in_flight: bool = False
    suspect_until: float = 0.0
    busy_until: float = 0.0


class _Matches:
    """Which workers have the labels that attempts want, found once for all that want the same."""

    def __init__(self, workers: Sequence[Candidate]) -> None:
        self.workers = workers
        self._found: dict[frozenset[tuple[str, str]], frozenset[str]] = {}

    def of(self, attempt: OfferedAttempt) -> frozenset[str]:
        wanted = attempt.specification.labels
        key = frozenset(wanted.items())
        if key not in self._found:
            self._found[key] = frozenset(each.node_id for each in self.workers if each.matches(wanted))
        return self._found[key]


class Dispatcher:
    """The attempts of one term that are to be claimed.

    `workers` tells the live nodes that take new executions. `numbers` are those of offers, one row for the
    process: a term may see several dispatchers in it, but no other process."""

    def __init__(
        self,
        nodes: NodeClient,
        clock: Clock,
        burst: StartsFirst,
        leadership: Leadership,
        tracker: Tracker,
        *,
        workers: Callable[[], Sequence[Candidate]],
        numbers: Iterator[int],
    ) -> None:
        self._nodes = nodes
        self._clock = clock
        self._burst = burst
        self._leadership = leadership
        self._tracker = tracker
        self._workers = workers
        self._numbers = numbers
        self._pending: dict[str, _Pending] = {}
        self._peers: dict[str, _Peer] = {}
        self._in_flight: set[str] = set()
        self._open_until: dict[str, float] = {}
        self._turn = 0
        self._wake = asyncio.Event()
        self._began_at = clock.monotonic()
        self._sweep_at = self._began_at + SWEEP_SECONDS
        self._held = ""
        self._has_offered = False

    def add(self, attempt: OfferedAttempt, avoid: tuple[str, ...]) -> None:
        """Offer an attempt until it is claimed or dropped; if it is offered already, as it is given now."""
        if self.pending(attempt.execution_id) != attempt:
            self._pending[attempt.execution_id] = _Pending(attempt, avoid)
            self._wake.set()

    def pending(self, execution_id: str) -> OfferedAttempt | None:
        """An attempt as it is offered; None when nothing is to be offered, or is any more."""
        pending = self._pending.get(execution_id)
        return pending.attempt if pending is not None else None

    def waits(self, execution_id: str) -> bool:
        """Whether an attempt is to be offered, and no answer to an offer is due."""
        return execution_id in self._pending and execution_id not in self._in_flight

    def hold(self, reason: str) -> None:
        """Offer nothing while there is a reason not to; go on with an empty one."""
        self._held = reason
        for pending in self._pending.values() if reason else ():
            pending.refusals.clear()
        self._wake.set()

    def drop(self, execution_id: str) -> None:
        """Offer it no more."""
        self._pending.pop(execution_id, None)

    def is_under_way(self, execution_id: str) -> bool:
        """Whether it is being offered."""
        return execution_id in self._pending or execution_id in self._in_flight

    def waiting(self, limit: int | None = None) -> dict[str, tuple[str, str]]:
        """Execution id to job and reason of what is not claimed, at most `limit` of them.

        Why it waits is found out anew each time: nothing of it is remembered but what workers said."""
        matches = _Matches(self._workers())
        return {
            execution_id: (pending.attempt.job, self._reasons(pending, matches)[1])
            for execution_id, pending in itertools.islice(self._pending.items(), limit)
        }

    def _reasons(self, pending: _Pending, matches: _Matches) -> tuple[frozenset[str], str]:
        """Why nobody has an attempt yet, whoever says so, and the same in a sentence."""
        if self._held:
            return frozenset((self._held,)), self._held
        matching = matches.of(pending.attempt)
        if not matching:
            reason = NO_LABEL.format(labels=_labels(pending.attempt)) if matches.workers else NO_WORKER
            return frozenset((reason,)), reason
        said = {node_id: why for node_id, why in pending.refusals.items() if node_id in matching}
        reasons = frozenset(said.values()) or frozenset((ABOUT_TO_BE_OFFERED,))
        return reasons, refused(said) or ABOUT_TO_BE_OFFERED

    def waiting_count(self) -> int:
        """Number of attempts that nobody has claimed."""
        return len(self._pending)

    def freed(self) -> None:
        """A worker has ended something: whoever was busy may take more."""
        if self._pending:
            for peer in self._peers.values():
                peer.busy_until = 0.0
            self._sweep()

    def is_closed(self, execution_id: str, intended_in_term: int) -> bool:
        """Whether no offer of an attempt, this leader's or an earlier one's, can still become a claim."""
        if self.is_under_way(execution_id):
            return False
        earlier = self._began_at + CLAIM_SETTLE_SECONDS if intended_in_term != self._leadership.term else 0.0
        return self._clock.monotonic() >= max(earlier, self._open_until.get(execution_id, 0.0))

    async def run(self) -> None:
        """Offer until cancelled; requests under way are cancelled with it."""
        async with asyncio.TaskGroup() as requests:
            while True:
                self._assign(requests)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SWEEP_SECONDS):
                        await self._wake.wait()
                self._wake.clear()
                # By the clock: on a busy cluster something wakes this loop all the time.
                if self._clock.monotonic() >= self._sweep_at:
                    self._say_what_waits()
                    self._sweep()

    def _sweep(self) -> None:
        """Forget who refused, and which lost answers can no longer matter."""
        now = self._clock.monotonic()
        self._sweep_at = now + SWEEP_SECONDS
        self._open_until = {each: until for each, until in self._open_until.items() if until > now}
        present = {worker.node_id for worker in self._workers()}
        for pending in self._pending.values():
            pending.asked.clear()
            self._forget_refusals(pending, present)
        self._wake.set()

    @staticmethod
    def _forget_refusals(pending: _Pending, present: Collection[str]) -> None:
        """Forget what those said who cannot be asked now: when they can, they may say something else."""
        if not pending.refusals.keys() <= set(present):
            pending.refusals = {each: why for each, why in pending.refusals.items() if each in present}

    def _say_what_waits(self) -> None:
        """Log why attempts wait, each reason once as long as it holds."""
        matches = _Matches(self._workers())
        left = MAX_SAID
        for pending in self._pending.values():
            reasons, why = self._reasons(pending, matches)
            if reasons == pending.said:
                continue
            pending.said = reasons
            attempt = pending.attempt
            log.info("waits", action="wait", job=attempt.job, execution=attempt.execution_id, reason=why)
            left -= 1
            if not left:
                break

    def _assign(self, requests: asyncio.TaskGroup) -> None:
        """Give every attempt to a free worker, and send each worker its share."""
        if self._held or not self._pending or not self._leadership.may_lead():
            return
        workers = list(self._workers())
        if workers and not any(self._is_free(worker) for worker in workers):
            return
        shares: dict[str, tuple[Candidate, list[_Pending]]] = {}
        for execution_id, pending in self._pending.items():
            if execution_id in self._in_flight:
                continue
            worker = self._choose(pending, workers)
            if worker is None:
                continue
            _, share = shares.setdefault(worker.node_id, (worker, []))
            if len(share) < MAX_SHARE:
                share.append(pending)
                self._turn += 1
        for worker, share in shares.values():
            peer = self._peer(worker.node_id)
            assert not peer.in_flight, "a worker is asked one thing at a time"
            assert len(share) <= MAX_SHARE
            peer.in_flight = True
            # Here, not in the request: the next look may come before the request has begun.
            self._in_flight.update(pending.attempt.execution_id for pending in share)
            requests.create_task(self._offer(worker, share))

    def _choose(self, pending: _Pending, workers: list[Candidate]) -> Candidate | None:
        """The next worker to ask; None when none can be asked now."""
        matching = candidates(workers, pending.attempt.specification.labels, pending.avoid, self._turn)
        self._forget_refusals(pending, [worker.node_id for worker in matching])
        left = [worker for worker in matching if worker.node_id not in pending.asked]
        left.sort(key=lambda worker: worker.node_id != pending.ask_again)
        return next((worker for worker in left if self._is_free(worker, pending)), None)

    def _is_free(self, worker: Candidate, pending: _Pending | None = None) -> bool:
        """Whether a worker may be asked now; a suspect one only for the attempt whose answer it owes."""
        peer = self._peer(worker.node_id)
        now = self._clock.monotonic()
        owes = pending is None or pending.ask_again == worker.node_id
        return not peer.in_flight and peer.busy_until <= now and (owes or peer.suspect_until <= now)

    def _peer(self, node_id: str) -> _Peer:
        if node_id not in self._peers:
            trouble = Trouble("offer", "no answer to an offer", "answers offers again", worker=node_id)
            self._peers[node_id] = _Peer(trouble)
        return self._peers[node_id]

    async def _offer(self, worker: Candidate, share: list[_Pending]) -> None:
        """One request to one worker, and what follows from its answers."""
        peer = self._peer(worker.node_id)
        term, leader_id = self._leadership.term, self._leadership.node_id
        now = self._clock.now()
        attempts = [pending.attempt.at(now) for pending in share]
        answers: list[OfferAnswer] | None = None
        if not self._has_offered:
            self._has_offered = True
            self._log_first_offer(worker)
        try:
            with self._burst.of(len(attempts)):
                answers = await self._nodes.offer(
                    worker.address, worker.node_id, term, next(self._numbers), leader_id, attempts
                )
        except NodeUnreachable as error:
            peer.trouble.met(str(error))
            peer.suspect_until = self._clock.monotonic() + SUSPECT_SECONDS
        finally:
            peer.in_flight = False
            self._in_flight.difference_update(attempt.execution_id for attempt in attempts)
            self._wake.set()
        if answers is None:
            self._unanswered(worker, share)
        else:
            peer.trouble.over()
            counted = Counter(answer.result.value for answer in answers)
            log.info("offered", action="offer", term=term, worker=worker.node_id, **counted)
            for pending, answer in zip(share, answers, strict=True):
                self._take_answer(worker, pending, answer)

    def _log_first_offer(self, worker: Candidate) -> None:
        """A change of leaders is over for whoever waits for an execution."""
        seconds = round(self._clock.monotonic() - self._began_at, 3)
        log.info(
            "first offer of the term",
            action="first_offer",
            term=self._leadership.term,
            worker=worker.node_id,
            after_seconds=seconds,
        )

    def _unanswered(self, worker: Candidate, share: list[_Pending]) -> None:
        """Ask the same worker once more, for it knows what it claimed; then the next one."""
        for pending in share:
            execution_id = pending.attempt.execution_id
            self._open_until[execution_id] = self._clock.monotonic() + CLAIM_SETTLE_SECONDS
            self._tracker.doubt(execution_id)
            pending.refusals[worker.node_id] = NO_ANSWER
            if pending.ask_again == worker.node_id:
                pending.ask_again = ""
                pending.asked.add(worker.node_id)
            else:
                pending.ask_again = worker.node_id

    def _take_answer(self, worker: Candidate, pending: _Pending, answer: OfferAnswer) -> None:
        execution_id = pending.attempt.execution_id
        if answer.result in (OfferResult.ACCEPTED, OfferResult.NOT_CLAIMED):
            self.drop(execution_id)
            log.debug(answer.result.value, action="offer", execution=execution_id, worker=worker.node_id)
            if answer.result is OfferResult.ACCEPTED:
                self._tracker.accepted(execution_id, worker.node_id)
            else:
                self._tracker.doubt(execution_id)
            return
        if self._pending.get(execution_id) is not pending:
            # It was withdrawn meanwhile. Whoever looked at it since has found it under way, and left it.
            self._tracker.doubt(execution_id)
        pending.ask_again = ""
        pending.asked.add(worker.node_id)
        pending.refusals[worker.node_id] = answer.reason or answer.result.value
        if answer.result is OfferResult.BUSY:
            self._peer(worker.node_id).busy_until = self._clock.monotonic() + SWEEP_SECONDS
            pending.refusals[worker.node_id] = BUSY
            self._burst.slots_are_short()
        elif answer.result is OfferResult.OLDER_TERM:
            self._leadership.look()


def _labels(attempt: OfferedAttempt) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(attempt.specification.labels.items()))
