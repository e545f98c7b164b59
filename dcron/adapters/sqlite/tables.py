"""The SQL behind the SQLite document store: its tables, and one function for each thing done to them."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from dcron.adapters.documents import UnstorableError, encode, is_executions_database
from dcron.domain.errors import SetupError
from dcron.ports import INDEXES, ChangeBatch, Document, WriteKind, WriteResult, generation

__all__ = [
    "COLUMNS",
    "changed_since",
    "document_of",
    "drop_some",
    "last_sequence",
    "migrate",
    "write",
]

DROP_ROWS_PER_COMMIT: Final = 2_000
SCHEMA_VERSION: Final = 1

_FIELDS: Final = tuple(sorted({field for fields in INDEXES.values() for field in fields}))

_SCHEMA: Final = (
    "CREATE TABLE databases (name TEXT PRIMARY KEY) WITHOUT ROWID",
    # AUTOINCREMENT: numbers of a dropped month must not be given out again, or `changes` would miss them.
    "CREATE TABLE documents (sequence INTEGER PRIMARY KEY AUTOINCREMENT, database TEXT NOT NULL,"
    " id TEXT NOT NULL, revision TEXT NOT NULL, body TEXT NOT NULL, deleted INTEGER NOT NULL, "
    + ", ".join(f"{field} TEXT" for field in _FIELDS)
    + ", UNIQUE (database, id))",
    "CREATE INDEX by_sequence ON documents (database, sequence)",
    *(
        f"CREATE INDEX by_{field} ON documents (database, {field}, id) WHERE {field} IS NOT NULL"
        for field in _FIELDS
    ),
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_PUT: Final = (
    f"INSERT OR REPLACE INTO documents (database, id, revision, body, deleted, {', '.join(_FIELDS)})"  # noqa: S608 - names from INDEXES
    f" VALUES (?, ?, ?, ?, ?{', ?' * len(_FIELDS)})"
)
COLUMNS: Final = "id, revision, body, deleted"


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Make a connection ready for use, and the tables where the file is new; SetupError when it cannot be."""
    _refuse_foreign(connection, path)  # before anything of the file is changed
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise SetupError(f"{path} is on a file system where SQLite cannot share it (no WAL)")
    # With NORMAL, a loss of power takes back claims that were answered already.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _refuse_foreign(connection, path) == 0:
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> int:
    """The format of the file, 0 for a new one; SetupError when it is not for this dcron."""
    # In one statement: another process may be making the tables right now.
    version, tables = connection.execute(
        "SELECT user_version, (SELECT count(*) FROM sqlite_master) FROM pragma_user_version"
    ).fetchone()
    if version > SCHEMA_VERSION:
        raise SetupError(
            f"{path} has format {version}, made by a newer dcron; this one knows {SCHEMA_VERSION}"
        )
    if version == 0 and tables:
        raise SetupError(f"{path} is a SQLite file of something else than dcron")
    return int(version)


def write(connection: sqlite3.Connection, database: str, documents: Sequence[Document]) -> list[WriteResult]:
    """Carry out one call of `DocumentStore.write`, inside a transaction of the caller's."""
    if is_executions_database(database):
        connection.execute("INSERT OR IGNORE INTO databases VALUES (?)", (database,))
    return [_write_one(connection, database, document) for document in documents]


def _write_one(connection: sqlite3.Connection, database: str, document: Document) -> WriteResult:
    try:
        text = encode(document).decode()
    except UnstorableError as error:
        return WriteResult(WriteKind.REJECTED, reason=str(error))
    stored = connection.execute(
        "SELECT revision, deleted FROM documents WHERE database = ? AND id = ?", (database, document.id)
    ).fetchone()
    revision, deleted = stored or ("0-", 1)
    if document.revision != (None if deleted else revision):
        return WriteResult(WriteKind.LOST)
    writes = generation(revision) + 1
    revision = f"{writes}-{secrets.token_hex(8)}"
    values = {} if document.deleted else document.body
    keys = [values.get(field) for field in _FIELDS]
    row = (database, document.id, revision, text, int(document.deleted))
    connection.execute(_PUT, (*row, *(key if isinstance(key, str) else None for key in keys)))
    return WriteResult(WriteKind.DONE, revision=revision)


def changed_since(connection: sqlite3.Connection, database: str, position: int, limit: int) -> ChangeBatch:
    """Changes after a position, the oldest first."""
    rows = connection.execute(
        f"SELECT {COLUMNS}, sequence FROM documents WHERE database = ? AND sequence > ?"  # noqa: S608
        " ORDER BY sequence LIMIT ?",
        (database, position, limit),
    ).fetchall()
    return ChangeBatch(tuple(document_of(row[:4]) for row in rows), str(rows[-1][4] if rows else position))


def drop_some(connection: sqlite3.Connection, database: str) -> bool:
    """Remove some documents of a database; whether there may be more."""
    connection.execute("DELETE FROM databases WHERE name = ?", (database,))
    removed = connection.execute(
        "DELETE FROM documents WHERE database = ? AND id IN"
        " (SELECT id FROM documents WHERE database = ? LIMIT ?)",
        (database, database, DROP_ROWS_PER_COMMIT),
    ).rowcount
    return removed == DROP_ROWS_PER_COMMIT


def last_sequence(connection: sqlite3.Connection) -> int:
    """The position of the last change of any database."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'documents'").fetchone()
    return 0 if row is None else int(row[0])


def document_of(row: Sequence[Any]) -> Document:
    """A document from a row of COLUMNS."""
    document_id, revision, body, deleted = row
    return Document(id=document_id, body=orjson.loads(body), revision=revision, deleted=bool(deleted))
