"""`dcron cluster`: all of it at once."""

from __future__ import annotations

import click

from dcron.cli.client import connect
from dcron.cli.failures import CommandFailed
from dcron.cli.options import output_option, server_option
from dcron.cli.output import print_json
from dcron.cli.status_views import merged, print_status
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
    """Show who leads, what is wrong and what to do about it, what waits, and what needs a person.

    While the document store cannot be reached, each node that --server names is asked what it knows by
    itself: what it runs, and what its spool holds. The exit code is 1 then.
    """
    answers: list[pb.ClusterStatus] = []
    with connect() as client:
        request = pb.GetClusterStatusRequest()
        for answer in client.read_each(lambda public: public.GetClusterStatus, request, CLUSTER):
            if not answer.store_trouble:
                answers = [answer]
                break
            answers.append(answer)
    found = merged(answers)
    if output == "json":
        print_json(found)
    else:
        print_status(found)
    if found.store_trouble:
        asked = ", ".join(answer.answering_node_id for answer in answers)
        raise CommandFailed(
            f"the document store cannot be reached from {asked}; this is what they know by themselves"
        )


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
