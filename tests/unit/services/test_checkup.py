"""Doctor looks at the stores through their ports, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from dcron.adapters.memory import MemoryDocumentStore
from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.domain.checkup import Level
from dcron.domain.documents import node_key
from dcron.domain.errors import ObjectsUnreachable
from dcron.domain.nodes import NodeRecord, node_body
from dcron.ports import CLUSTER, Document, UploadTarget
from dcron.services import checkup
from dcron.services.checkup import check_clock, check_objects, look_at_cluster
from dcron.services.clients.registrar import Registrar, Registration
from dcron.services.clients.scripts import Scripts
from tests.doubles import ManualClock
from tests.unit.services.doubles import SCRIPT, SCRIPT_TEXT, SPECIFICATION, START

TARGET = UploadTarget("http://store/bucket/key?signature=x")


class TimedStore(MemoryDocumentStore):
    """Tells its time of up to a second ago, cut off to the second, as CouchDB does."""

    def __init__(self, at: datetime, age: timedelta) -> None:
        super().__init__()
        self.at = at
        self.age = age

    async def wall_clock(self) -> datetime:
        return (self.at - self.age).replace(microsecond=0)


@pytest.mark.parametrize(
    ("ahead", "level"),
    [
        (timedelta(), Level.OK),
        (timedelta(milliseconds=-400), Level.OK),
        (timedelta(seconds=3), Level.WARNING),
        (timedelta(hours=-1), Level.FAILED),
    ],
)
@pytest.mark.parametrize("microsecond", [0, 999_999])
@pytest.mark.parametrize("age", [timedelta(), timedelta(seconds=1)], ids=["made now", "made a second ago"])
async def test_the_clock_is_compared_with_the_stores(
    ahead: timedelta, level: Level, microsecond: int, age: timedelta
) -> None:
    clock = ManualClock(START)
    store = TimedStore(clock.now().replace(microsecond=microsecond), age)
    clock.pass_until(store.at + ahead)
    assert (await check_clock(store, clock)).level is level


class SigningObjects(MemoryObjectStore):
    """Has clients upload by a signed URL; what they upload lands under `lands_at`, or nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared = True
        self.signed = ""
        self.garbles = False

    async def is_prepared(self) -> bool:
        return self.prepared

    async def presign_put(self, key: str, *, size_bytes: int, expires_seconds: int) -> UploadTarget | None:
        self.signed = key
        return TARGET

    async def read(self, key: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        async for chunk in super().read(key, offset=offset):
            yield chunk[1:] if self.garbles else chunk


async def refuse(target: UploadTarget, body: bytes) -> str:
    return "http://store refused it: 403"


async def swallow(target: UploadTarget, body: bytes) -> str:
    return ""


async def test_objects_are_tried_as_a_node_and_as_a_client_does_and_removed() -> None:
    objects = SigningObjects()

    async def put(target: UploadTarget, body: bytes) -> str:
        objects._objects[objects.signed] = body
        return ""

    findings = await check_objects(objects, put, joined=True)
    assert [finding.level for finding in findings] == [Level.OK, Level.OK]
    assert not objects._objects


@pytest.mark.parametrize(("put", "words"), [(refuse, "403"), (swallow, "leads elsewhere")])
async def test_an_upload_that_a_client_cannot_make_is_found(put, words: str) -> None:
    findings = await check_objects(SigningObjects(), put, joined=True)
    assert [finding.level for finding in findings] == [Level.OK, Level.FAILED]
    assert words in findings[1].message


async def test_an_object_that_comes_back_changed_is_found_and_removed() -> None:
    objects = SigningObjects()
    objects.garbles = True
    [finding] = await check_objects(objects, swallow, joined=True)
    assert finding.level is Level.FAILED
    assert not objects._objects


@pytest.mark.parametrize(("joined", "level"), [(False, Level.WARNING), (True, Level.FAILED)])
async def test_a_missing_bucket_is_wrong_once_the_cluster_has_run(*, joined: bool, level: Level) -> None:
    objects = SigningObjects()
    objects.prepared = False
    [finding] = await check_objects(objects, swallow, joined=joined)
    assert finding.level is level
    assert not objects._objects


async def test_an_object_store_that_is_away_is_told_in_its_words() -> None:
    class Away(SigningObjects):
        async def is_prepared(self) -> bool:
            raise ObjectsUnreachable("no connection to http://store")

    [finding] = await check_objects(Away(), swallow, joined=True)
    assert (finding.level, finding.message) == (Level.FAILED, "no connection to http://store")


async def put_node(store: MemoryDocumentStore, node_id: str, *, stopped: bool = False) -> Document:
    record = NodeRecord(node_id, "t", "s", f"{node_id}:1", "1", 4, START, START, stopped=stopped)
    document = Document(node_key(node_id), node_body(record))
    [result] = await store.write(CLUSTER, [document])
    return Document(document.id, document.body, result.revision)


async def test_who_renews_while_watched_is_alive_and_who_was_stopped_is_left_out() -> None:
    store = MemoryDocumentStore()
    await store.prepare()
    renewing = await put_node(store, "a")
    await put_node(store, "b")
    await put_node(store, "c", stopped=True)
    reads = 0
    read = store.read

    async def read_and_renew(database: str, ids: list[str]) -> list[tuple[Document, ...]]:
        nonlocal reads
        reads += 1
        found = await read(database, ids)
        if renewing.id in ids and reads < 3:
            await store.write(CLUSTER, [renewing])
        return found

    store.read = read_and_renew

    async def ask_health(address: str) -> str:
        return "" if address == "a:1" else "connection refused"

    facts = await look_at_cluster(store, ask_health, 0.01)
    assert [(peer.record.node_id, peer.alive, peer.trouble) for peer in facts.peers] == [
        ("a", True, ""),
        ("b", False, "connection refused"),
    ]
    assert facts.joined


async def test_the_interpreters_of_all_jobs_are_found_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "JOBS_PAGE", 2)
    store, objects = MemoryDocumentStore(), MemoryObjectStore()
    await store.prepare()
    objects._objects[SCRIPT.key] = SCRIPT_TEXT
    registrar = Registrar(store, Scripts(objects, max_script_bytes=1000), lambda: START)
    names = [f"job{number}" for number in range(5)]
    await registrar.create_all([Registration(name, SPECIFICATION, paused=False) for name in names])

    async def ask_health(address: str) -> str:
        raise AssertionError(f"there is no node at {address}")

    facts = await look_at_cluster(store, ask_health, 60.0)
    assert facts.asked == tuple((name, "sh", {}) for name in names)
    assert not facts.joined
