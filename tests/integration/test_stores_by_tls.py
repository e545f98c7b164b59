"""CouchDB and S3 behind real TLS servers, with a CA of our own."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dcron.adapters.couchdb.http import parse_couchdb_url
from dcron.adapters.trust import trusting
from dcron.adapters.upload_probe import put_by_url
from dcron.domain.errors import ObjectsUnreachable, SetupError, StoreUnreachable
from dcron.ports import CLUSTER, Document
from dcron.stores import open_objects, open_store
from tests.certificates import Authority
from tests.object_stores import S3Access, collect, new_key
from tests.tls_front import TlsFront

pytest_plugins = ["tests.object_store_fixtures"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def couchdbs_url(couch_url: str, authority: Authority) -> Iterator[str]:
    upstream = urlsplit(parse_couchdb_url(couch_url).hosts[0]).netloc
    with TlsFront(upstream, authority.issue("couch")) as front:
        prefix = f"t{secrets.token_hex(4)}"
        authority_part = re.match(r"couchdb://([^/@]*@)?", couch_url).group(1) or ""
        yield f"couchdbs://{authority_part}{front.address}/{prefix}"


@pytest.fixture
def https_url(s3: S3Access, authority: Authority) -> Iterator[str]:
    endpoint = s3.settings.endpoint or ""
    if not endpoint.startswith("http://"):
        pytest.skip("only before an S3 server without TLS is there room for one with it")
    with TlsFront(urlsplit(endpoint).netloc, authority.issue("objects")) as front:
        yield s3.url.replace(endpoint, f"https://{front.address}")


async def test_couchdb_is_used_by_tls_with_the_ca_given(couchdbs_url, authority):
    store = open_store(couchdbs_url, authority.file)
    try:
        await store.prepare()
        [result] = await store.write(CLUSTER, [Document("a", {"n": 1})])
        assert result.done
        [[leaf]] = await store.read(CLUSTER, ["a"])
        assert leaf.body == {"n": 1}
    finally:
        await store.close()


@pytest.mark.parametrize("trusted", ["the machine's", "another"])
async def test_a_couchdb_of_an_unknown_ca_is_out_of_reach(couchdbs_url, tmp_path, trusted):
    ca = Authority(tmp_path / "other", "other CA").file if trusted == "another" else None
    store = open_store(couchdbs_url, ca)
    try:
        with pytest.raises(StoreUnreachable, match=r"its certificate is not accepted: .*issuer certificate"):
            await store.prepare()
    finally:
        await store.close()


async def test_a_couchdb_that_its_certificate_does_not_name_is_out_of_reach(couchdbs_url, authority):
    store = open_store(couchdbs_url.replace("127.0.0.1", "127.0.0.2"), authority.file)
    try:
        with pytest.raises(StoreUnreachable):
            await store.prepare()
    finally:
        await store.close()


async def test_s3_is_used_by_tls_with_the_ca_given(https_url, authority, tmp_path):
    objects = open_objects(https_url, authority.file)
    key = new_key()
    try:
        await objects.prepare()
        path = tmp_path / "log"
        path.write_bytes(b"said")
        await objects.put_file(key, path, size_bytes=4)
        assert await collect(objects, key) == b"said"
        target = await objects.presign_put(key, size_bytes=3, expires_seconds=60)
        assert await put_by_url(target, b"new", trusted=trusting("objects_ca", authority.file)) == ""
        assert await collect(objects, key) == b"new"
        assert "certificate verify failed" in await put_by_url(target, b"new")
        await objects.delete(key)
    finally:
        await objects.close()


@pytest.mark.parametrize("trusted", ["boto3's", "another"])
async def test_an_s3_of_an_unknown_ca_is_out_of_reach(https_url, tmp_path, trusted):
    ca = Authority(tmp_path / "other", "other CA").file if trusted == "another" else None
    objects = open_objects(https_url, ca)
    try:
        with pytest.raises(ObjectsUnreachable, match=r"certificate of https://.* is not accepted") as caught:
            await objects.size("scripts/a-secret-key")
        assert "a-secret-key" not in str(caught.value)
    finally:
        await objects.close()


def test_a_ca_that_cannot_be_used_is_named(tmp_path):
    missing, empty = tmp_path / "none.pem", tmp_path / "empty.pem"
    empty.write_text("nothing")
    for ca, words in ((missing, "No such file"), (empty, "holds no certificate")):
        with pytest.raises(SetupError, match=f"store_ca: {ca}.*{words}"):
            open_store("couchdbs://localhost/dcron", ca)
        with pytest.raises(SetupError, match=f"objects_ca: {ca}.*{words}"):
            open_objects("s3://bucket?endpoint=https://localhost", ca)


def test_a_ca_without_tls_is_a_mistake(authority):
    with pytest.raises(SetupError, match=r"store_ca: only .* couchdbs://"):
        open_store("couchdb://localhost/dcron", authority.file)
    with pytest.raises(SetupError, match=r"objects_ca: only .* https://"):
        open_objects("s3://bucket?endpoint=http://localhost", authority.file)
