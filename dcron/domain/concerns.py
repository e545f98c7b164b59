"""Concerns about a cluster, each with what a person can do about it, in words: pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dcron.domain.instants import format_instant
from dcron.domain.views import ClusterView, NodeView

__all__ = ["Concern", "concerns_of", "older_versions"]

SPOOL_PATIENCE = timedelta(seconds=10)
"""Results that wait for less are on their usual way."""
STORE_REMEDY = (
    "bring the store back, or the network to it; nothing has to be restarted. "
    "'dcron doctor --config FILE' on the node's machine says more"
)


@dataclass(frozen=True, slots=True)
class Concern:
    """One thing that is not as it should be. `remedy` is empty where there is nothing to do."""

    what: str
    remedy: str = ""


def concerns_of(view: ClusterView, now: datetime) -> tuple[Concern, ...]:
    """Concerns to tell a person about a cluster, the worst first."""
    present = [node for node in view.nodes if not node.record.stopped]
    alive = [node for node in present if node.alive]
    return tuple(
        concern
        for group in (
            _store(view),
            _leader(view),
            _frozen(view),
            map(_silent, (node for node in present if not node.alive)),
            map(_draining, (node for node in alive if node.draining)),
            (concern for node in alive for concern in _spool(node, now)),
            _versions(alive),
            _leases(alive),
        )
        for concern in group
    )


def _store(view: ClusterView) -> Iterable[Concern]:
    if view.store_trouble:
        since = f" since {format_instant(view.store_trouble_since)}" if view.store_trouble_since else ""
        yield Concern(
            f"{view.answering_id} cannot reach the document store{since}: {view.store_trouble}. It starts "
            "nothing new meanwhile; scripts that run go on, and their results wait in its spool",
            STORE_REMEDY,
        )


def _leader(view: ClusterView) -> Iterable[Concern]:
    if not view.leader_id and not view.store_trouble:
        yield Concern(
            f"nothing new starts: {view.summary}",
            "nodes that run choose a leader within seconds by themselves; if none does, see what is said of "
            "them below",
        )


def _frozen(view: ClusterView) -> Iterable[Concern]:
    if view.settings and view.settings.frozen and view.settings.frozen_at:
        yield Concern(
            f"a person froze the cluster at {format_instant(view.settings.frozen_at)}: nothing new starts",
            "'dcron cluster thaw'",
        )


def _silent(node: NodeView) -> Concern:
    record = node.record
    running = f", and {_count(record.running, 'script')} ran there" if record.running else ""
    return Concern(
        f"{record.node_id} at {record.address} has said nothing since {format_instant(record.renewed_at)}: "
        f"it was killed, hangs, or waits for its stores{running}",
        "start dcron on that machine again; if it runs, its log says what it waits for. Once it is back, it "
        "tells how its scripts ended",
    )


def _draining(node: NodeView) -> Concern:
    return Concern(
        f"a person drained {node.record.node_id}: it takes nothing new, what runs there goes on",
        f"'dcron node undrain {node.record.node_id}'",
    )


def _spool(node: NodeView, now: datetime) -> Iterable[Concern]:
    """Concerns that an alive node tells of itself: its results that wait, and its warnings, which name their
    remedy."""
    record = node.record
    since = record.spooled_since
    if record.spooled and since is not None and (record.warnings or now - since > SPOOL_PATIENCE):
        why = f": {'; '.join(record.warnings)}" if record.warnings else ""
        yield Concern(
            f"{_count(record.spooled, 'result')} or their logs wait in the spool of {record.node_id} since "
            f"{format_instant(since)}{why}",
            "nothing is lost, and the node delivers them by itself once the stores take them",
        )
        return
    for warning in record.warnings:
        yield Concern(f"{record.node_id}: {warning}")


def _versions(alive: Sequence[NodeView]) -> Iterable[Concern]:
    older = older_versions({node.record.node_id: node.record.version for node in alive})
    if older:
        yield Concern(f"{', '.join(older)} run an older dcron than the others", "upgrade them")


def _leases(alive: Sequence[NodeView]) -> Iterable[Concern]:
    told = {node.record.node_id: node.record.lease_seconds for node in alive if node.record.lease_seconds}
    if len(set(told.values())) > 1:
        values = ", ".join(f"{seconds:g} on {node_id}" for node_id, seconds in sorted(told.items()))
        yield Concern(
            f"lease_seconds differs between nodes ({values}): they disagree on how long a leader is believed",
            "set the same lease_seconds on all nodes, and restart them",
        )


def older_versions(versions: dict[str, str]) -> list[str]:
    """Ids of the nodes whose version is older than the newest, each with its version in words."""
    newest = max(map(_version_key, versions.values()), default=())
    return [
        f"{node_id} ({version})"
        for node_id, version in sorted(versions.items())
        if _version_key(version) < newest
    ]


def _version_key(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, which is all that it is compared by."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else ()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
