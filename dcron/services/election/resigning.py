"""Telling the other nodes that a term is over, so that none waits for the lease to run out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from dcron.domain.documents import node_id_of, node_key
from dcron.domain.errors import NodeUnreachable, StoreUnreachable
from dcron.domain.nodes import node_of
from dcron.ports import CLUSTER, DocumentStore, NodeClient
from dcron.services.shared.node_watch import MAX_NODES

__all__ = ["announce_resignation", "other_addresses"]

log = structlog.get_logger()


async def other_addresses(store: DocumentStore, token: str) -> list[str]:
    """Where the nodes are reached that have not stopped, but for this one, of incarnation `token`. None
    while the store is away: whoever is not told finds out by looking."""
    try:
        documents = await store.range(CLUSTER, node_key(""), "node;", limit=MAX_NODES)
    except StoreUnreachable as error:
        log.warning("cannot list the other nodes", action="leave", error=str(error))
        return []
    records = [node_of(node_id_of(document.id), document.body) for document in documents]
    return [each.address for each in records if not each.stopped and each.token != token]


async def announce_resignation(nodes: NodeClient, addresses: Sequence[str], term: int) -> None:
    """Tell them, once the store knows."""
    await asyncio.gather(*(_announce_to(nodes, address, term) for address in addresses))


async def _announce_to(nodes: NodeClient, address: str, term: int) -> None:
    try:
        await nodes.announce_resignation(address, term)
    except NodeUnreachable as error:
        log.info("did not hear of the resignation", action="leave", address=address, error=str(error))
