"""Subjects of requests, so that an answer like "not found" can say where to look."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

__all__ = [
    "AUDIT",
    "CLUSTER",
    "EXECUTIONS",
    "JOBS",
    "NODES",
    "SCRIPT",
    "Subject",
    "execution_named",
    "job_named",
    "node_named",
]


@dataclass(frozen=True, slots=True)
class Subject:
    """`missing` is what to say when it is not there and the node does not say more; `listing` the
    command that shows what there is; `check` the one that shows whether a change took effect."""

    missing: str
    listing: str
    check: str


JOBS = Subject("jobs not found", "dcron job list", "dcron job list")
EXECUTIONS = Subject("executions not found", "dcron execution list", "dcron execution list")
NODES = Subject("nodes not found", "dcron node list", "dcron node list")
CLUSTER = Subject("cluster not found", "dcron cluster status", "dcron cluster status")
AUDIT = Subject("records not found", "dcron audit", "dcron audit")
SCRIPT = Subject("script not found", "dcron job list", "dcron cluster status")


def job_named(name: str) -> Subject:
    """One job."""
    return Subject(f"job {name!r} not found", JOBS.listing, f"dcron job show {shlex.quote(name)}")


def execution_named(execution_id: str) -> Subject:
    """One execution."""
    return Subject(
        f"execution {execution_id!r} not found",
        EXECUTIONS.listing,
        f"dcron execution show {shlex.quote(execution_id)}",
    )


def node_named(node_id: str) -> Subject:
    """One node."""
    return Subject(f"node {node_id!r} not found", NODES.listing, NODES.check)
