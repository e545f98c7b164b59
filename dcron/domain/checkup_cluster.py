"""Judgements of `dcron doctor` on the other nodes: whether this one fits into their cluster; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dcron.domain.checkup import Finding, Level
from dcron.domain.concerns import older_versions
from dcron.domain.documents import FORMAT_VERSION
from dcron.domain.nodes import NodeRecord

__all__ = [
    "Peer",
    "ThisNode",
    "judge_addresses",
    "judge_format",
    "judge_id",
    "judge_leases",
    "judge_versions",
    "wanted_interpreters",
]

SHORT_LEASE_SECONDS = 4.5
"""A renewal, a third of it, should not be shorter than the 1.5 s that a store call may take."""
LONG_LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ThisNode:
    """The node that is looked at. `spool_id` is empty before its first start; `in_use` says that a node
    holds its spool now."""

    node_id: str
    spool_id: str
    advertise: str
    version: str
    lease_seconds: float
    in_use: bool


@dataclass(frozen=True, slots=True)
class Peer:
    """A node that has joined and was not stopped. `alive`: its document changed while we watched;
    `trouble`: why it does not serve at its address, as asked from here."""

    record: NodeRecord
    alive: bool
    trouble: str = ""


def judge_id(this: ThisNode, peers: Sequence[Peer]) -> Finding:
    """Whether the node's id is its own."""
    check = "node id"
    same = next((peer for peer in peers if peer.record.node_id == this.node_id), None)
    if same is None or same.record.spool_id == this.spool_id:
        return Finding(check, Level.OK, f"{this.node_id} is used by no other node")
    where = f"{this.node_id} is used with another spool at {same.record.address}"
    if same.alive:
        return Finding(
            check, Level.FAILED, f"{where}, by a node that is alive", "give this one its own node_id"
        )
    return Finding(
        check,
        Level.WARNING,
        f"{where}, by a node that is silent",
        "if that is this very machine before its spool was lost, all is well: what the old spool held is "
        "written off as lost; otherwise give this one its own node_id",
    )


def judge_leases(this: ThisNode, peers: Sequence[Peer]) -> Iterable[Finding]:
    """Whether lease_seconds is sane, and that of the others."""
    check = "lease"
    told = {peer.record.node_id: peer.record.lease_seconds for peer in _others(this, peers)}
    different = sorted(
        f"{seconds:g} on {node_id}"
        for node_id, seconds in told.items()
        if seconds not in {0.0, this.lease_seconds}
    )
    own = f"lease_seconds is {this.lease_seconds:g} here"
    if different:
        yield Finding(
            check,
            Level.FAILED,
            f"{own}, and {', '.join(different)}: the nodes disagree on how long a leader is believed",
            "set the same lease_seconds on all nodes, and restart them",
        )
    elif this.lease_seconds < SHORT_LEASE_SECONDS:
        yield Finding(
            check,
            Level.WARNING,
            f"{own}: a store that answers slowly for a moment ends a leadership",
            f"{SHORT_LEASE_SECONDS:g} or more is calmer; the default is 6",
        )
    elif this.lease_seconds > LONG_LEASE_SECONDS:
        yield Finding(
            check,
            Level.WARNING,
            f"{own}: for so long nothing starts after a leader has died",
            "the default is 6",
        )
    else:
        yield Finding(check, Level.OK, f"{own}{', as on the other nodes' if told else ''}")


def judge_versions(this: ThisNode, peers: Sequence[Peer]) -> Iterable[Finding]:
    """Whether the nodes run one version; neighbouring ones work together."""
    versions = {peer.record.node_id: peer.record.version for peer in _others(this, peers)}
    older = older_versions({**versions, this.node_id: this.version})
    if older:
        message = f"older than others: {', '.join(older)}"
        yield Finding("versions", Level.WARNING, message, "upgrade them, followers first, the leader last")
    else:
        with_them = ", as on the other nodes" if versions else ""
        yield Finding("versions", Level.OK, f"dcron {this.version}{with_them}")


def judge_format(stored: int) -> Finding:
    """Whether this dcron can read what is stored."""
    if stored > FORMAT_VERSION:
        message = f"the stored data have format {stored}, this dcron knows {FORMAT_VERSION}"
        return Finding("format", Level.FAILED, message, "upgrade dcron on this node")
    return Finding("format", Level.OK, f"stored data have format {stored}")


def judge_addresses(this: ThisNode, own_trouble: str, peers: Sequence[Peer]) -> Iterable[Finding]:
    """Whether nodes reach each other. `own_trouble` says why this node is not reached at its address, or
    cannot listen, as asked on its own machine."""
    check = "addresses"
    others = _others(this, peers)
    if own_trouble:
        yield Finding(
            check,
            Level.FAILED,
            f"{this.advertise} (this node): {own_trouble}",
            "check `listen` and `advertise`; without it the leader cannot offer this node anything",
        )
    elif _is_loopback(this.advertise) and any(not _is_loopback(each.record.address) for each in others):
        yield Finding(
            check,
            Level.FAILED,
            f"{this.advertise} (this node) is reached on this machine only, and other nodes are elsewhere",
            "set `listen`, and `advertise` to an address at which the other nodes reach this one",
        )
    else:
        state = "this node answers at" if this.in_use else "this node can listen for"
        yield Finding(check, Level.OK, f"{state} {this.advertise}")
    reached = [peer.record.node_id for peer in others if not peer.trouble]
    if reached:
        yield Finding(check, Level.OK, f"reached from here: {', '.join(reached)}")
    for peer in others:
        if not peer.trouble:
            continue
        where = f"{peer.record.node_id} at {peer.record.address}: {peer.trouble}"
        if peer.alive:
            yield Finding(
                check,
                Level.FAILED,
                f"{where}, though it is alive",
                "check its `advertise`, and firewalls between the nodes",
            )
        else:
            yield Finding(
                check,
                Level.WARNING,
                f"{where}; it is silent, too",
                "start dcron there again; scripts of it may still run",
            )


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    return host in {"localhost", "::1"} or host.startswith("127.")


def _others(this: ThisNode, peers: Sequence[Peer]) -> list[Peer]:
    return [peer for peer in peers if peer.record.node_id != this.node_id]


def wanted_interpreters(
    asked: Iterable[tuple[str, str, Mapping[str, str]]], labels: Mapping[str, str]
) -> dict[str, list[str]]:
    """Names of the jobs by interpreter, of those that a node with `labels` may be offered. `asked` tells
    name, interpreter and labels of each job."""
    wanted: dict[str, list[str]] = {}
    for name, interpreter, needs in asked:
        if interpreter and all(labels.get(key) == value for key, value in needs.items()):
            wanted.setdefault(interpreter, []).append(name)
    return wanted
