"""What only the S3 store does: buckets, presigned URLs, credentials, multipart uploads, outages."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import boto3
import pytest

from dcron.adapters.s3 import store as s3_module
from dcron.adapters.s3.store import S3ObjectStore, S3Settings, parse_s3_url
from dcron.domain.errors import ObjectsUnreachable, SetupError
from dcron.ports import UploadTarget
from tests.object_stores import STARTED_KINDS, S3Access, S3Servers, collect, new_key
from tests.s3_server import isolated_environment

pytest_plugins = ["tests.object_store_fixtures"]

MIB = 1024 * 1024
MEASURED_BYTES = 200 * MIB
MEMORY_GROWTH_BYTES = 48 * MIB
"""Five parts and a bit: Python keeps what it freed."""


def _client(settings: S3Settings) -> Any:
    # In a session of its own: the default one keeps the credentials of the first server.
    return boto3.session.Session().client("s3", endpoint_url=settings.endpoint, region_name=settings.region)


async def _eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "the condition did not come true within 20 s"
        await asyncio.sleep(0.01)


async def _put(target: UploadTarget, body: bytes) -> int:
    """PUT as a client without credentials would; the HTTP status."""

    def put() -> int:
        headers = dict(target.headers)
        request = urllib.request.Request(target.url, data=body, method="PUT", headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code

    return await asyncio.to_thread(put)


async def test_a_presigned_url_takes_the_object_without_credentials(s3_store: S3ObjectStore) -> None:
    key = new_key("Grüße & more")
    target = await s3_store.presign_put(key, size_bytes=6, expires_seconds=60)
    assert target is not None
    assert await _put(target, b"script") == 200
    assert await collect(s3_store, key) == b"script"


async def test_a_presigned_url_is_good_for_its_own_key_only(s3_store: S3ObjectStore) -> None:
    key, other = new_key("mine"), new_key("other")
    target = await s3_store.presign_put(key, size_bytes=6, expires_seconds=60)
    assert target is not None
    parts = urlsplit(target.url)
    tampered = urlunsplit(parts._replace(path=parts.path.replace(key, other)))
    assert tampered != target.url
    assert await _put(replace(target, url=tampered), b"script") == 403
    assert await s3_store.size(other) is None


async def test_a_presigned_url_takes_no_other_length(s3_store: S3ObjectStore) -> None:
    key = new_key()
    target = await s3_store.presign_put(key, size_bytes=6, expires_seconds=60)
    assert target is not None
    assert await _put(replace(target, headers={}), b"a longer script") == 403
    assert await s3_store.size(key) is None


async def test_a_presigned_url_expires(s3_store: S3ObjectStore) -> None:
    target = await s3_store.presign_put(new_key(), size_bytes=1, expires_seconds=1)
    assert target is not None
    async with asyncio.timeout(20):
        while (status := await _put(target, b"x")) == 200:
            await asyncio.sleep(0.2)
    assert status == 403


async def test_a_presigned_url_names_the_endpoint_that_clients_reach(s3: S3Access) -> None:
    store = S3ObjectStore(replace(s3.settings, public_endpoint="https://objects.example.org:9000"))
    target = await store.presign_put("scripts/abc", size_bytes=1, expires_seconds=60)
    assert target is not None
    assert target.url.startswith(f"https://objects.example.org:9000/{s3.settings.bucket}/scripts/abc?")
    await store.prepare()  # by the endpoint that nodes reach: nobody is at the other
    await store.close()


async def test_a_missing_bucket_is_made_by_whichever_node_is_first(s3: S3Access) -> None:
    settings = s3.another_bucket()
    stores = [S3ObjectStore(settings) for _ in range(4)]
    key = new_key()
    try:
        assert not await stores[0].is_prepared()
        await asyncio.gather(*(store.prepare() for store in stores))
        assert await stores[0].is_prepared()
        target = await stores[0].presign_put(key, size_bytes=1, expires_seconds=60)
        assert target is not None
        assert await _put(target, b"x") == 200
        assert [await store.size(key) for store in stores] == [1] * 4
        await stores[0].delete(key)
    finally:
        for store in stores:
            await store.close()
        await asyncio.to_thread(_client(settings).delete_bucket, Bucket=settings.bucket)


async def test_without_a_bucket_writing_and_reading_fail_and_say_so(s3: S3Access, tmp_path: Path) -> None:
    store = S3ObjectStore(s3.another_bucket())
    path = tmp_path / "body"
    path.write_bytes(b"x")
    for call in (store.put_file(new_key(), path, size_bytes=1), collect(store, new_key())):
        with pytest.raises(ObjectsUnreachable, match="NoSuchBucket"):
            await call
    await store.close()


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
async def test_wrong_credentials_are_a_setup_error_that_does_not_tell_them(
    s3: S3Access, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    right, wrong = os.environ[variable], secrets.token_hex(16)
    monkeypatch.setenv(variable, wrong)
    store = S3ObjectStore(s3.settings)
    with pytest.raises(SetupError, match="check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") as refusal:
        await store.prepare()
    with pytest.raises(ObjectsUnreachable, match="was refused") as later:
        await store.size(new_key())
    for error in (refusal.value, later.value):
        assert right not in f"{error} {error.__cause__}"
        assert wrong not in f"{error} {error.__cause__}"
    await store.close()


async def test_no_credentials_at_all_are_a_setup_error(s3: S3Access, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in isolated_environment().items():
        monkeypatch.setenv(name, value)
    store = S3ObjectStore(s3.settings)
    with pytest.raises(SetupError, match="there are no credentials"):
        await store.prepare()
    with pytest.raises(ObjectsUnreachable, match="there are no credentials"):
        await store.presign_put("key", size_bytes=1, expires_seconds=1)
    await store.close()


async def test_an_unknown_profile_is_a_setup_error(s3: S3Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(SetupError, match="no-such-profile"):
        S3ObjectStore(s3.settings)


@pytest.mark.parametrize("ends_by", [asyncio.CancelledError, ValueError], ids=["cancelled", "file shrinks"])
async def test_an_upload_that_ends_early_leaves_no_parts(
    s3_store: S3ObjectStore, s3: S3Access, tmp_path: Path, ends_by: type[BaseException]
) -> None:
    key, path = new_key(), tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(2048 * MIB)
    client, bucket = _client(s3.settings), s3.settings.bucket

    def begun() -> bool:
        return bool(client.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads"))

    upload = asyncio.create_task(s3_store.put_file(key, path, size_bytes=2048 * MIB))
    await _eventually(begun)
    if ends_by is asyncio.CancelledError:
        upload.cancel()
    else:
        os.truncate(path, MIB)
    with pytest.raises(ends_by):
        await upload
    await _eventually(lambda: not begun())
    assert await s3_store.size(key) is None


async def test_memory_stays_bounded_while_a_big_file_is_uploaded(s3: S3Access, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(MEASURED_BYTES)
    key = new_key()
    code = f"""
import asyncio, resource, sys
from pathlib import Path
from dcron.adapters.s3.store import S3ObjectStore, parse_s3_url

def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

async def main():
    store, path = S3ObjectStore(parse_s3_url(sys.argv[1])), Path(sys.argv[2])
    await store.prepare()
    await store.put_file(sys.argv[3], path, size_bytes=1)
    before = peak_bytes()
    await store.put_file(sys.argv[3], path, size_bytes={MEASURED_BYTES})
    print(peak_bytes() - before, await store.size(sys.argv[3]))
    await store.delete(sys.argv[3])
    await store.close()

asyncio.run(main())
"""
    command = [sys.executable, "-c", code, s3.url, str(path), key]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    # What was logged comes before.
    growth_bytes, stored_bytes = map(int, done.stdout.splitlines()[-1].split())
    assert stored_bytes == MEASURED_BYTES
    assert growth_bytes < MEMORY_GROWTH_BYTES


def _every_call(store: S3ObjectStore, path: Path) -> dict[str, Awaitable[object]]:
    return {
        "prepare": store.prepare(),
        "size": store.size("key"),
        "read": collect(store, "key"),
        "put_file": store.put_file("key", path, size_bytes=1),
        "delete": store.delete("key"),
    }


@pytest.fixture
def some_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", **isolated_environment()}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are accepted and nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("proxy", [False, True])
@pytest.mark.usefixtures("some_credentials")
async def test_a_short_object_is_sent_at_once_and_through_a_proxy_by_boto3(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, proxy: bool
) -> None:
    asked: list[str] = []

    async def store_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        asked.append(head)
        await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    path = tmp_path / "body"
    path.write_bytes(b"hello")
    async with await asyncio.start_server(store_it, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        if proxy:
            monkeypatch.setenv("http_proxy", address)
        endpoint = "http://store.invalid" if proxy else address
        store = S3ObjectStore(S3Settings("bucket", endpoint=endpoint, path_style=True))
        await store.put_file("key", path, size_bytes=5)
        await store.close()
    [head] = asked
    assert head.startswith(f"put {endpoint if proxy else ''}/bucket/key")
    assert ("x-amz-signature=" in head) is not proxy


@pytest.mark.usefixtures("some_credentials")
async def test_a_server_that_is_down_is_unreachable_at_once(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"x")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    store = S3ObjectStore(S3Settings("bucket", endpoint=f"http://127.0.0.1:{port}"))
    for name, call in _every_call(store, path).items():
        started = time.monotonic()
        with pytest.raises(ObjectsUnreachable, match=f"no connection to http://127.0.0.1:{port}$"):
            await call
        assert time.monotonic() - started < s3_module.CONNECT_TIMEOUT_SECONDS, name
    await store.close()


@pytest.mark.usefixtures("some_credentials")
async def test_a_server_that_never_answers_is_unreachable_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch, silent_port: int, tmp_path: Path
) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"x")
    monkeypatch.setattr(s3_module, "READ_TIMEOUT_SECONDS", 0.5)
    store = S3ObjectStore(S3Settings("bucket", endpoint=f"http://127.0.0.1:{silent_port}"))
    started = time.monotonic()
    answers = await asyncio.gather(*_every_call(store, path).values(), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ObjectsUnreachable] * len(answers)
    assert time.monotonic() - started < s3_module.CALL_DEADLINE_SECONDS
    await store.close()


@pytest.mark.usefixtures("some_credentials")
async def test_an_answer_that_breaks_off_is_never_taken_for_a_shorter_object() -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(break_off, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = S3ObjectStore(S3Settings("bucket", endpoint=f"http://127.0.0.1:{port}"))
        with pytest.raises(ObjectsUnreachable):
            await collect(store, "key")
        await store.close()


@pytest.mark.parametrize("kind", STARTED_KINDS)
async def test_a_store_survives_crashes_and_outages_of_its_server(
    kind: str, s3_servers: S3Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await asyncio.to_thread(s3_servers.start, kind, "crashes")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    url = server.url
    store = S3ObjectStore(parse_s3_url(url))
    path = tmp_path / "body"
    path.write_bytes(bytes(9 * MIB))
    try:
        await store.prepare()
        await store.put_file("kept", path, size_bytes=9 * MIB)
        await asyncio.to_thread(server.kill)
        with pytest.raises(ObjectsUnreachable):
            await store.size("kept")
        await asyncio.to_thread(server.start)
        assert server.url == url
        assert await collect(store, "kept") == bytes(9 * MIB)
        await asyncio.to_thread(server.restart)
        await store.put_file("another", path, size_bytes=1)
        assert await store.size("another") == 1
    finally:
        await store.close()
        await asyncio.to_thread(server.stop)
