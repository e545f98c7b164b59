"""Rules that all document stores share: names of databases and indexes, and which documents can be stored."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from dcron.ports import AUDIT, CLUSTER, EXECUTIONS_PREFIX, INDEXES, JOBS, Document

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "MAX_ID_BYTES",
    "UnstorableError",
    "encode",
    "index_fields",
    "is_executions_database",
    "require_executions_database",
    "require_index",
]

MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024
"""Half of what CouchDB takes by default, so that all stores refuse the same documents."""

MAX_ID_BYTES: Final = 1024

_PLAIN: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
"""Options of orjson that refuse a value which would not be read back as it was written."""

_EXECUTIONS = re.compile(rf"{EXECUTIONS_PREFIX}\d{{4}}-\d{{2}}")


class UnstorableError(ValueError):
    """A document that no store will ever take; the message says why."""


def is_executions_database(database: str) -> bool:
    """Whether this is the name of a month's database."""
    return _EXECUTIONS.fullmatch(database) is not None


def require_executions_database(database: str) -> None:
    """Raise ValueError unless this is the name of a month's database: only those may be dropped."""
    if not is_executions_database(database):
        raise ValueError(f"{database!r} is not an executions database")


def index_fields(database: str) -> tuple[str, ...]:
    """The indexed fields of a database; ValueError when dcron has no such database."""
    if database in {JOBS, CLUSTER, AUDIT}:
        return INDEXES[database]
    if is_executions_database(database):
        return INDEXES[EXECUTIONS_PREFIX]
    raise ValueError(f"{database!r} is no database of dcron")


def require_index(database: str, index: str) -> None:
    """Raise ValueError unless the database has this index."""
    if index not in index_fields(database):
        raise ValueError(f"{database!r} has no index {index!r}")


def encode(document: Document, **special: Any) -> bytes:
    """The body as JSON, with `special` members in front; UnstorableError when no store may take it.

    CouchDB gives a meaning to ids and members that start with an underscore, so all stores refuse
    them; the embedded stores would lose what CouchDB would misread."""
    if not document.id or document.id.startswith("_"):
        raise UnstorableError("the id is empty or starts with an underscore")
    if document.deleted and document.revision is None:
        raise UnstorableError("a deletion needs the revision that it deletes")
    reserved = [name for name in document.body if name.startswith("_")]
    if reserved:
        raise UnstorableError(f"the member {reserved[0]!r} starts with an underscore")
    try:
        id_bytes = len(document.id.encode())
        body = {} if document.deleted else document.body
        text = orjson.dumps({**special, **body}, option=_PLAIN)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnstorableError(f"the document is no JSON: {error}") from error
    # What is no number is written as null.
    if b"null" in text and not _is_finite(body):
        raise UnstorableError("the document is no JSON: it has a number that is none")
    if id_bytes > MAX_ID_BYTES:
        raise UnstorableError(f"the id has {id_bytes} bytes; at most {MAX_ID_BYTES} are stored")
    if len(text) > MAX_DOCUMENT_BYTES:
        raise UnstorableError(f"the document has {len(text)} bytes; at most {MAX_DOCUMENT_BYTES} are stored")
    return text


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_finite, value))
