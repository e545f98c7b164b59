"""Looks at the stores and the cluster through the ports, for `dcron doctor`, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from dcron.domain.checkup import Finding, Level, judge_clock
from dcron.domain.checkup_cluster import Peer
from dcron.domain.documents import REVISIONS_START, node_id_of
from dcron.domain.errors import DcronError, ObjectsUnreachable
from dcron.domain.job_documents import job_of
from dcron.domain.model import ClusterSettings
from dcron.domain.nodes import NodeRecord, node_of
from dcron.ports import CLUSTER, JOBS, Clock, Document, DocumentStore, ObjectStore, UploadTarget
from dcron.services.shared.cluster_settings import read_settings
from dcron.services.shared.node_documents import list_nodes

__all__ = ["ClusterFacts", "check_clock", "check_objects", "look_at_cluster"]

JOBS_PAGE = 500
MAX_JOBS = 100_000
"""Jobs whose interpreters are looked at."""
STORE_TIME_AGE_SECONDS = 1.0
"""CouchDB makes its Date header anew once a second, and cuts it to the second (`mochiweb_clock.erl`): it is
up to two seconds old, on average this much."""
PROBE_BODY = b"dcron doctor was here; this may be removed\n"
URL_SECONDS = 60
OBJECTS_REMEDY = (
    "check bucket, endpoint, region and path_style in `objects`, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
UPLOADS_REMEDY = (
    "check `public_endpoint` in `objects`, the address at which clients reach the store, and this clock"
)


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """Facts that the document store tells about the cluster. `asked` has name, interpreter and labels of each
    job."""

    settings: ClusterSettings
    peers: tuple[Peer, ...]
    asked: tuple[tuple[str, str, dict[str, str]], ...]
    joined: bool
    """Whether a node has ever joined: then the cluster has run, and what it needs should be there."""


async def check_clock(store: DocumentStore, clock: Clock) -> Finding:
    """Compare this machine's clock with the store's. StoreUnreachable."""
    before = clock.now()
    theirs = await store.wall_clock()
    after = clock.now()
    middle = before + (after - before) / 2
    return judge_clock((middle - theirs).total_seconds() - STORE_TIME_AGE_SECONDS)


async def look_at_cluster(
    store: DocumentStore, ask_health: Callable[[str], Awaitable[str]], watch_seconds: float
) -> ClusterFacts:
    """Settings, nodes and jobs. Nodes are watched for so long, to tell by their renewals, not by clocks,
    which are alive; each is asked at its address. StoreUnreachable."""
    settings = await read_settings(store)
    before = await _node_documents(store)
    asked = await _asked(store)
    await asyncio.sleep(watch_seconds if before else 0.0)
    revisions = {document.id: document.revision for document in before}
    records = [
        (_record(document), document.revision != revisions.get(document.id))
        for document in await _node_documents(store)
    ]
    present = [Peer(record, alive) for record, alive in records if not record.stopped]
    troubles = await asyncio.gather(*(ask_health(peer.record.address) for peer in present))
    peers = tuple(replace(peer, trouble=trouble) for peer, trouble in zip(present, troubles, strict=True))
    return ClusterFacts(settings, peers, tuple(asked), joined=bool(records))


def _record(document: Document) -> NodeRecord:
    return node_of(node_id_of(document.id), document.body)


async def _node_documents(store: DocumentStore) -> list[Document]:
    """The winning leaf of each node's document, from a quorum."""
    listed = await list_nodes(store)
    if not listed:
        return []
    found = await store.read(CLUSTER, [document.id for document in listed.values()])
    return [leaves[0] for leaves in found if leaves]


async def _asked(store: DocumentStore) -> list[tuple[str, str, dict[str, str]]]:
    """Name, interpreter and labels of each job, at most MAX_JOBS; a hint, like the listing."""
    asked: list[tuple[str, str, dict[str, str]]] = []
    start = ""
    while len(asked) < MAX_JOBS:
        page = await store.range(JOBS, start, REVISIONS_START, limit=JOBS_PAGE)
        for document in page:
            wanted = job_of(document.id, document.body).specification
            asked.append((document.id, wanted.interpreter, dict(wanted.labels)))
        if len(page) < JOBS_PAGE:
            break
        start = f"{page[-1].id}\0"
    return asked


async def check_objects(
    objects: ObjectStore,
    put_by_url: Callable[[UploadTarget, bytes], Awaitable[str]],
    *,
    joined: bool,
) -> Sequence[Finding]:
    """Write, read and remove an object as a node does and as a client does. With `joined` the cluster has
    run before, and its bucket or folder should be there."""
    check = "object store"
    try:
        if not await objects.is_prepared():
            return [_not_there(joined=joined)]
        keys = [f"doctor/{secrets.token_hex(8)}" for _ in range(2)]
        try:
            await _round_trip(objects, keys[0])
            refused = await _upload_as_client(objects, put_by_url, keys[1])
        finally:
            for key in keys:
                await objects.delete(key)
    except DcronError as error:
        return [Finding(check, Level.FAILED, str(error), OBJECTS_REMEDY)]
    stored = Finding(check, Level.OK, "an object was written, read and removed")
    if refused:
        return [
            stored,
            Finding(
                "uploads by clients",
                Level.FAILED,
                refused,
                UPLOADS_REMEDY,
            ),
        ]
    return [stored, Finding("uploads by clients", Level.OK, "a client can upload scripts")]


def _not_there(*, joined: bool) -> Finding:
    message = "the bucket or folder named in `objects` is not there"
    if joined:
        return Finding(
            "object store",
            Level.FAILED,
            f"{message}, though this cluster has run before: the others use another one",
            "use the same `objects` as on the other nodes",
        )
    return Finding("object store", Level.WARNING, message, "the node makes it when it starts, if it may")


async def _round_trip(objects: ObjectStore, key: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield PROBE_BODY

    await objects.put_stream(key, chunks(), max_bytes=len(PROBE_BODY))
    read = b"".join([chunk async for chunk in objects.read(key)])
    if read != PROBE_BODY:
        raise ObjectsUnreachable("an object was read back with other content than was written")


async def _upload_as_client(
    objects: ObjectStore, put_by_url: Callable[[UploadTarget, bytes], Awaitable[str]], key: str
) -> str:
    """Reason why a client cannot upload, in words; empty when it can, or does so through a node."""
    target = await objects.presign_put(key, size_bytes=len(PROBE_BODY), expires_seconds=URL_SECONDS)
    if target is None:
        return ""
    refused = await put_by_url(target, PROBE_BODY)
    if not refused and await objects.size(key) != len(PROBE_BODY):
        return "what was uploaded is not in the bucket: the signed URL leads elsewhere"
    return refused
