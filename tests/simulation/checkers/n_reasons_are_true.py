"""(n) Nothing is said to wait that does not wait, and nothing for a reason that is not true any more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dcron.ports import CLUSTER
from tests.simulation.history import Fault, Stored
from tests.simulation.timeline import Attempt, Timeline

__all__ = ["check"]

PATIENCE_SECONDS = 10.0
"""How long something may be said that is not true any more: the leader has to hear of the change, write the
job down and renew its document."""
RECENT_SECONDS = 45.0
"""A fault that ended this long ago may still be why the leader knows something late."""
LEASE_SECONDS = 6.0

_LABELS = re.compile(r"no live node with the labels (\S+) takes executions")
_NO_NODE = "no live node takes executions"
_FROZEN = "the cluster is frozen"
_NAMED = re.compile(r"(?:^|; )((?:node\d+(?:, )?)+): ([^;]*)")


def check(timeline: Timeline) -> Iterator[str]:
    """What a leader told in a calm time that had not been true for some seconds by then."""
    world = _World(timeline)
    for report in world.reports:
        since = report.at - PATIENCE_SECONDS
        if _is_excused(timeline, since - RECENT_SECONDS, report.at):
            continue
        for waiting in report.body["report"]["waiting"]:
            wrong = world.what_is_wrong(waiting, since, report.at)
            if wrong:
                yield (
                    f"at {report.at:.3f} {waiting['execution']} of {waiting['job']} was said to wait "
                    f"({waiting['reason']}), but {wrong}"
                )


def _is_excused(timeline: Timeline, since: float, until: float) -> bool:
    return any(fault.at <= until and fault.until >= since for fault in timeline.history.of(Fault))


class _World:
    """What was stored of jobs, claims, nodes and settings, and when."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._nodes: dict[str, list[Stored]] = {}
        self._settings: list[Stored] = []
        self.reports: list[Stored] = []
        for event in timeline.history.of(Stored):
            if event.database != CLUSTER or event.deleted:
                continue
            if event.id == "settings":
                self._settings.append(event)
            elif event.id.startswith("node:"):
                self._nodes.setdefault(event.id.removeprefix("node:"), []).append(event)
                if event.body["leading"] and event.body["report"]:
                    self.reports.append(event)

    def what_is_wrong(self, waiting: Mapping[str, Any], since: float, until: float) -> str:
        """Why a sentence was untrue all the time between two seconds; empty if it was true at some time."""
        return (
            self._of_job(waiting["job"], waiting["execution"], since, until)
            or self._of_claim(waiting["execution"], since)
            or self._of_labels(waiting, since, until)
            or self._of_settings(waiting["reason"], since, until)
            or self._of_nodes(waiting["reason"], since, until)
        )

    def _of_job(self, name: str, execution_id: str, since: float, until: float) -> str:
        states = _through(self._timeline.versions.get(name, []), since, until)
        active = [state.job.place.active for state in states if state.job is not None]
        if any(each is not None and each.execution_id == execution_id for each in active):
            return ""
        return "its job was at work on something else, or on nothing, or gone"

    def _of_claim(self, execution_id: str, since: float) -> str:
        for claimed_at, claim in self._timeline.attempts.get(execution_id, Attempt()).claims:
            if claimed_at <= since:
                return f"{claim.node_id} had claimed it at {claimed_at:.3f}"
        return ""

    def _of_labels(self, waiting: Mapping[str, Any], since: float, until: float) -> str:
        found = _LABELS.search(waiting["reason"])
        if found is None:
            return ""
        states = _through(self._timeline.versions.get(waiting["job"], []), since, until)
        wanted = [state.job.specification.labels for state in states if state.job is not None]
        if all(_told(labels) != found[1] for labels in wanted):
            return f"its job wanted {' or '.join(_told(labels) or 'no label' for labels in wanted)}"
        ready = [node for node in self._nodes if self._is_ready(node, found[1], since, until)]
        return f"{', '.join(ready)} had them" if ready else ""

    def _of_settings(self, reason: str, since: float, until: float) -> str:
        if reason != _FROZEN:
            return ""
        states = _through(self._settings, since, until)
        return "" if any(state.body["frozen"] for state in states) else "it was not frozen"

    def _of_nodes(self, reason: str, since: float, until: float) -> str:
        if reason.startswith(_NO_NODE):
            ready = [node for node in self._nodes if self._is_ready(node, "", since, until)]
            return f"{', '.join(ready)} took them" if ready else ""
        for names, said in _NAMED.findall(reason):
            for node in names.split(", "):
                wrong = self._of_node(node, said, since, until)
                if wrong:
                    return wrong
        return ""

    def _of_node(self, node: str, said: str, since: float, until: float) -> str:
        states = _through(self._nodes.get(node, []), since, until)
        if not any(state.at >= since - LEASE_SECONDS and not state.body["stopped"] for state in states):
            return f"{node} was not there"
        if "draining" in said and not any(state.body["draining"] for state in states):
            return f"{node} was not draining"
        return ""

    def _is_ready(self, node: str, labels: str, since: float, until: float) -> bool:
        """Whether a node that has labels renewed all the time and took executions."""
        states = _through(self._nodes[node], since, until)
        renewed = [state.at for state in states]
        gaps = [later - earlier for earlier, later in zip(renewed, [*renewed[1:], until], strict=True)]
        return (
            bool(states)
            and renewed[0] <= since
            and max(gaps) < LEASE_SECONDS
            and all(
                not state.body["stopped"]
                and not state.body["draining"]
                and labels in ("", _told(state.body["labels"]))
                for state in states
            )
        )


def _through(states: list[Any], since: float, until: float) -> list[Any]:
    """The last state before a second, and all that follow until another one."""
    before = [state for state in states if state.at <= since]
    return [*before[-1:], *(state for state in states if since < state.at <= until)]


def _told(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
