"""(f) What every script did, and its log, is stored once the faults are over."""

from __future__ import annotations

from collections.abc import Iterator

from dcron.domain.documents import outcome_of
from dcron.domain.model import Outcome, State
from tests.simulation.history import Ended
from tests.simulation.newer import understood
from tests.simulation.runner import log_text
from tests.simulation.timeline import Run, Timeline

__all__ = ["check", "stored_outcome"]


def check(timeline: Timeline) -> Iterator[str]:
    """Scripts whose outcome or log is missing, or tells something else."""
    for run in timeline.runs:
        if run.ended is not None:
            yield from _wrong(timeline, run, run.ended)


def _wrong(timeline: Timeline, run: Run, ended: Ended) -> Iterator[str]:
    name = f"{run.started.execution_id} as {run.started.token} on {run.started.node}"
    outcome = stored_outcome(timeline, run)
    if outcome is None:
        yield f"{name} {ended.state}, and no outcome is stored"
        return
    if outcome.state.value != ended.state:
        yield f"{name} {ended.state}; its outcome says {outcome.state.value} ({outcome.message})"
    if not ended.seen or outcome.state is State.LOST:
        return
    stored = timeline.final.objects.get(outcome.log.key) if outcome.log else None
    if stored != log_text(run.started.execution_id, run.started.token):
        yield f"{name}: its log is {'missing' if stored is None else 'not what it printed'}"


def stored_outcome(timeline: Timeline, run: Run) -> Outcome | None:
    """What the store has in the end of how a script ended."""
    identifier = f"{run.started.execution_id}:{run.started.token}"
    for (database, key), leaves in timeline.final.leaves.items():
        if key == identifier and database.startswith("executions-"):
            return outcome_of(understood(leaves[0][1]))
    return None
