"""Documents as CouchDB writes them in JSON, and what its answers to a write mean. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dcron.adapters.documents import UnstorableError, encode
from dcron.domain.errors import StoreUnreachable
from dcron.ports import ChangeBatch, Document, Known, WriteKind, WriteResult, generation

__all__ = [
    "MAX_DOCUMENTS_PER_REQUEST",
    "MAX_REQUEST_BYTES",
    "Outgoing",
    "as_replicated",
    "batches",
    "change_batch",
    "document_of",
    "encoded",
    "is_known",
    "leaves_of",
    "live_leaves",
    "position_of",
    "tells_all",
    "to_json",
    "write_result",
]

MAX_DOCUMENTS_PER_REQUEST: Final = 500
MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
"""Most bytes of documents in one request; a single larger document goes alone."""

_REVISION = re.compile(r"[1-9][0-9]*-[0-9a-zA-Z]+")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One document of a write on its way: where its result belongs, and its JSON."""

    position: int
    document: Document
    text: bytes


def to_json(value: object) -> bytes:
    """The body of a request."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def encoded(documents: Sequence[Document], results: dict[int, WriteResult]) -> Iterator[Outgoing]:
    """Documents that can be sent; the result of each other one goes into `results`."""
    for position, document in enumerate(documents):
        special: dict[str, Any] = {"_id": document.id}
        if document.revision is not None:
            if not _REVISION.fullmatch(document.revision):
                # None that CouchDB ever gave out, and it would fail the whole request with a 400.
                results[position] = WriteResult(WriteKind.LOST)
                continue
            special["_rev"] = document.revision
        if document.deleted:
            special["_deleted"] = True
        try:
            yield Outgoing(position, document, encode(document, **special))
        except UnstorableError as error:
            results[position] = WriteResult(WriteKind.REJECTED, reason=str(error))


def as_replicated(document: Document) -> bytes:
    """A document that was never updated, with its revision, as one copy sends it to another."""
    generation, _, mark = (document.revision or "").partition("-")
    if generation != "1" or document.deleted:
        raise ValueError(f"{document.id} at {document.revision} is not as it was created")
    revisions = {"start": 1, "ids": [mark]}
    return encode(document, _id=document.id, _rev=document.revision, _revisions=revisions)


def batches(outgoing: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Cut a write into requests."""
    batch: list[Outgoing] = []
    size_bytes = 0
    for item in outgoing:
        full = len(batch) == MAX_DOCUMENTS_PER_REQUEST or size_bytes + len(item.text) > MAX_REQUEST_BYTES
        if batch and full:
            yield batch
            batch, size_bytes = [], 0
        batch.append(item)
        size_bytes += len(item.text)
    if batch:
        yield batch


def write_result(host: str, answer: Mapping[str, Any], *, quorum: bool) -> WriteResult:
    """Result that one member of the answer to `_bulk_docs` stands for; StoreUnreachable where it tells none.

    `quorum` is False when the answer as a whole was a 202 that does not tell its documents apart."""
    if answer.get("ok"):
        # "accepted" stands beside "ok": stored, but on fewer copies than a quorum.
        done = quorum and not answer.get("accepted")
        return WriteResult(WriteKind.DONE if done else WriteKind.UNSURE, revision=answer["rev"])
    if answer.get("error") == "conflict":
        return WriteResult(WriteKind.LOST)
    reason = f"{answer.get('error')}: {answer.get('reason')}"
    if answer.get("error") in {"forbidden", "unauthorized"}:
        return WriteResult(WriteKind.REJECTED, reason=reason)
    raise StoreUnreachable(f"CouchDB at {host} could not store {answer.get('id')}: {reason}")


def document_of(row: Mapping[str, Any]) -> Document:
    """A document from CouchDB's JSON of it; a deleted one has no body."""
    deleted = bool(row.get("_deleted"))
    body = {} if deleted else {name: value for name, value in row.items() if not name.startswith("_")}
    return Document(id=row["_id"], body=body, revision=row["_rev"], deleted=deleted)


def leaves_of(host: str, entries: Sequence[Mapping[str, Any]]) -> Iterator[Document]:
    """The leaves that `_bulk_get` names for one document; StoreUnreachable where it could not look."""
    for entry in entries:
        error = entry.get("error")
        if "ok" in entry:
            yield document_of(entry["ok"])
        elif error and error.get("error") != "not_found":
            reason = f"{error.get('error')}: {error.get('reason')}"
            raise StoreUnreachable(f"CouchDB at {host} could not read {error.get('id')}: {reason}")


def live_leaves(leaves: Sequence[Document]) -> tuple[Document, ...]:
    """Those that are not deleted, by CouchDB's rule for which of them wins: it comes first."""
    return tuple(sorted((leaf for leaf in leaves if not leaf.deleted), key=_rank, reverse=True))


def _rank(leaf: Document) -> tuple[int, str]:
    generation, _, mark = (leaf.revision or "0-").partition("-")
    return int(generation), mark


def position_of(sequence: object) -> str:
    """A position in `_changes` as a string to give back as it is: some servers use numbers or lists."""
    return sequence if isinstance(sequence, str) else json.dumps(sequence, separators=(",", ":"))


def change_batch(payload: Mapping[str, Any]) -> ChangeBatch:
    """The answer of `_changes`, without design documents."""
    told = [row["doc"] for row in payload["results"] if row.get("doc") and not row["id"].startswith("_")]
    branched = frozenset(each["_id"] for each in told if each.get("_conflicts"))
    return ChangeBatch(tuple(map(document_of, told)), position_of(payload["last_seq"]), branched)


def is_known(row: Mapping[str, Any], known: Known) -> bool:
    """Whether a row of `_changes`, with the revisions of all leaves, has no news; branches always are."""
    leaves = row["changes"]
    return row["id"].startswith("_") or (len(leaves) == 1 and known(row["id"], leaves[0]["rev"]))


def tells_all(batch: ChangeBatch, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a batch has the documents of rows of `_changes`, as those tell or as they were written since.
    A batch that was asked for later may come from another copy, which is behind."""
    told = {document.id: document for document in batch.documents}
    for row in rows:
        document, leaves = told.get(row["id"]), row["changes"]
        if document is None or not _is_or_follows(document.revision, leaves[0]["rev"]):
            return False
        if len(leaves) > 1 and document.id not in batch.branched:
            return False
    return True


def _is_or_follows(revision: str | None, told: str) -> bool:
    """Another one of the same generation is of another branch."""
    return revision == told or generation(revision or "0") > generation(told)
