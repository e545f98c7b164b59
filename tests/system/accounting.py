"""What has to hold of jobs once faults are over, whatever they were: judged by what the scripts themselves
left behind, what the cluster tells, and a calendar computed here."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dcron.rpc import dcron_pb2 as pb
from tests.system.cluster import Cluster, at, started, wait_for

__all__ = [
    "Ledger",
    "assert_attempts",
    "assert_calendar",
    "assert_no_older_term_was_taken",
    "attempts_at",
    "now",
]

GO_ON_SECONDS = 60.0
"""Within this time of the end of a fault, everything has to be as before."""
CAUSES = frozenset({"EXECUTION_STATE_NOT_STARTED", "EXECUTION_STATE_TIMED_OUT", "EXECUTION_STATE_LOST"})
"""States of an attempt after which another one may follow."""
MAY_HAVE_STARTED = frozenset({"EXECUTION_STATE_TIMED_OUT", "EXECUTION_STATE_LOST"})


def now() -> datetime:
    """This machine's clock, which all nodes share."""
    return datetime.now(UTC)


def attempts_at(records: Sequence[Any], execution_id: str) -> list[Any]:
    """All attempts at the occurrence of an execution, in order."""
    occurrence = execution_id.rpartition(":")[0]
    found = [each for each in records if each["id"].rpartition(":")[0] == occurrence and each["attempt"]]
    return sorted(found, key=lambda each: each["attempt"])


@dataclass
class Ledger:
    """Jobs whose scripts leave a mark when they start, and the accounts to be given of them.

    All have the schedule "every `period_seconds` seconds of the minute"."""

    cluster: Cluster
    marks: Path
    period_seconds: int
    jobs: list[str]
    end: str = "EXECUTION_STATE_SUCCEEDED"
    """The state in which the last attempt of each occurrence ends."""

    @staticmethod
    def open(
        cluster: Cluster,
        marks: Path,
        jobs: Sequence[str],
        *options: str,
        period_seconds: int = 2,
        then: str = "",
        end: str = "EXECUTION_STATE_SUCCEEDED",
    ) -> Ledger:
        """Register the jobs: each start is one line in `marks`, then the script does what `then` says."""
        schedule = f"*/{period_seconds} * * * * *"
        script = f'echo "$DCRON_EXECUTION_ID" >> {marks}\n{then}\n'
        cluster.create_many(jobs, script, "--schedule", schedule, *options)
        return Ledger(cluster, marks, period_seconds, list(jobs), end)

    def starts(self) -> Counter[str]:
        """How often each execution was started, as the scripts have it."""
        return Counter(started(self.marks))

    def goes_on(self) -> datetime:
        """Wait until each job has run for an occurrence that falls due from now on; the instant of now."""
        since = now()
        for job in self.jobs:
            wait_for(f"{job} goes on", lambda job=job: self._started_after(job, since), GO_ON_SECONDS)
        return since

    def sleep_until_due(self, delay_seconds: float = 0.0) -> None:
        """Sleep until so long after an instant at which all jobs fall due, or before one."""
        time.sleep((delay_seconds - time.time()) % self.period_seconds)

    def _started_after(self, job: str, instant: datetime) -> bool:
        return any(
            each["state"] == self.end and at(each["scheduledAt"]) > instant
            for each in self.cluster.records(job)
        )

    def close(self, causes: Collection[str] = CAUSES) -> None:
        """The faults are over: the schedule goes on, and every occurrence up to now is accounted for.

        `causes` are the states after which a next attempt is allowed here."""
        self.cluster.wait_well()
        over_at = self.goes_on()
        for job in self.jobs:
            self.cluster.told(lambda public, job=job: public.PauseJob(pb.PauseJobRequest(name=job)))
        wait_for("all settled and delivered", self._is_quiet, GO_ON_SECONDS)
        starts = self.starts()
        known: set[str] = set()
        for job in self.jobs:
            calendar = set(self._calendar(self._job(job).created_at.ToDatetime(tzinfo=UTC), over_at))
            wait_for(f"all of {job} is recorded", lambda job=job, c=calendar: self._covers(job, c))
            records = self.cluster.records(job)
            assert_calendar(job, records, calendar, self.period_seconds)
            assert_attempts(job, records, starts, causes, self.end)
            known |= {each["id"] for each in records}
        assert set(starts) <= known, f"started but not recorded: {set(starts) - known}"

    def _is_quiet(self) -> bool:
        nodes = self.cluster.told(lambda public: public.ListNodes(pb.ListNodesRequest())).nodes
        busy = any(self._job(job).HasField("active") for job in self.jobs)
        return not busy and not any(node.spooled for node in nodes)

    def _job(self, job: str) -> pb.Job:
        return self.cluster.told(lambda public: public.GetJob(pb.GetJobRequest(name=job)))

    def _covers(self, job: str, calendar: Collection[datetime]) -> bool:
        """Skip records are copied after the decision: what is not there yet may come."""
        executed, skipped = _split(self.cluster.records(job))
        return all(instant in executed or _covering(instant, skipped) for instant in calendar)

    def _calendar(self, after: datetime, through: datetime) -> Iterator[datetime]:
        """Every due instant in (after, through]."""
        period = self.period_seconds
        instant = after.replace(microsecond=0) + timedelta(seconds=1)
        instant += timedelta(seconds=-instant.second % period)
        while instant <= through:
            yield instant
            instant += timedelta(seconds=period)


def assert_calendar(
    job: str, records: Sequence[Any], calendar: Collection[datetime], period_seconds: int
) -> None:
    """Each instant of a calendar has executions or exactly one skip record, and nothing else was run."""
    executed, skipped = _split(records)
    for instant in calendar:
        count = len(_covering(instant, skipped))
        assert count == (0 if instant in executed else 1), f"{job} at {instant}: {count} skips, {records}"
    off = [instant for instant in executed if instant.second % period_seconds or instant.microsecond]
    assert off == [], f"{job} ran for instants that its schedule does not have"
    for each in skipped:
        assert each["skipReason"] == "SKIP_REASON_COALESCED", each
        assert any(_coalesces(attempts[0], each) for attempts in executed.values()), (
            f"no execution names what was coalesced: {each}"
        )


def assert_attempts(
    job: str,
    records: Sequence[Any],
    starts: Counter[str],
    causes: Collection[str],
    end: str,
) -> None:
    """No attempt started twice, none without a record, none without a cause."""
    executed, _ = _split(records)
    for attempts in executed.values():
        numbers = [each["attempt"] for each in attempts]
        assert numbers == list(range(1, len(attempts) + 1)), f"{job}: {attempts}"
        for each in attempts:
            last = each is attempts[-1]
            assert each["state"] in ([end] if last else causes), f"{job}: {attempts}"
            allowed = {0} if each["state"] == "EXECUTION_STATE_NOT_STARTED" else {1}
            allowed |= {0} if each["state"] in MAY_HAVE_STARTED else set()
            assert starts[each["id"]] in allowed, f"started {starts[each['id']]} times: {each}"


def assert_no_older_term_was_taken(records: Sequence[Any]) -> None:
    """No node claimed something for an older term after it had claimed something for a newer one."""
    newest: dict[str, int] = defaultdict(int)
    for each in sorted((each for each in records if each["nodeId"]), key=lambda each: at(each["claimedAt"])):
        term = int(each["term"])
        assert term >= newest[each["nodeId"]], f"taken after term {newest[each['nodeId']]}: {each}"
        newest[each["nodeId"]] = term


def _split(records: Sequence[Any]) -> tuple[dict[datetime, list[Any]], list[Any]]:
    """Attempts in order by scheduled instant, and skip records."""
    executed: dict[datetime, list[Any]] = defaultdict(list)
    skipped = []
    for each in records:
        if each["state"] == "EXECUTION_STATE_SKIPPED":
            skipped.append(each)
        elif not each["manual"]:
            executed[at(each["scheduledAt"])].append(each)
    for attempts in executed.values():
        attempts.sort(key=lambda each: each["attempt"])
    return dict(executed), skipped


def _covering(instant: datetime, skipped: Sequence[Any]) -> list[Any]:
    return [each for each in skipped if at(each["scheduledAt"]) <= instant <= at(each["occurrencesUntil"])]


def _coalesces(execution: Any, skip: Any) -> bool:
    until = execution.get("occurrencesUntil")
    return bool(until) and at(execution["scheduledAt"]) < at(skip["scheduledAt"]) <= at(until)
