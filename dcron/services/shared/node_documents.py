"""The documents of all nodes, as a listing shows them."""

from __future__ import annotations

from dcron.domain.documents import node_id_of, node_key
from dcron.ports import CLUSTER, Document, DocumentStore

__all__ = ["MAX_NODES", "list_nodes"]

MAX_NODES = 1_000
"""Nodes of one cluster, stopped ones too."""


async def list_nodes(store: DocumentStore, *, after: str = "", limit: int = MAX_NODES) -> dict[str, Document]:
    """The document of each node by the node's id, in order; a hint, for a listing may be of one copy.

    At most `limit`, of those whose ids come after `after`."""
    # "!" sorts before all that an id can go on with.
    start = f"{node_key(after)}!" if after else node_key("")
    listing = await store.range(CLUSTER, start, "node;", limit=limit)
    return {node_id_of(document.id): document for document in listing}
