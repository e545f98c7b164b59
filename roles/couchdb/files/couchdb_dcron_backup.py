#!/usr/bin/python3
"""couchdb-dcron-backup backup|restore URL PREFIX CREDENTIALS FOLDER [KEPT]: documents to and from files.

`backup` writes <FOLDER>/<time>/<database>.jsonl.gz, a document a line with all its branches, and keeps the
newest KEPT of such folders. `restore` takes one of them, into databases without documents, and raises
the floor to now, so that nothing that is restored is started for the past. No node may run meanwhile.
CREDENTIALS is a file with the admin's name and password, a line each.
"""

import base64
import gzip
import http.client
import json
import shutil
import sys
import urllib.parse
from collections.abc import Iterator
from datetime import datetime, timezone
from http import HTTPStatus
from pathlib import Path

TIMEOUT_SECONDS = 60.0
PAGE = 500
"""Documents asked for, or written, at a time."""


class Couch:
    """A CouchDB, as its admin."""

    def __init__(self, url: str, credentials: Path) -> None:
        user, password = credentials.read_text(encoding="utf-8").splitlines()
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        self._address = urllib.parse.urlsplit(url).netloc

    def ask(self, method: str, path: str, body: object = None) -> object:
        """The JSON of an answer; ends the program when it is a refusal."""
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            answer = connection.getresponse()
            content = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            sys.exit(f"{method} {path.partition('?')[0]}: {answer.status} {content}")
        return content

    def databases(self, prefix: str) -> list[str]:
        """The databases that are dcron's; executions last: what jobs wait for has most likely ended."""
        names = [name for name in self.ask("GET", "/_all_dbs") if name.startswith(f"{prefix}-")]
        return sorted(names, key=lambda name: (name.startswith(f"{prefix}-executions-"), name))

    def documents(self, database: str) -> Iterator[dict]:
        """All of a database, but for design documents; of each all branches that are not deleted."""
        start = None
        while True:
            query = {"include_docs": True, "conflicts": True, "limit": PAGE + 1}
            rows = self.ask(
                "POST", f"/{database}/_all_docs", query | ({"start_key": start} if start else {})
            )["rows"]
            for row in rows[:PAGE]:
                if not row["id"].startswith("_design/"):
                    yield from self._branches(database, row["doc"])
            if len(rows) <= PAGE:
                return
            start = rows[PAGE]["id"]

    def _branches(self, database: str, document: dict) -> Iterator[dict]:
        others = document.pop("_conflicts", [])
        yield document
        name = urllib.parse.quote(document["_id"], safe="")
        for revision in others:
            yield self.ask("GET", f"/{database}/{name}?rev={revision}")


def backup(couch: Couch, prefix: str, folder: Path, kept: int) -> None:
    """Write a new backup, then remove those that are too many."""
    now = datetime.now(timezone.utc)
    target = folder / f"{now:%Y%m%dT%H%M%SZ}"
    unfinished = target.with_suffix(".part")
    unfinished.mkdir(parents=True, mode=0o700)
    for database in couch.databases(prefix):
        with gzip.open(unfinished / f"{database}.jsonl.gz", "wt", encoding="utf-8") as file:
            for document in couch.documents(database):
                file.write(json.dumps(document) + "\n")
    unfinished.rename(target)
    finished = sorted(path for path in folder.iterdir() if path.is_dir() and path.suffix != ".part")
    for old in finished[:-kept] if kept else []:
        shutil.rmtree(old)
    print(target)


def restore(couch: Couch, prefix: str, folder: Path) -> None:
    """Write a backup into databases without documents."""
    existing = couch.databases(prefix)
    for database in existing:
        if next(couch.documents(database), None) is not None:
            sys.exit(f"{database} is not empty: restore into new databases")
    now = datetime.now(timezone.utc)
    for path in sorted(folder.glob("*.jsonl.gz")):
        database = path.name.removesuffix(".jsonl.gz")
        if database not in existing:
            couch.ask("PUT", f"/{database}")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            documents = (json.loads(line) for line in file)
            write(couch, database, (raised(document, now) for document in documents))
    # It has the floor: without it what is restored would start, and this ends with an error.
    couch.ask("GET", f"/{prefix}-cluster/settings")


def raised(document: dict, now: datetime) -> dict:
    """The document as it is, but with the floor at now: what is older is accounted for, not started."""
    if document["_id"] == "settings":
        return document | {"floor": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    return document


def write(couch: Couch, database: str, documents: Iterator[dict]) -> None:
    """Write documents with the revisions that they had."""
    batch: list[dict] = []
    for document in documents:
        batch.append(document)
        if len(batch) == PAGE:
            flush(couch, database, batch)
            batch = []
    flush(couch, database, batch)


def flush(couch: Couch, database: str, batch: list[dict]) -> None:
    """One request; ends the program when a document is refused."""
    refused = (
        couch.ask("POST", f"/{database}/_bulk_docs", {"new_edits": False, "docs": batch}) if batch else []
    )
    if refused:
        sys.exit(f"{database} refused {len(refused)} documents: {refused[0]}")


def main(verb: str, url: str, prefix: str, credentials: str, folder: str, kept: str = "0") -> None:
    """Do what the verb says."""
    couch = Couch(url, Path(credentials))
    if verb == "backup":
        backup(couch, prefix, Path(folder), int(kept))
    elif verb == "restore":
        restore(couch, prefix, Path(folder))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
