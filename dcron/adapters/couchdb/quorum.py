"""A write that leaves nothing behind, by which a quorum of copies shows that it takes writes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from functools import cache

from dcron.ports import Document

__all__ = ["probes"]

RANGES = 256
"""Parts of the range of hashes that are told apart: CouchDB keeps each part (shard) on copies of its own."""


def probes(documents: Iterable[Document]) -> bytes:
    """The body of a bulk write to all shards that hold some documents. 201 says that a quorum of their copies
    took it, 202 that fewer did. Local documents are in no listing or feed, are not replicated, and take any
    write."""
    ids = {_probe_of_range()[_range_of(document.id)] for document in documents}
    return json.dumps({"docs": [{"_id": each} for each in sorted(ids)]}).encode()


def _range_of(document_id: str) -> int:
    """By the hash that places a document: CRC-32 of its id."""
    return zlib.crc32(document_id.encode()) * RANGES >> 32


@cache
def _probe_of_range() -> dict[int, str]:
    """The id of one local document in each part of the range of hashes."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < RANGES:
        identifier = f"_local/dcron-quorum-{number}"
        found.setdefault(_range_of(identifier), identifier)
        number += 1
    return found
