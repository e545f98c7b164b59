"""`dcron cluster`: all of it at once."""

from __future__ import annotations

import click

from dcron.cli.client import connect
from dcron.cli.node_views import print_nodes
from dcron.cli.options import output_option, server_option
from dcron.cli.output import format_time, print_details, print_json, print_table
from dcron.cli.subjects import CLUSTER
from dcron.rpc import dcron_pb2 as pb

__all__ = ["cluster"]


@click.group()
def cluster() -> None:
    """See how the cluster is, and hold it."""


@cluster.command()
@output_option
@server_option
def status(output: str) -> None:
    """Show who leads, what waits and why, and what needs attention."""
    with connect() as client:
        found = client.read(lambda public: public.GetClusterStatus, pb.GetClusterStatusRequest(), CLUSTER)
    if output == "json":
        print_json(found)
    else:
        _print_status(found)


@cluster.command()
@server_option
def freeze() -> None:
    """Start nothing anywhere that falls due from now on, until 'dcron cluster thaw'."""
    with connect() as client:
        client.write(lambda public: public.FreezeCluster, pb.FreezeClusterRequest(), CLUSTER)
    print("frozen: nothing starts until 'dcron cluster thaw'; what runs goes on")


@cluster.command()
@server_option
def thaw() -> None:
    """Start what falls due from now on; what the freeze held back is not made up for."""
    with connect() as client:
        client.write(lambda public: public.ThawCluster, pb.ThawClusterRequest(), CLUSTER)
    print("thawed: what falls due from now on starts again")


def _print_status(status: pb.ClusterStatus) -> None:
    print_details(
        [
            ("cluster", status.summary),
            ("leader", status.leader_id or "none"),
            ("term", str(status.term)),
            ("frozen", f"since {format_time(status.frozen_at)}" if status.frozen else "no"),
            ("active", str(status.active_count)),
            ("waiting", str(status.waiting_count)),
            ("needs attention", str(len(status.needs_attention))),
            ("format", str(status.format_version)),
        ]
    )
    print()
    print_nodes(status.nodes)
    if status.waiting:
        print()
        rows = [(waiting.job, waiting.execution_id, waiting.reason) for waiting in status.waiting]
        print_table(("JOB", "WAITING", "BECAUSE"), rows)
    if status.needs_attention:
        print("\nOnly a person can settle these; see 'dcron execution resolve --help':")
        attention = [(item.job, item.id, item.node_id) for item in status.needs_attention]
        print_table(("JOB", "EXECUTION", "NODE"), attention)
