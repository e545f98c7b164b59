"""(a) Each attempt at an occurrence is started once at most."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.timeline import Timeline

__all__ = ["check"]


def check(timeline: Timeline) -> Iterator[str]:
    """Every script beyond the first of one execution."""
    first: dict[str, str] = {}
    for run in timeline.runs:
        started = run.started
        if started.execution_id in first:
            yield (
                f"{started.execution_id} was started again on {started.node} at {started.at:.3f}; "
                f"first on {first[started.execution_id]}"
            )
        first.setdefault(started.execution_id, f"{started.node} at {started.at:.3f}")
