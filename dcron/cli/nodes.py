"""`dcron node`: the machines."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dcron.cli.client import connect
from dcron.cli.node_views import print_nodes
from dcron.cli.options import output_option, server_option
from dcron.cli.output import print_json
from dcron.cli.paging import MAX_ENTRIES, collect
from dcron.cli.subjects import NODES, node_named
from dcron.rpc import dcron_pb2 as pb

__all__ = ["node"]


@click.group()
def node() -> None:
    """See the nodes, and take them out of service."""


@node.command("list")
@output_option
@server_option
def list_nodes(output: str) -> None:
    """List all nodes that have joined, as the answering node sees them."""
    with connect() as client:

        def page(size: int, token: str) -> tuple[Sequence[pb.Node], str]:
            request = pb.ListNodesRequest(page_size=size, page_token=token)
            answer = client.read(lambda public: public.ListNodes, request, NODES)
            return answer.nodes, answer.next_page_token

        nodes, next_token = collect(page, MAX_ENTRIES)
    if output == "json":
        print_json(pb.ListNodesResponse(nodes=nodes, next_page_token=next_token))
    else:
        print_nodes(nodes)


@node.command()
@click.argument("node_id", metavar="NODE")
@server_option
def drain(node_id: str) -> None:
    """Give a node no new executions; those that it runs go on."""
    with connect() as client:
        request = pb.DrainNodeRequest(id=node_id)
        found = client.write(lambda public: public.DrainNode, request, node_named(node_id))
    print(f"draining node {node_id}; {found.running} of its executions still run")


@node.command()
@click.argument("node_id", metavar="NODE")
@server_option
def forget(node_id: str) -> None:
    """List a node no more that is gone for good; one that is alive is not forgotten."""
    with connect() as client:
        request = pb.ForgetNodeRequest(id=node_id)
        client.write(lambda public: public.ForgetNode, request, node_named(node_id))
    print(f"forgot node {node_id}")


@node.command()
@click.argument("node_id", metavar="NODE")
@server_option
def undrain(node_id: str) -> None:
    """Give a node executions again."""
    with connect() as client:
        request = pb.UndrainNodeRequest(id=node_id)
        client.write(lambda public: public.UndrainNode, request, node_named(node_id))
    print(f"node {node_id} takes executions again")
