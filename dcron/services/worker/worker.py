"""The worker's side of an offer: check, note in the spool, claim in the database, start."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

import structlog

from dcron.domain.documents import claim_body
from dcron.domain.errors import NotFound, ObjectsUnreachable, SpoolFull, StoreUnreachable
from dcron.domain.execution_id import ExecutionId
from dcron.domain.model import Claim, Script, State
from dcron.domain.offers import ClaimReference, KnownClaims, OfferAnswer, OfferedAttempt, OfferResult
from dcron.ports import Clock, Document, DocumentStore
from dcron.services.shared.months import by_month
from dcron.services.shared.node_state import LocalState
from dcron.services.shared.starts_first import StartsFirst
from dcron.services.worker.executor import CLAIM_TO_START_SECONDS, Executor, Launch
from dcron.services.worker.log_file import follow_file
from dcron.services.worker.script_cache import BadScript, ScriptCache
from dcron.services.worker.spool import Entry, Spool
from dcron.services.worker.write_offs import WriteOffs

__all__ = ["Worker"]

SCRIPT_PATIENCE_SECONDS = 2.0
"""Time for which an offer waits for its script. After it the worker refuses, and goes on fetching."""
START_PATIENCE_SECONDS = 1.5
"""How long an offer waits for what was claimed before to be started. Together with the above it is less
than the leader's patience: `dcron/node.py` holds that."""
OFFER_AGE_SECONDS = 4.0
"""An offer that got this old (CLOCK_BOOTTIME) before its claim is refused: the node was paused, and the
leader is about to believe that no claim can come of it any more."""
FINISH_SECONDS = 3.0
"""Time for which a node that stops waits for the claims and starts that it has begun."""

_STARTING = OfferAnswer(OfferResult.BUSY)
_STOPPING = OfferAnswer(OfferResult.UNABLE, "the node is stopping")

_start_boottime = attrgetter("start_boottime")

log = structlog.get_logger()


class Worker:
    """Takes offers for one node. What the leader asks is answered within its patience; what was begun is
    finished even when the asking leader hangs up."""

    def __init__(
        self,
        node_id: str,
        slots: int,
        store: DocumentStore,
        spool: Spool,
        scripts: ScriptCache,
        executor: Executor,
        local: LocalState,
        clock: Clock,
        burst: StartsFirst,
    ) -> None:
        self._node_id = node_id
        self._slots = slots
        self._store = store
        self._spool = spool
        self._scripts = scripts
        self._executor = executor
        self._local = local
        self._clock = clock
        self._burst = burst
        self._deciding: dict[str, asyncio.Future[OfferAnswer]] = {}
        self._begun: set[asyncio.Task[None]] = set()
        self._newest_offer = (0, 0)
        """Term and number of the newest offer that came."""
        self._write_offs = WriteOffs(node_id, store, executor)
        self._stopping = False
        self.ready = False

    async def offer(
        self, node_id: str, term: int, number: int, leader_id: str, attempts: Sequence[OfferedAttempt]
    ) -> list[OfferAnswer]:
        """One answer for each attempt, in order.

        `number` grows with each offer of a term. One that is not newer than the last comes late or once more:
        the leader has gone on, and may believe by now that no claim can come of it."""
        if node_id != self._node_id:
            refused = OfferAnswer(OfferResult.UNABLE, f"this is node {self._node_id}, not {node_id}")
            return [refused] * len(attempts)
        # Even where nothing is taken: whoever has seen a term takes no offer of an older one.
        self._local.saw_term(term)
        refusal = self._refusal(term, number)
        self._newest_offer = max(self._newest_offer, (term, number))
        if refusal is not None:
            return [refusal] * len(attempts)
        log.debug("offered", action="offer", leader=leader_id, term=term, attempts=len(attempts))
        futures = [self._decide(attempt) for attempt in attempts]
        fresh = [
            (attempt, future) for attempt, (future, is_new) in zip(attempts, futures, strict=True) if is_new
        ]
        if fresh:
            self._begin(self._take(term, fresh))
        return list(await asyncio.gather(*(asyncio.shield(future) for future, _ in futures)))

    async def finish(self) -> None:
        """Take nothing any more, and see to the end what was begun, for FINISH_SECONDS at most: what this
        node has claimed, no other one may start before it is back."""
        self._stopping = True
        deadline = asyncio.get_running_loop().time() + FINISH_SECONDS
        while self._begun and (left_seconds := deadline - asyncio.get_running_loop().time()) > 0:
            # What is begun may begin more: a claim is followed by its start.
            await asyncio.wait(self._begun, timeout=left_seconds, return_when=asyncio.FIRST_COMPLETED)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this to its end even if the caller hangs up."""
        task = asyncio.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    def _refusal(self, term: int, number: int) -> OfferAnswer | None:
        """Reason why nothing at all is taken now; None when something may be."""
        if self._stopping:
            return _STOPPING
        if not self.ready:
            return OfferAnswer(OfferResult.UNABLE, "the node is starting")
        if term < self._local.newest_term:
            return OfferAnswer(OfferResult.OLDER_TERM, f"term {self._local.newest_term} has been seen")
        if (term, number) <= self._newest_offer:
            return OfferAnswer(OfferResult.UNABLE, "a later offer of this leader has been seen")
        if self._local.draining:
            return OfferAnswer(OfferResult.DRAINING, "the node is draining")
        return None

    def _decide(self, attempt: OfferedAttempt) -> tuple[asyncio.Future[OfferAnswer], bool]:
        """The answer to an attempt, and whether it has yet to be found: then a slot is reserved."""
        under_way = self._deciding.get(attempt.execution_id)
        if under_way is not None:
            return under_way, False
        future: asyncio.Future[OfferAnswer] = asyncio.get_running_loop().create_future()
        if self._executor.has_begun(attempt.execution_id):
            future.set_result(OfferAnswer(OfferResult.ACCEPTED, "claimed before"))
        elif attempt.scheduled_at < self._local.floor:
            future.set_result(OfferAnswer(OfferResult.UNABLE, "it is from before the retention floor"))
        elif len(self._executor) + len(self._deciding) >= self._slots:
            self._burst.slots_are_short()
            future.set_result(OfferAnswer(OfferResult.BUSY))
        else:
            self._deciding[attempt.execution_id] = future
            return future, True
        return future, False

    async def _take(self, term: int, fresh: list[tuple[OfferedAttempt, asyncio.Future[OfferAnswer]]]) -> None:
        """Find the answers of attempts that are new here, and start what is claimed."""
        answers: dict[str, OfferAnswer] = {}
        try:
            answers = await self._answers(term, [attempt for attempt, _ in fresh])
        except Exception:
            log.exception("cannot take an offer", action="offer", term=term, attempts=len(fresh))
        finally:
            unable = OfferAnswer(OfferResult.UNABLE, "the node failed to take it; see its log")
            for attempt, future in fresh:
                del self._deciding[attempt.execution_id]
                future.set_result(answers.get(attempt.execution_id, unable))

    async def _answers(self, term: int, attempts: list[OfferedAttempt]) -> dict[str, OfferAnswer]:
        """Fetch the scripts, then claim and start what can be run."""
        offered_boottime = self._clock.boottime()
        scripts = await self._fetch_scripts({attempt.specification.script for attempt in attempts})
        if not await self._executor.has_room(START_PATIENCE_SECONDS):
            return {attempt.execution_id: _STARTING for attempt in attempts}
        if self._clock.boottime() - offered_boottime > OFFER_AGE_SECONDS:
            late = OfferAnswer(OfferResult.UNABLE, "the node was paused, and the offer is too old by now")
            return {attempt.execution_id: late for attempt in attempts}
        if self._stopping:
            return {attempt.execution_id: _STOPPING for attempt in attempts}
        answers: dict[str, OfferAnswer] = {}
        possible = []
        for attempt in attempts:
            path = scripts[attempt.specification.script.sha256]
            if isinstance(path, OfferAnswer):
                answers[attempt.execution_id] = path
            else:
                possible.append((attempt, path))
        return answers | await self._claim(term, offered_boottime, possible) if possible else answers

    async def _fetch_scripts(self, scripts: set[Script]) -> dict[str, str | BadScript | OfferAnswer]:
        """Path of each script by digest; why not, when it can never be had or cannot be had now.

        Before the claim, because afterwards every second counts."""

        async def fetch(script: Script) -> str | BadScript | OfferAnswer:
            try:
                async with asyncio.timeout(SCRIPT_PATIENCE_SECONDS):
                    return str(await self._scripts.path(script))
            except (BadScript, NotFound) as error:
                return BadScript(str(error))
            except TimeoutError:
                return OfferAnswer(OfferResult.UNABLE, "its script is still being fetched")
            except (ObjectsUnreachable, OSError) as error:
                return OfferAnswer(OfferResult.UNABLE, f"its script cannot be fetched: {error}")

        ordered = sorted(scripts, key=lambda script: script.sha256)
        found = await asyncio.gather(*(fetch(script) for script in ordered))
        return {script.sha256: each for script, each in zip(ordered, found, strict=True)}

    async def _claim(
        self, term: int, offered_boottime: float, possible: list[tuple[OfferedAttempt, str | BadScript]]
    ) -> dict[str, OfferAnswer]:
        """Spool, claim, and start at their instants what got a plain success; nothing else ever starts."""
        now = self._clock.now()
        claimed_boottime = self._clock.boottime()
        claims = [self._new_claim(attempt, term, now) for attempt, _ in possible]
        try:
            entries = await asyncio.to_thread(self._spool.add, claims)
        except SpoolFull as error:
            return {claim.execution_id: OfferAnswer(OfferResult.UNABLE, str(error)) for claim in claims}
        won = await self._write_claims(entries)
        is_late = self._clock.boottime() - claimed_boottime > CLAIM_TO_START_SECONDS
        launches: list[Launch] = []
        answers: dict[str, OfferAnswer] = {}
        for (attempt, path), entry in zip(possible, entries, strict=True):
            assert entry.claim.execution_id == attempt.execution_id
            if entry.claim.token not in won:
                self._executor.refuse(entry, "its claim was not a plain success")
                answers[attempt.execution_id] = OfferAnswer(OfferResult.NOT_CLAIMED)
                continue
            answers[attempt.execution_id] = OfferAnswer(OfferResult.ACCEPTED)
            if is_late:
                self._executor.refuse(entry, "the answer to its claim came too late", closes=True)
            elif isinstance(path, BadScript):
                self._executor.refuse(entry, str(path), State.FAILED)
            else:
                start_boottime = offered_boottime + attempt.start_in_seconds
                launches.append(Launch(entry, attempt, path, claimed_boottime, start_boottime))
        # The leader has its answer first: it may have more, and starting takes a while.
        self._executor.occupy(launch.entry for launch in launches)
        assert not launches or len(self._executor) <= self._slots, "each launch had a slot reserved"
        for _, group in groupby(sorted(launches, key=_start_boottime), key=_start_boottime):
            self._begin(self._executor.start(list(group)))
        return answers

    def _new_claim(self, attempt: OfferedAttempt, term: int, now: datetime) -> Claim:
        return Claim(
            execution_id=attempt.execution_id,
            token=secrets.token_hex(8),
            node_id=self._node_id,
            job=attempt.job,
            term=term,
            revision=attempt.revision,
            script=attempt.specification.script,
            scheduled_at=attempt.scheduled_at,
            manual=attempt.manual,
            claimed_at=now,
            timeout_seconds=attempt.specification.timeout_seconds,
            coalesced=attempt.coalesced,
        )

    async def _write_claims(self, entries: list[Entry]) -> set[str]:
        """Tokens of the claims that got a plain success; where there is no answer, there is none."""
        won: set[str] = set()
        for database, group in by_month(entries, lambda entry: entry.claim.scheduled_at).items():
            documents = [Document(entry.claim.execution_id, claim_body(entry.claim)) for entry in group]
            try:
                results = await self._store.write(database, documents)
            except StoreUnreachable as error:
                log.warning("cannot claim", action="claim", error=str(error))
                continue
            except Exception:
                # They may be stored: each is to get its outcome, like any other that was not won.
                log.exception("cannot claim", action="claim", database=database)
                continue
            won |= {entry.claim.token for entry, result in zip(group, results, strict=True) if result.done}
        return won

    async def cancel(self, execution_id: str) -> bool:
        """Stop a script that runs here."""
        return await self._executor.cancel(execution_id)

    async def known_claims(self, node_id: str, claims: Sequence[ClaimReference]) -> KnownClaims:
        """Claims of this node that it holds or has delivered.

        The others it goes on to write off as lost: their spool entry is gone (a new disk, a wiped folder), so
        nobody will ever tell how they ended."""
        everything = frozenset(claim.token for claim in claims)
        if node_id != self._node_id or not self.ready:
            return KnownClaims(everything)
        held = frozenset(claim.token for claim in claims if self._holds(claim))
        try:
            delivered = await self._executor.delivered(
                [claim.token for claim in claims if claim.token not in held and self._is_remembered(claim)]
            )
        except OSError as error:
            log.error("cannot look up deliveries", action="known_claims", error=str(error))
            return KnownClaims(everything)
        # One may have been written off, and be held since, while the disk was asked.
        lost = [claim for claim in claims if claim.token not in delivered and not self._holds(claim)]
        if lost:
            self._begin(self._write_offs.write_off(lost))
        return KnownClaims(held | delivered, delivered)

    def _holds(self, claim: ClaimReference) -> bool:
        return claim.execution_id in self._deciding or self._executor.holds(claim.token)

    def _is_remembered(self, claim: ClaimReference) -> bool:
        """Whether a delivery of it still tells something. What was before the floor is from a store that was
        replaced by its backup, or from months that were dropped."""
        identifier = ExecutionId.parse_or_none(claim.execution_id)
        return identifier is not None and identifier.instant >= self._local.floor

    def follow_log(self, execution_id: str, offset: int, *, follow: bool) -> AsyncIterator[bytes]:
        """The log of an attempt in the spool; NotFound when it is not there (any more)."""
        entry = self._executor.entry_of(execution_id)
        if entry is None:
            raise NotFound(f"execution {execution_id} is not in the spool of {self._node_id}")
        return follow_file(
            entry.log_path,
            offset,
            self._executor.max_log_bytes,
            lambda: follow and self._executor.is_running(entry),
        )
