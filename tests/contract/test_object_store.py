"""What `ObjectStore` promises, asked of every store."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from dcron.adapters.objects import CHUNK_BYTES
from dcron.domain.errors import InvalidInput, NotFound
from dcron.ports import ObjectStore
from tests.object_stores import collect, new_key

pytest_plugins = ["tests.object_store_fixtures"]

MIB = 1024 * 1024


async def stream(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


async def put(store: ObjectStore, key: str, body: bytes) -> None:
    await store.put_stream(key, stream([body]), max_bytes=len(body))


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 MiB and a bit, no two MiB of it alike; not to be changed."""
    path = tmp_path_factory.mktemp("big") / "file"
    path.write_bytes(random.Random(20).randbytes(20 * MIB + 17))
    return path


@pytest.mark.parametrize("body", [b"", b"x", b"\x00\xff\r\n", b"line\n" * 50_000], ids=len)
async def test_an_object_is_read_as_it_was_stored(object_store: ObjectStore, body: bytes) -> None:
    key = new_key()
    assert await object_store.put_stream(key, stream([body[:2], body[2:]]), max_bytes=len(body)) == len(body)
    assert await object_store.size(key) == len(body)
    assert await collect(object_store, key) == body


@pytest.mark.parametrize("name", ["Grüße/日本", "with space", "a+b&c=d?e#f%20", "quote'\"<>", "~tilde*"])
async def test_a_key_may_be_any_printable_text(object_store: ObjectStore, name: str, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"body")
    key = new_key(name)
    await object_store.put_file(key, path, size_bytes=4)
    assert await collect(object_store, key) == b"body"
    assert await object_store.size(key) == 4
    await object_store.delete(key)
    assert await object_store.size(key) is None


@pytest.mark.parametrize(
    "key",
    [
        *("", "/etc/passwd", "../up", "a/../../b", "a//b", "a/", "./a"),
        *("nul\0", "line\nbreak", "x" * 201, "\ud800", "a/" * 300 + "b"),
    ],
)
async def test_a_key_that_some_store_could_not_hold_is_refused_by_all(
    object_store: ObjectStore, key: str, tmp_path: Path
) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"body")
    with pytest.raises(InvalidInput) as refusal:
        await object_store.put_file(key, path, size_bytes=4)
    assert refusal.value.field == "key"
    for attempt in (put(object_store, key, b"x"), object_store.size(key), collect(object_store, key)):
        with pytest.raises(InvalidInput):
            await attempt
    with pytest.raises(InvalidInput):
        await object_store.delete(key)


@pytest.mark.parametrize(
    ("first", "second"), [(b"long " * 100, b"short"), (b"short", b"long " * 100), (b"x", b"")]
)
async def test_storing_again_replaces_the_whole_object(
    object_store: ObjectStore, first: bytes, second: bytes
) -> None:
    key = new_key()
    await put(object_store, key, first)
    await put(object_store, key, second)
    assert await collect(object_store, key) == second
    assert await object_store.size(key) == len(second)


async def test_reading_starts_at_the_offset(object_store: ObjectStore) -> None:
    key = new_key()
    await put(object_store, key, b"0123456789")
    assert await collect(object_store, key, offset=3) == b"3456789"
    assert await collect(object_store, key, offset=9) == b"9"


@pytest.mark.parametrize("offset", [10, 11, 10_000])
async def test_reading_from_the_end_or_beyond_yields_nothing(object_store: ObjectStore, offset: int) -> None:
    key = new_key()
    await put(object_store, key, b"0123456789")
    assert await collect(object_store, key, offset=offset) == b""


async def test_a_missing_object_has_no_size(object_store: ObjectStore) -> None:
    assert await object_store.size(new_key()) is None
    assert await object_store.size("test") is None


@pytest.mark.parametrize("offset", [0, 5])
async def test_reading_a_missing_object_is_not_found(object_store: ObjectStore, offset: int) -> None:
    key = new_key()
    with pytest.raises(NotFound, match=key):
        await collect(object_store, key, offset=offset)


async def test_deleting_twice_is_no_error(object_store: ObjectStore) -> None:
    key = new_key()
    await put(object_store, key, b"body")
    await object_store.delete(key)
    await object_store.delete(key)
    assert await object_store.size(key) is None
    with pytest.raises(NotFound):
        await collect(object_store, key)


async def test_a_big_file_and_its_trailer_are_stored_whole(object_store: ObjectStore, big_file: Path) -> None:
    key, trailer = new_key(), b"\n[cut here]\n"
    size_bytes = big_file.stat().st_size
    await object_store.put_file(key, big_file, size_bytes=size_bytes, trailer=trailer)
    assert await object_store.size(key) == size_bytes + len(trailer)
    digest = hashlib.sha256()
    async for chunk in object_store.read(key):
        assert 0 < len(chunk) <= CHUNK_BYTES
        digest.update(chunk)
    assert digest.digest() == hashlib.sha256(big_file.read_bytes() + trailer).digest()
    assert await collect(object_store, key, offset=size_bytes - 3) == big_file.read_bytes()[-3:] + trailer


@pytest.mark.parametrize("trailer", [b"", b"the end", b"t" * 3 * MIB], ids=len)
@pytest.mark.parametrize("size_bytes", [0, 5, 7 * MIB, 8 * MIB])
async def test_sizes_around_one_part_are_stored_exactly(
    object_store: ObjectStore, big_file: Path, size_bytes: int, trailer: bytes
) -> None:
    key = new_key()
    await object_store.put_file(key, big_file, size_bytes=size_bytes, trailer=trailer)
    assert await collect(object_store, key) == big_file.read_bytes()[:size_bytes] + trailer


async def test_a_file_that_grows_meanwhile_is_stored_as_far_as_announced(
    object_store: ObjectStore, big_file: Path, tmp_path: Path
) -> None:
    key, announced, path = new_key(), big_file.read_bytes(), tmp_path / "grows"
    path.write_bytes(announced)
    upload = asyncio.create_task(object_store.put_file(key, path, size_bytes=len(announced), trailer=b"."))
    with path.open("ab", buffering=0) as grows:
        while not upload.done():
            grows.write(b"more\n" * 1000)
            await asyncio.sleep(0.001)
    await upload
    assert await collect(object_store, key) == announced + b"."


async def test_a_sparse_file_is_stored_with_its_holes_as_zeros(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    key, path = new_key(), tmp_path / "sparse"
    with path.open("wb") as file:
        file.seek(3 * MIB)
        file.write(b"end")
    await object_store.put_file(key, path, size_bytes=3 * MIB + 3)
    assert await collect(object_store, key) == bytes(3 * MIB) + b"end"


@pytest.mark.parametrize("size_bytes", [5, 10 * MIB])
async def test_a_file_shorter_than_announced_stores_nothing(
    object_store: ObjectStore, tmp_path: Path, size_bytes: int
) -> None:
    key, path = new_key(), tmp_path / "short"
    path.write_bytes(bytes(size_bytes - 1))
    with pytest.raises(ValueError, match=f"{size_bytes} were announced"):
        await object_store.put_file(key, path, size_bytes=size_bytes)
    assert await object_store.size(key) is None


async def test_a_missing_file_is_the_callers_error(object_store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await object_store.put_file(new_key(), tmp_path / "missing", size_bytes=1)


@pytest.mark.parametrize("chunks", [[b"12345", b"6"], [b"123456"], [b"1"] * 6])
async def test_a_stream_over_its_limit_stores_nothing(object_store: ObjectStore, chunks: list[bytes]) -> None:
    key = new_key()
    with pytest.raises(InvalidInput, match="longer than 5 bytes") as refusal:
        await object_store.put_stream(key, stream(chunks), max_bytes=5)
    assert refusal.value.field == "script"
    assert await object_store.size(key) is None


async def test_a_stream_over_its_limit_leaves_the_former_object(object_store: ObjectStore) -> None:
    key = new_key()
    await put(object_store, key, b"former")
    with pytest.raises(InvalidInput):
        await object_store.put_stream(key, stream([b"too long"]), max_bytes=7)
    assert await collect(object_store, key) == b"former"


async def test_a_stream_that_breaks_stores_nothing(object_store: ObjectStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError("the client went away")

    key = new_key()
    with pytest.raises(ConnectionResetError):
        await object_store.put_stream(key, broken(), max_bytes=100)
    assert await object_store.size(key) is None


async def test_a_stream_longer_than_memory_is_stored_whole(object_store: ObjectStore) -> None:
    key, chunk = new_key(), random.Random(1).randbytes(300_000)
    assert await object_store.put_stream(key, stream([chunk] * 10), max_bytes=10 * MIB) == 10 * len(chunk)
    assert await collect(object_store, key) == chunk * 10


async def test_writers_of_one_key_leave_the_object_of_one_of_them(object_store: ObjectStore) -> None:
    key = new_key()
    bodies = [bytes([65 + number]) * (1000 * (number + 1)) for number in range(8)]
    await asyncio.gather(*(put(object_store, key, body) for body in bodies))
    assert await collect(object_store, key) in bodies


async def test_a_reader_sees_one_whole_object_while_it_is_replaced(object_store: ObjectStore) -> None:
    key, old, new = new_key(), b"o" * 6 * MIB, b"n" * 6 * MIB
    await put(object_store, key, old)
    seen = b""
    async for chunk in object_store.read(key):
        if not seen:
            await put(object_store, key, new)
        seen += chunk
    assert seen in (old, new)
    assert await collect(object_store, key) == new


async def test_a_reader_may_stop_early(object_store: ObjectStore) -> None:
    key, body = new_key(), bytes(6 * MIB)
    await put(object_store, key, body)
    for _ in range(20):
        async for chunk in object_store.read(key):
            assert chunk
            break
    assert await collect(object_store, key) == body


async def test_preparing_again_and_at_once_keeps_what_is_stored(object_store: ObjectStore) -> None:
    key = new_key()
    await put(object_store, key, b"kept")
    await asyncio.gather(*(object_store.prepare() for _ in range(5)))
    assert await collect(object_store, key) == b"kept"


async def test_a_prepared_store_says_so(object_store: ObjectStore) -> None:
    assert await object_store.is_prepared()


async def test_many_calls_at_once_are_all_answered(object_store: ObjectStore) -> None:
    keys = [new_key(str(number)) for number in range(40)]
    await asyncio.gather(*(put(object_store, key, key.encode()) for key in keys))
    assert await asyncio.gather(*(collect(object_store, key) for key in keys)) == [
        key.encode() for key in keys
    ]
