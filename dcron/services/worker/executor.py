"""Starts claimed attempts, learns how they ended, and takes them up again after a restart."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import structlog

from dcron.domain.errors import DcronError, InvalidInput, SpoolFull
from dcron.domain.instants import format_instant
from dcron.domain.model import Claim, Outcome, State
from dcron.domain.offers import OfferedAttempt
from dcron.domain.views import HeldExecution
from dcron.ports import Clock, ProcessRunner, ProcessStart, StartResult
from dcron.services.shared.starts_first import StartsFirst
from dcron.services.worker.claim_confirmer import ClaimConfirmer
from dcron.services.worker.outbox import Outbox
from dcron.services.worker.script_end import outcome_of_end
from dcron.services.worker.spool import Entry, Spool, claim_note

__all__ = ["CLAIM_TO_START_SECONDS", "Executor", "Launch"]

CLAIM_TO_START_SECONDS = 5.0
"""A script does not start when more than this has passed, by CLOCK_BOOTTIME, since its claim was sent, or
since its instant if that came later: by then the leader may have reason to believe that it never will."""
RECOVER_POLL_SECONDS = 0.5
MAX_STARTING = 150
"""Claimed scripts that may be on their way to the keeper before another offer is claimed: far fewer than it
starts within CLAIM_TO_START_SECONDS, even on a machine that is busy with the scripts themselves."""
MAX_AHEAD = 600
"""Claimed scripts that may wait for their instants before another offer is claimed: also fewer than that."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Launch:
    """A claimed attempt about to start; `claimed_boottime` is from before its claim was sent."""

    entry: Entry
    attempt: OfferedAttempt
    script_path: str
    claimed_boottime: float
    start_boottime: float = 0.0
    """Its instant, as the offer had it, by CLOCK_BOOTTIME; long ago when it had come."""


class Executor:
    """The scripts that run on this node, by token."""

    def __init__(
        self,
        node_id: str,
        spool: Spool,
        runner: ProcessRunner,
        outbox: Outbox,
        claims: ClaimConfirmer,
        clock: Clock,
        burst: StartsFirst,
        *,
        environment: Mapping[str, str],
        max_log_bytes: int,
    ) -> None:
        self._node_id = node_id
        self._spool = spool
        self._runner = runner
        self._outbox = outbox
        self._claims = claims
        self._clock = clock
        self._burst = burst
        self._starting = 0
        self._ahead: set[str] = set()
        """Tokens of what waits for its instant."""
        self._environment = environment
        self.max_log_bytes = max_log_bytes
        self._running: dict[str, Entry] = {}
        self._of_execution: dict[str, Entry] = {}
        self._seen_running: set[str] = set()
        """Tokens of the running scripts of which the keeper has said that it started them."""
        self._unanswered: asyncio.Queue[list[Entry]] = asyncio.Queue()
        self._fewer_start = asyncio.Event()

    def __len__(self) -> int:
        return len(self._running)

    def held(self) -> Iterator[HeldExecution]:
        """Executions that run here, then those that have ended and are on their way."""
        for entry in self._running.values():
            claim = entry.claim
            yield HeldExecution(claim.execution_id, claim.job, State.RUNNING, claim.claimed_at)
        yield from self._outbox.held()

    def holds(self, token: str) -> bool:
        """Whether an attempt runs here, or its outcome is on its way."""
        return token in self._running or self._outbox.holds(token)

    async def delivered(self, tokens: Collection[str]) -> frozenset[str]:
        """Those of some tokens that were delivered from here. Raises OSError."""
        return await self._outbox.delivered(tokens)

    def has_begun(self, execution_id: str) -> bool:
        """Whether this node holds the claim of an execution, running or ended and not delivered yet.

        One whose claim was no plain success does not count: it may be tried again under another token."""
        entry = self.entry_of(execution_id)
        return entry is not None and not self._outbox.is_unstarted(entry.claim.token)

    def entry_of(self, execution_id: str) -> Entry | None:
        """The attempt of an execution while it is in the spool."""
        return self._of_execution.get(execution_id) or self._outbox.entry_of(execution_id)

    def is_running(self, entry: Entry) -> bool:
        """Whether its script has not ended yet."""
        return entry.claim.token in self._running

    async def cancel(self, execution_id: str) -> bool:
        """Stop a script and all it left behind; False when it does not run here.

        SpoolFull: it goes on, for its cancelling could not be noted."""
        entry = self._of_execution.get(execution_id)
        if entry is not None and entry.claim.token in self._ahead:
            self._cancel_ahead(entry)
            return True
        return entry is not None and await self._runner.cancel(entry.claim.token)

    def _cancel_ahead(self, entry: Entry) -> None:
        outcome = self._outcome(entry.claim, "cancelled before its instant", State.CANCELLED)
        try:
            self._spool.finish(entry, outcome)
        except OSError as error:
            # After a restart it would count as not started, and be tried again.
            raise SpoolFull(
                f"the node cannot note that {entry.claim.execution_id} is cancelled, and goes on with it "
                f"({error.strerror}); make room on its disk and cancel again"
            ) from error
        self._end(entry, outcome)

    async def write_off(self, claim: Claim, why: str) -> None:
        """Deliver that nobody will ever tell how a claimed attempt ended. SpoolFull: it is not delivered."""
        outcome = self._outcome(claim, why, State.LOST)
        self._end(await asyncio.to_thread(self._spool.add_ended, claim, outcome), outcome)

    def occupy(self, entries: Iterable[Entry]) -> None:
        """Take the slots of claimed attempts; `start` must follow."""
        for entry in entries:
            self._running[entry.claim.token] = entry
            self._of_execution[entry.claim.execution_id] = entry

    async def has_room(self, seconds: float) -> bool:
        """Wait until what is claimed now would be started soon, for so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._has_room():
                    self._fewer_start.clear()
                    await self._fewer_start.wait()
        return self._has_room()

    def _has_room(self) -> bool:
        return self._starting <= MAX_STARTING and self._starting + len(self._ahead) <= MAX_AHEAD

    async def start(self, launches: list[Launch]) -> None:
        """Start claimed attempts of one instant when it has come; what cannot gets its outcome at once."""
        self.occupy(launch.entry for launch in launches)
        left_seconds = max(launch.start_boottime for launch in launches) - self._clock.boottime()
        if left_seconds > 0:
            launches = await self._await_instant(launches, left_seconds)
        if launches:
            await self._start_now(launches)

    async def _await_instant(self, launches: list[Launch], left_seconds: float) -> list[Launch]:
        """Those of them that are still to start then."""
        tokens = {launch.entry.claim.token for launch in launches}
        assert not tokens & self._ahead, "what waits for its instant is started once"
        self._ahead |= tokens
        try:
            await asyncio.sleep(left_seconds)
        finally:
            self._ahead -= tokens
            self._fewer_start.set()
        return [launch for launch in launches if launch.entry.claim.token in self._running]

    async def _start_now(self, launches: list[Launch]) -> None:
        self._starting += len(launches)
        try:
            with self._burst.of(len(launches)):
                await self._start(launches)
        finally:
            self._starting -= len(launches)
            self._fewer_start.set()

    async def _start(self, launches: list[Launch]) -> None:
        try:
            results = await self._runner.start([self._process(launch) for launch in launches])
            for launch, result in zip(launches, results, strict=True):
                self._note_start(launch.entry, result)
        except InvalidInput as error:
            await self._start_one_by_one(launches, error)
        except DcronError as error:
            log.warning("no answer from the keeper", action="start", error=str(error))
            self._unanswered.put_nowait([launch.entry for launch in launches])
        except Exception:
            log.exception("cannot tell what was started", action="start")
            self._unanswered.put_nowait([launch.entry for launch in launches])

    async def _start_one_by_one(self, launches: list[Launch], error: InvalidInput) -> None:
        """One that cannot be passed on fails alone; a token that runs by now is not started again."""
        if len(launches) == 1:
            self.refuse(launches[0].entry, str(error), State.FAILED)
            return
        for launch in launches:
            if launch.entry.claim.token in self._running:
                await self._start_now([launch])

    def _note_start(self, entry: Entry, result: StartResult) -> None:
        if result is StartResult.STARTED:
            self._note_running(entry)
            log.info("started", action="start", execution=entry.claim.execution_id)
        elif result is StartResult.TOO_LATE:
            self.refuse(entry, f"more than {CLAIM_TO_START_SECONDS:g} s passed after the claim", closes=True)
        elif result is StartResult.SPOOL_FULL:
            self.refuse(entry, "the node has no room to start it; its log says why", closes=True)
        else:
            self._learn_end(entry)

    def _note_running(self, entry: Entry) -> None:
        # Its end may be known by now, if that was told first.
        if entry.claim.token in self._running:
            self._seen_running.add(entry.claim.token)

    def _learn_end(self, entry: Entry) -> None:
        """Read how an attempt ended; one without any trace was never started, unless it was seen to be."""
        outcome = self._seen_end(entry)
        if outcome is not None:
            self._end(entry, outcome)
        elif entry.claim.token in self._seen_running:
            self.refuse(entry, "nobody saw how it ended: its record is gone from the spool", State.LOST)
        else:
            self.refuse(entry, "the keeper did not start it", closes=True)

    def refuse(
        self, entry: Entry, why: str, state: State = State.NOT_STARTED, *, closes: bool = False
    ) -> None:
        """Give an attempt an outcome that no exit of a script tells.

        `closes` says that no other claim of it can win: this one did, or a quorum has had it for
        CLAIM_TO_START_SECONDS."""
        outcome = self._outcome(entry.claim, why, state, closes=closes)
        try:
            self._spool.finish(entry, outcome)
        except OSError as error:
            # The outbox has it in memory. A restart finds no sign of a start, and says that there was none.
            log.warning("cannot note outcome", action="end", error=str(error))
        self._end(entry, outcome)

    def _outcome(self, claim: Claim, why: str, state: State, *, closes: bool = False) -> Outcome:
        """Outcome that no exit of a script tells."""
        return Outcome(
            claim.execution_id,
            claim.token,
            self._node_id,
            state,
            self._clock.now(),
            message=why,
            closes=closes,
        )

    def _end(self, entry: Entry, outcome: Outcome) -> None:
        assert outcome.token == entry.claim.token, "an outcome is its claimant's own"
        self._running.pop(entry.claim.token, None)
        self._seen_running.discard(entry.claim.token)
        if self._of_execution.get(entry.claim.execution_id) is entry:
            del self._of_execution[entry.claim.execution_id]
        self._outbox.add(entry, outcome)

    async def run(self) -> None:
        """Learn of the scripts that end, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._exits_loop())
            group.create_task(self._unanswered_loop())

    async def _exits_loop(self) -> None:
        while True:
            token = await self._runner.next_exit()
            entry = self._running.get(token)
            if entry is not None:
                self._learn_end(entry)

    async def _unanswered_loop(self) -> None:
        while True:
            entries = await self._unanswered.get()
            won = frozenset(entry.claim.token for entry in entries)
            await self._settle(entries, "the keeper did not start it", won)

    async def recover(self) -> None:
        """Take up what the spool holds from before: adopt what runs, deliver what ended.

        Nobody knows any more whether a claim that was not started had won. So a quorum is given it first. If
        the claim of another node wins all the same, it was sent before that: once CLAIM_TO_START_SECONDS have
        passed, its node has heard of it, or will not start it."""
        undecided = [entry for entry in self._spool.entries() if not self._take_up(entry)]
        self.occupy(undecided)
        left = await self._still_undecided(undecided)
        undecided = undecided if left is None else left
        confirmed = await self._claims.confirm([entry.claim for entry in undecided])
        await self._settle(undecided, "the node was restarted between claim and start", confirmed)

    async def _settle(self, undecided: list[Entry], why: str, closing: frozenset[str]) -> None:
        """Find out which attempts were started. `closing` has the tokens whose rivals cannot win after this.

        What has no sign of a start cannot start any more once the time allowed for it has passed; the
        last look comes after that."""
        deadline = self._clock.boottime() + CLAIM_TO_START_SECONDS
        while undecided:
            closed = self._clock.boottime() >= deadline
            left = await self._still_undecided(undecided)
            if left is not None:
                undecided = left
                if closed:
                    break
            await asyncio.sleep(RECOVER_POLL_SECONDS)
        for entry in undecided:
            self.refuse(entry, why, closes=entry.claim.token in closing)

    async def _still_undecided(self, entries: list[Entry]) -> list[Entry] | None:
        """Those without a sign of a start; None when the keeper does not answer."""
        try:
            running = await self._runner.running()
        except DcronError as error:
            log.warning("no answer from the keeper", action="adopt", error=str(error))
            return None
        return [entry for entry in entries if not self._is_decided(entry, running)]

    def _take_up(self, entry: Entry) -> bool:
        outcome = self._spool.outcome(entry) or self._seen_end(entry)
        if outcome is None:
            return False
        self._outbox.add(entry, outcome)
        return True

    def _seen_end(self, entry: Entry) -> Outcome | None:
        """The outcome of a script whose end its keeper has written down."""
        ended = self._runner.read_exit(entry.folder, entry.claim.token)
        if ended is None:
            return None
        return outcome_of_end(entry.claim, ended, self._node_id, self._clock.now(), self.max_log_bytes)

    def _is_decided(self, entry: Entry, running: frozenset[str]) -> bool:
        token = entry.claim.token
        if token not in self._running:
            return True
        # Before the list, which is older: what is in it may have ended since.
        outcome = self._seen_end(entry)
        if outcome is not None:
            self._end(entry, outcome)
            return True
        if token in running:
            self._note_running(entry)
            log.info("adopted", action="adopt", execution=entry.claim.execution_id)
        return token in running

    def _process(self, launch: Launch) -> ProcessStart:
        specification = launch.attempt.specification
        claim = launch.entry.claim
        interpreter = (specification.interpreter,) if specification.interpreter else ()
        return ProcessStart(
            execution_id=claim.execution_id,
            token=claim.token,
            folder=launch.entry.folder,
            claim=claim_note(claim),
            argv=(*interpreter, launch.script_path, *specification.arguments),
            environment={
                **self._environment,
                **specification.environment,
                "DCRON_JOB": claim.job,
                "DCRON_EXECUTION_ID": claim.execution_id,
                "DCRON_SCHEDULED_AT": format_instant(claim.scheduled_at),
                "DCRON_ATTEMPT": str(claim.id.attempt),
                "DCRON_NODE": self._node_id,
            },
            timeout_seconds=specification.timeout_seconds,
            grace_seconds=specification.grace_seconds,
            max_log_bytes=self.max_log_bytes,
            not_after_boottime=max(launch.claimed_boottime, launch.start_boottime) + CLAIM_TO_START_SECONDS,
        )
