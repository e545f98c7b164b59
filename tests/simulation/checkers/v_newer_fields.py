"""(v) What a node of a newer version wrote into a document is there ever after, whoever wrote on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dcron.ports import CLUSTER, JOBS
from tests.simulation.history import Stored
from tests.simulation.newer import FIELD
from tests.simulation.timeline import Timeline

__all__ = ["check"]


def check(timeline: Timeline) -> Iterator[str]:
    """Writes over a document that lack a field which it had."""
    bodies: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    revisions: set[tuple[str, int]] = set()
    for event in timeline.history.of(Stored):
        if event.database not in {JOBS, CLUSTER} or event.deleted:
            continue
        before = bodies.get((event.database, event.id, event.parent or ""))
        if before is not None:
            for part in _lost(before, event.body, revisions):
                yield f"{event.id} as of {event.at:.3f} lacks what a newer node wrote of its {part}"
        bodies[event.database, event.id, event.revision] = event.body
        if event.body["kind"] == "job":
            revisions.add((event.body["uid"], event.body["revision"]))


def _lost(
    before: Mapping[str, Any], after: Mapping[str, Any], revisions: set[tuple[str, int]]
) -> Iterator[str]:
    """The parts of which a field is missing. `revisions` of jobs were stored earlier: what has the number of
    one may be the content of another branch."""
    if after.get("uid") != before.get("uid"):
        return
    parts = {"document": (before, after)}
    if after["kind"] == "job":
        parts["place"] = (before["place"], after["place"])
        same = after["revision"] == before["revision"]
        if same or (after["uid"], after["revision"]) not in revisions:
            parts["specification"] = (before["specification"], after["specification"])
        attempts = [body["place"]["active"] for body in (before, after)]
        if all(attempts) and _attempt(attempts[0]) == _attempt(attempts[1]):
            parts["active attempt"] = (attempts[0], attempts[1])
    for name, (had, has) in parts.items():
        if FIELD in had and had[FIELD] != has.get(FIELD):
            yield name


def _attempt(active: Mapping[str, Any]) -> tuple[str, int]:
    return active["occurrence"], active["attempt"]
