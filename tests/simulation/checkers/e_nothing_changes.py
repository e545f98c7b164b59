"""(e) What is written of executions never changes and never vanishes."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.history import Stored
from tests.simulation.timeline import Timeline

__all__ = ["check"]


def check(timeline: Timeline) -> Iterator[str]:
    """Documents of executions that were updated, deleted, or are gone although they were confirmed."""
    for event in timeline.history.of(Stored):
        if event.database.startswith("executions-") and event.parent is not None:
            yield f"{event.id} was {'deleted' if event.deleted else 'changed'} at {event.at:.3f}"
    for database, identifier, revision in sorted(timeline.acknowledged):
        leaves = timeline.final.leaves.get((database, identifier), ())
        if database.startswith("executions-") and revision not in {leaf for leaf, _ in leaves}:
            yield f"{identifier} was confirmed as {revision[:10]} and is gone"
