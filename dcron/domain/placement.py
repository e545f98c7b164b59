"""Choice of workers for attempts: round-robin over those that match, others before those tried already."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Candidate", "candidates", "refused"]

MAX_NAMED = 5
"""Nodes named for one reason; of the others only the number is told."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live node that takes new executions."""

    node_id: str
    address: str
    labels: Mapping[str, str]

    def matches(self, wanted: Mapping[str, str]) -> bool:
        """Whether it has all wanted labels."""
        return all(self.labels.get(name) == value for name, value in wanted.items())


def candidates(
    workers: Sequence[Candidate],
    wanted: Mapping[str, str],
    avoid: Collection[str],
    turn: int,
) -> list[Candidate]:
    """Workers that have all wanted labels, in the order in which they are to be asked.

    `turn` is where the round stands: it grows by one with each offer. Nodes in `avoid` come last, so
    that a next attempt goes to another node where there is one."""
    if not workers:
        return []
    start = turn % len(workers)
    matching = [worker for worker in (*workers[start:], *workers[:start]) if worker.matches(wanted)]
    return sorted(matching, key=lambda worker: worker.node_id in avoid)


def refused(refusals: Mapping[str, str]) -> str:
    """Answers of workers to an attempt, by node id, in one line; empty when none has answered.

    Nodes that say the same are named together."""
    by_reason: dict[str, list[str]] = {}
    for node_id, why in sorted(refusals.items()):
        by_reason.setdefault(why, []).append(node_id)
    return "; ".join(f"{_named(node_ids)}: {why}" for why, node_ids in by_reason.items())


def _named(node_ids: Sequence[str]) -> str:
    more = f" and {len(node_ids) - MAX_NAMED} more" if len(node_ids) > MAX_NAMED else ""
    return f"{', '.join(node_ids[:MAX_NAMED])}{more}"
