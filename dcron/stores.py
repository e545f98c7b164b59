"""Opens stores by the scheme of their URL, from one table for each of the two kinds.

A further store is a row here. An adapter is imported when a URL asks for it, so that a node loads nothing for
stores it does not use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext

from dcron.adapters.trust import trusting
from dcron.domain.errors import SetupError
from dcron.ports import DocumentStore, ObjectStore, StoreInspector

__all__ = ["open_inspector", "open_objects", "open_store"]


def open_store(url: str, ca: Path | None = None) -> DocumentStore:
    """The document store of a URL; nothing is connected yet. SetupError never repeats the URL.

    `ca` is whose certificates are believed, instead of those of the machine's CAs."""
    return _document_kind(url).open(url, ca)


def open_inspector(url: str, ca: Path | None = None) -> StoreInspector:
    """Inspector of the document store of a URL, for `dcron doctor`. `ca` and errors as for `open_store`."""
    return _document_kind(url).inspect(url, ca)


def open_objects(url: str, ca: Path | None = None) -> ObjectStore:
    """The object store of a URL; nothing is connected yet. `ca` and errors as for `open_store`."""
    opening = _OBJECT_STORES.get(url.partition(":")[0])
    if opening is None:
        raise SetupError("objects: expected s3://bucket?endpoint=http://… or file:///path")
    return opening(url, ca)


@dataclass(frozen=True, slots=True)
class _DocumentKind:
    """A kind of document store: how it is opened, and how it is looked at."""

    open: Callable[[str, Path | None], DocumentStore]
    inspect: Callable[[str, Path | None], StoreInspector]


def _document_kind(url: str) -> _DocumentKind:
    kind = _DOCUMENT_STORES.get(url.partition(":")[0])
    if kind is None:
        raise SetupError(
            "store: expected couchdb://user:password@host:5984/prefix, couchdbs://… or sqlite:///path"
        )
    return kind


def _couchdb(url: str, ca: Path | None) -> DocumentStore:
    from dcron.adapters.couchdb.http import parse_couchdb_url
    from dcron.adapters.couchdb.store import CouchDocumentStore

    return CouchDocumentStore(parse_couchdb_url(url), tls_context=_couchdb_trust(url, ca))


def _couchdb_inspector(url: str, ca: Path | None) -> StoreInspector:
    from dcron.adapters.couchdb.http import parse_couchdb_url
    from dcron.adapters.couchdb.inspector import CouchInspector

    return CouchInspector(parse_couchdb_url(url), _couchdb_trust(url, ca))


def _couchdb_trust(url: str, ca: Path | None) -> SSLContext | None:
    """Trust in the store's certificate; None: by the machine's CAs."""
    if ca is None:
        return None
    if not url.startswith("couchdbs:"):
        raise SetupError("store_ca: only a store that is reached by couchdbs:// has a certificate")
    return trusting("store_ca", ca)


def _sqlite(url: str, _: Path | None) -> DocumentStore:
    from dcron.adapters.sqlite.store import SqliteDocumentStore, parse_sqlite_url

    return SqliteDocumentStore(parse_sqlite_url(url))


def _sqlite_inspector(url: str, _: Path | None) -> StoreInspector:
    from dcron.adapters.sqlite.inspector import SqliteInspector
    from dcron.adapters.sqlite.store import parse_sqlite_url

    return SqliteInspector(parse_sqlite_url(url))


def _s3(url: str, ca: Path | None) -> ObjectStore:
    from dcron.adapters.s3.store import S3ObjectStore
    from dcron.adapters.s3.url import parse_s3_url

    return S3ObjectStore(parse_s3_url(url), ca=ca)


def _folder(url: str, _: Path | None) -> ObjectStore:
    from dcron.adapters.folder import FolderObjectStore, parse_file_url

    return FolderObjectStore(parse_file_url(url))


_COUCHDB = _DocumentKind(_couchdb, _couchdb_inspector)

_DOCUMENT_STORES: Mapping[str, _DocumentKind] = {
    "couchdb": _COUCHDB,
    "couchdbs": _COUCHDB,
    "sqlite": _DocumentKind(_sqlite, _sqlite_inspector),
}

_OBJECT_STORES: Mapping[str, Callable[[str, Path | None], ObjectStore]] = {
    "s3": _s3,
    "file": _folder,
}
