"""The pairs of stores that are measured, each started for one scenario and gone after it."""

from __future__ import annotations

import base64
import json
import os
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from dcron.adapters.couchdb.http import parse_couchdb_url
from tests.conftest import COUCHDB_VARIABLE
from tests.couchdb_server import CouchServer, with_own_databases
from tests.object_stores import EXTERNAL_URL, STARTED_KINDS
from tests.s3_server import S3Server

__all__ = [
    "KINDS",
    "Kind",
    "OpenStores",
    "Stores",
    "ask",
    "available_kinds",
    "best_couch",
    "couch",
    "local",
    "long_pairs",
    "own_databases",
    "pairs",
    "real_couch",
    "steady_pairs",
]

ANSWER_SECONDS = 60.0

Kind = Literal["sqlite", "pouchdb", "couchdb"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Stores:
    """A document store and an object store that are up; `environment` gives access to the latter."""

    name: str
    kind: Kind
    documents: str
    objects: str
    environment: Mapping[str, str]


OpenStores = Callable[[Path], AbstractContextManager[Stores]]


def pairs(kinds: Collection[Kind]) -> list[OpenStores]:
    """Of these kinds, what is here: files, the stand-in with S3, a real CouchDB with S3 if one is named."""
    every = {"sqlite": local, "pouchdb": couch, "couchdb": real_couch}
    return [every[kind] for kind in available_kinds() if kind in kinds]


def long_pairs(kinds: Collection[Kind]) -> list[OpenStores]:
    """For what takes minutes: the stand-in only where CouchDB is not measured."""
    has_couchdb = "couchdb" in frozenset(kinds).intersection(available_kinds())
    return pairs(frozenset(kinds) - {"pouchdb"} if has_couchdb else kinds)


def steady_pairs(kinds: Collection[Kind]) -> list[OpenStores]:
    """For a load that S3 is not to limit: MinIO where its program is found, else a folder."""
    is_fast = EXTERNAL_URL or "minio" in STARTED_KINDS
    return [each if is_fast or each is local else _with_folder(each) for each in long_pairs(kinds)]


def available_kinds() -> tuple[Kind, ...]:
    """What there is to be measured here."""
    return KINDS if COUCHDB_VARIABLE in os.environ else ("sqlite", "pouchdb")


def best_couch() -> OpenStores:
    """CouchDB where one is named, else the stand-in; with S3."""
    return real_couch if COUCHDB_VARIABLE in os.environ else couch


@contextmanager
def local(folder: Path) -> Iterator[Stores]:
    """SQLite and a folder."""
    yield Stores("SQLite + folder", "sqlite", f"sqlite:///{folder}/dcron.db", f"file://{folder}/objects", {})


@contextmanager
def couch(folder: Path) -> Iterator[Stores]:
    """The stand-in for CouchDB, and S3."""
    with CouchServer(folder / "couchdb") as server, _s3(folder) as (kind, url, environment):
        yield Stores(f"pouchdb + {kind}", "pouchdb", server.url, url, environment)


@contextmanager
def real_couch(folder: Path) -> Iterator[Stores]:
    """The CouchDB that the environment names, and S3."""
    with own_databases(os.environ[COUCHDB_VARIABLE]) as url, _s3(folder) as (kind, objects, environment):
        yield Stores(f"CouchDB + {kind}", "couchdb", url, objects, environment)


@contextmanager
def own_databases(shared_url: str) -> Iterator[str]:
    """The URL of a CouchDB for databases that have their own names, and are removed."""
    url = with_own_databases(shared_url)
    prefix = parse_couchdb_url(url).prefix
    try:
        yield url
    finally:
        for name in ask(url, "GET", "_all_dbs"):
            if str(name).startswith(prefix):
                ask(url, "DELETE", str(name))


def _with_folder(opened: OpenStores) -> OpenStores:
    @contextmanager
    def pair(folder: Path) -> Iterator[Stores]:
        with opened(folder) as stores:
            name = f"{stores.name.partition(' + ')[0]} + folder"
            yield Stores(name, stores.kind, stores.documents, f"file://{folder}/objects", {})

    return pair


@contextmanager
def _s3(folder: Path) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    if EXTERNAL_URL:
        yield "S3", EXTERNAL_URL, {}
        return
    # The last: MinIO where there is one.
    kind = STARTED_KINDS[-1]
    server = S3Server(folder / "s3", kind)
    server.start()
    try:
        yield {"swift": "Swift", "minio": "MinIO"}[kind], server.url, server.environment
    finally:
        server.stop()


def ask(url: str, method: str, path: str) -> list[object] | dict[str, object]:
    """What the first server of a CouchDB URL answers."""
    settings = parse_couchdb_url(url)
    request = urllib.request.Request(f"{settings.hosts[0]}/{path}", method=method)
    if settings.user is not None:
        credentials = base64.b64encode(f"{settings.user}:{settings.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {credentials}")
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        payload: list[object] | dict[str, object] = json.load(answer)
    return payload
