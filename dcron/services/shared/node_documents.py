"""The documents of all nodes, as a listing shows them."""

from __future__ import annotations

from dcron.domain.documents import node_id_of, node_key
from dcron.ports import CLUSTER, Document, DocumentStore

__all__ = ["list_nodes"]

MAX_NODES = 1_000
"""Nodes of one cluster, stopped ones too."""


async def list_nodes(store: DocumentStore) -> dict[str, Document]:
    """The document of each node by the node's id, in order; a hint, for a listing may be of one copy."""
    listing = await store.range(CLUSTER, node_key(""), "node;", limit=MAX_NODES)
    return {node_id_of(document.id): document for document in listing}
