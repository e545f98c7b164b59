"""(m) What a worker claimed and died before it started is followed in time, however often leaders change."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.history import STORM, Fault
from tests.simulation.timeline import Attempt, Timeline, parts_of

__all__ = ["check"]

BOUND_SECONDS = 20.0
"""From the death of the worker to the claim of the next attempt, if the worker is soon back."""
SOON_SECONDS = 3.0
SAYS_SO_SECONDS = 6.0
"""What a node takes, once it is back, to say that it did not start: nothing may happen to it meanwhile."""
SILENT_SECONDS = 32.0
"""The same beyond the timeout, if it stays away: grace, margin, a leader that died before it told what it
knew, and a change of leaders in the end."""
AHEAD_SECONDS = 3.0
"""How long after its claim a worker may die before the script starts: it is claimed ahead of its instant."""


def check(timeline: Timeline) -> Iterator[str]:
    """Attempts that stood still for longer. Judged in storms alone: there the store and the network are well,
    nodes come back soon, and leaders stay for some seconds."""
    storms = timeline.faults(STORM)
    deaths = [fault for fault in timeline.faults("crash") if any(_lies_in(fault, storm) for storm in storms)]
    started = {run.started.execution_id for run in timeline.runs}
    for execution_id, attempt in timeline.attempts.items():
        if execution_id in started:
            continue
        death = next((each for each in deaths if _is_of(each, attempt)), None)
        if death is None:
            continue
        followed_at = _followed_at(timeline, execution_id)
        bound_seconds = _bound_seconds(timeline, death, attempt)
        if bound_seconds is None:
            continue
        if followed_at is None or followed_at > death.at + bound_seconds:
            when = "never" if followed_at is None else f"only {followed_at - death.at:.3f} s later"
            yield (
                f"{execution_id} was claimed on {death.where[0]}, which died at {death.at:.3f} before it "
                f"started it; the next attempt was claimed {when}"
            )


def _bound_seconds(timeline: Timeline, death: Fault, attempt: Attempt) -> float | None:
    """None where only a person or the end of the storm can help, or where the node was hit again too soon."""
    if death.until - death.at <= SOON_SECONDS:
        hit_again = any(
            death.at < fault.at <= death.until + SAYS_SO_SECONDS and fault.where == death.where
            for fault in timeline.history.of(Fault)
        )
        return None if hit_again else BOUND_SECONDS
    timeouts = [claim.timeout_seconds for _, claim in attempt.claims]
    return max(timeouts) + SILENT_SECONDS if min(timeouts) > 0 else None


def _lies_in(death: Fault, storm: Fault) -> bool:
    return storm.at <= death.at <= storm.until


def _is_of(death: Fault, attempt: Attempt) -> bool:
    """Whether a claimant of an attempt died with it."""
    return any(
        claim.node_id in death.where and claimed_at <= death.at <= claimed_at + AHEAD_SECONDS
        for claimed_at, claim in attempt.claims
    )


def _followed_at(timeline: Timeline, execution_id: str) -> float | None:
    uid, key, number = parts_of(execution_id)
    following = timeline.attempts.get(f"{uid}:{key}:{number + 1:03d}", Attempt())
    return min((claimed_at for claimed_at, _ in following.claims), default=None)
