"""(g) A worker that has been offered something in a newer term takes no offer of an older one."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.history import Offered
from tests.simulation.timeline import Timeline

__all__ = ["check"]

TAKEN = {"accepted", "not_claimed"}
"""Answers of a worker that tried to claim."""


def check(timeline: Timeline) -> Iterator[str]:
    """Every attempt that was taken from a leader whose time was over, as far as the worker knew."""
    for event in timeline.history.of(Offered):
        if event.term < event.newest_term:
            for execution_id, answer in event.answers:
                if answer in TAKEN:
                    yield (
                        f"{event.node} took {execution_id} in term {event.term} at {event.at:.3f} "
                        f"after term {event.newest_term}"
                    )
