"""A URL opens the store that its scheme names, and says what it may be otherwise."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dcron.adapters.couchdb.inspector import CouchInspector
from dcron.adapters.couchdb.store import CouchDocumentStore
from dcron.adapters.folder import FolderObjectStore
from dcron.adapters.s3.store import S3ObjectStore
from dcron.adapters.sqlite.inspector import SqliteInspector
from dcron.adapters.sqlite.store import SqliteDocumentStore
from dcron.domain.errors import SetupError
from dcron.stores import open_inspector, open_objects, open_store

PASSWORD = "hunter2"


@pytest.mark.parametrize(
    ("url", "store", "inspector"),
    [
        ("couchdb://me:secret@db:5984/dcron", CouchDocumentStore, CouchInspector),
        ("couchdbs://me:secret@db:6984/dcron", CouchDocumentStore, CouchInspector),
        ("sqlite:///var/lib/dcron/store.sqlite", SqliteDocumentStore, SqliteInspector),
    ],
)
async def test_the_same_schemes_are_opened_and_looked_at(url: str, store: type, inspector: type) -> None:
    opened, looking = open_store(url), open_inspector(url)
    assert isinstance(opened, store)
    assert isinstance(looking, inspector)
    await asyncio.gather(opened.close(), looking.close())


@pytest.mark.parametrize(
    ("url", "store"),
    [("s3://bucket?endpoint=http://here:9000", S3ObjectStore), ("file:///var/lib/dcron", FolderObjectStore)],
)
async def test_objects_are_opened_by_scheme(url: str, store: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    opened = open_objects(url)
    assert isinstance(opened, store)
    await opened.close()


@pytest.mark.parametrize("opening", [open_store, open_inspector, open_objects])
@pytest.mark.parametrize("url", [f"mysql://me:{PASSWORD}@db/dcron", f"me:{PASSWORD}@db", ""])
def test_another_scheme_is_refused_in_one_line_without_the_url(opening, url: str) -> None:
    with pytest.raises(SetupError, match=r"^(store|objects): expected \w+://") as caught:
        opening(url)
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("opening", [open_store, open_inspector])
def test_a_ca_without_tls_is_refused_before_its_file_is_read(opening) -> None:
    with pytest.raises(SetupError, match="store_ca: only a store that is reached by couchdbs://"):
        opening("couchdb://db/dcron", Path("/nowhere/ca.pem"))
