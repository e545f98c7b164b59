"""The cluster for people: how it is, what is wrong, what waits, what needs a person."""

from __future__ import annotations

from collections.abc import Sequence

from dcron.cli.execution_views import state_name
from dcron.cli.failures import one_line
from dcron.cli.node_views import print_nodes
from dcron.cli.output import format_time, print_details, print_table
from dcron.rpc import dcron_pb2 as pb

__all__ = ["merged", "print_status"]

UNKNOWN = "unknown while nobody leads"
INDENT = "    "


def merged(answers: Sequence[pb.ClusterStatus]) -> pb.ClusterStatus:
    """One status out of what several nodes know by themselves: the first, and what the others add."""
    whole = pb.ClusterStatus()
    whole.CopyFrom(answers[0])
    for answer in answers[1:]:
        whole.nodes.extend(answer.nodes)
        whole.concerns.extend(answer.concerns)
        whole.held.extend(answer.held)
    return whole


def print_status(status: pb.ClusterStatus) -> None:
    """All there is to say of a cluster."""
    print_details(_facts(status) if not status.store_trouble else _facts_without_store(status))
    print()
    print_nodes(status.nodes, remarks=False)
    if status.concerns:
        print("\nWhat is not as it should be, and what to do:")
        for concern in status.concerns:
            print(f"  - {one_line(concern.what)}")
            if concern.remedy:
                print(f"{INDENT}{one_line(concern.remedy)}")
    if status.waiting:
        print(f"\nIntended, and not started yet{_of_all(len(status.waiting), status.waiting_count)}:")
        rows = [(waiting.job, waiting.execution_id, waiting.reason) for waiting in status.waiting]
        print_table(("JOB", "WAITING", "BECAUSE"), rows)
    if status.needs_attention:
        _print_attention(status.needs_attention)
    if status.held:
        print("\nIn the spools of these nodes:")
        held = [
            (each.node_id, each.job, each.execution_id, state_name(each.state), format_time(each.since),
             each.waits_for)
            for each in status.held
        ]  # fmt: skip
        print_table(("NODE", "JOB", "EXECUTION", "STATE", "SINCE", "RESULT WAITS FOR"), held)


def _facts(status: pb.ClusterStatus) -> list[tuple[str, str]]:
    return [
        ("cluster", status.summary),
        ("leader", status.leader_id or "none"),
        ("term", str(status.term)),
        ("frozen", f"since {format_time(status.frozen_at)}" if status.frozen else "no"),
        ("active", str(status.active_count) if status.leader_id else UNKNOWN),
        ("waiting", str(status.waiting_count) if status.leader_id else UNKNOWN),
        ("needs attention", str(len(status.needs_attention)) if status.leader_id else UNKNOWN),
        ("format", str(status.format_version)),
        ("answered by", status.answering_node_id),
    ]


def _facts_without_store(status: pb.ClusterStatus) -> list[tuple[str, str]]:
    return [
        ("cluster", "unknown: no node that was asked reaches the document store"),
        ("store", status.store_trouble),
        ("since", format_time(status.store_trouble_since)),
        ("newest term seen", str(status.term)),
    ]


def _of_all(shown: int, count: int) -> str:
    return f" ({shown} of {count})" if count > shown else ""


def _print_attention(executions: Sequence[pb.Execution]) -> None:
    """Executions that only a person can settle, with the command to type."""
    print("\nOnly a person can settle these: their node is gone, and without a timeout dcron waits for ever;")
    print("or their node has delivered an outcome that the document store does not have any more.")
    print("Start a node that is gone and it tells how they ended, or say it yourself. The job waits.")
    print("Say 'retry' only when you are sure that the script does not run any more.")
    attention = [
        (execution.job, execution.node_id, format_time(execution.claimed_at), execution.id)
        for execution in executions
    ]
    print_table(("JOB", "NODE", "CLAIMED", "EXECUTION"), attention)
    for execution in executions:
        print(f"  dcron execution resolve {execution.id} --as succeeded|failed|retry --reason '...'")
