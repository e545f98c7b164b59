"""(l) What is shown of an execution in the end is how its script ended, whatever else was written of it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.newer import WORDS
from tests.simulation.timeline import Timeline

__all__ = ["check"]


def check(timeline: Timeline) -> Iterator[str]:
    """Executions whose script was seen to end, and which a node tells otherwise."""
    older_word, newer_word = WORDS["state"]
    ends: dict[str, set[str]] = {}
    for run in timeline.runs:
        if run.ended is not None and run.ended.seen:
            ends.setdefault(run.started.execution_id, set()).add(run.ended.state)
    for execution_id, states in ends.items():
        shown = timeline.final.shown.get(execution_id, "not there")
        # A newer version has a word of its own for some ends.
        if (older_word if shown == newer_word else shown) not in states:
            yield f"{execution_id} {' and '.join(sorted(states))}; it is shown as {shown}"
