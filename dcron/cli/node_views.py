"""Nodes as a table."""

from __future__ import annotations

from collections.abc import Sequence

from dcron.cli.output import format_labels, format_time, print_table
from dcron.rpc import dcron_pb2 as pb

__all__ = ["print_nodes"]


def print_nodes(nodes: Sequence[pb.Node], *, remarks: bool = True) -> None:
    """One line for each; without `remarks` where they are told elsewhere."""
    rows = [
        (
            node.id,
            node.address,
            _state(node),
            f"{node.running}/{node.slots}",
            format_labels(dict(node.labels)),
            node.version,
            format_time(node.renewed_at),
            _remarks(node),
        )
        for node in nodes
    ]
    columns = ("ID", "ADDRESS", "STATE", "RUNNING", "LABELS", "VERSION", "RENEWED", "REMARKS")
    shown = len(columns) - (0 if remarks else 1)
    print_table(columns[:shown], [row[:shown] for row in rows])


def _state(node: pb.Node) -> str:
    state = "stopped" if node.stopped else "silent"
    if node.alive:
        state = "leading" if node.leading else "alive"
    return f"{state}, draining" if node.draining else state


def _remarks(node: pb.Node) -> str:
    spooled = (
        [f"{node.spooled} result{'' if node.spooled == 1 else 's'} in its spool"] if node.spooled else []
    )
    return "; ".join([*spooled, *node.warnings])
