"""Telling the other nodes that a term is over, so that none waits for the lease to run out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from dcron.domain.errors import NodeUnreachable, StoreUnreachable
from dcron.domain.nodes import node_of
from dcron.ports import DocumentStore, NodeClient
from dcron.services.shared.node_documents import list_nodes

__all__ = ["announce_resignation", "other_addresses"]

log = structlog.get_logger()


async def other_addresses(store: DocumentStore, incarnation: str) -> list[str]:
    """Addresses of all nodes that have not stopped, except this one, which is `incarnation`. Empty while the
    store is away: whoever is not told finds out by looking."""
    try:
        documents = await list_nodes(store)
    except StoreUnreachable as error:
        log.warning("cannot list the other nodes", action="leave", error=str(error))
        return []
    records = [node_of(node_id, document.body) for node_id, document in documents.items()]
    return [each.address for each in records if not each.stopped and each.incarnation != incarnation]


async def announce_resignation(nodes: NodeClient, addresses: Sequence[str], term: int) -> None:
    """Tell them, once the store knows."""
    await asyncio.gather(*(_announce_to(nodes, address, term) for address in addresses))


async def _announce_to(nodes: NodeClient, address: str, term: int) -> None:
    try:
        await nodes.announce_resignation(address, term)
    except NodeUnreachable as error:
        log.info("did not hear of the resignation", action="leave", address=address, error=str(error))
