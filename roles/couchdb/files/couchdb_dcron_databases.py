#!/usr/bin/python3
"""couchdb-dcron-databases URL PREFIX USER MONTHS CREDENTIALS: makes dcron's databases and gives them to USER.

CREDENTIALS is a file with the admin's name and password, a line each. Each month's database of executions is
made MONTHS ahead; those that exist, as restored ones, are given to USER too. Prints what it made
or changed, and nothing else; safe to run on several hosts.
"""

import base64
import http.client
import json
import sys
import urllib.parse
from datetime import date, datetime, timezone
from http import HTTPStatus
from pathlib import Path

TIMEOUT_SECONDS = 30.0


class Couch:
    """A CouchDB, as its admin."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._address = urllib.parse.urlsplit(url).netloc
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        """The status of an answer, and the JSON in it."""
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_SECONDS)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, self._headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


def database_names(prefix: str, today: date, months: int) -> list[str]:
    """Those that dcron has now and in the months to come."""
    first = today.year * 12 + today.month - 1
    coming = (divmod(first + ahead, 12) for ahead in range(months + 1))
    executions = [f"{prefix}-executions-{year:04}-{month + 1:02}" for year, month in coming]
    return [f"{prefix}-jobs", f"{prefix}-cluster", f"{prefix}-audit", *executions]


def ensure(couch: Couch, name: str, security: dict[str, object]) -> None:
    """Make a database if it is missing, and have it belong to whom it should."""
    status, answer = couch.ask("PUT", f"/{name}")
    if status in (HTTPStatus.CREATED, HTTPStatus.ACCEPTED):
        print(f"made {name}")
    elif status != HTTPStatus.PRECONDITION_FAILED:
        sys.exit(f"cannot make {name}: {status} {answer}")
    _, found = couch.ask("GET", f"/{name}/_security")
    if found != security:
        status, answer = couch.ask("PUT", f"/{name}/_security", security)
        if status != HTTPStatus.OK:
            sys.exit(f"cannot say whose {name} is: {status} {answer}")
        print(f"gave {name} to its user")


def main(url: str, prefix: str, user: str, months: str, credentials: str) -> None:
    """Make all databases that are missing."""
    admin, password = Path(credentials).read_text(encoding="utf-8").splitlines()
    couch = Couch(url, admin, password)
    owner = {"names": [user], "roles": []}
    # An admin of a database may make indexes in it; only the server's admin may make or delete databases.
    security = {"admins": owner, "members": owner}
    today = datetime.now(timezone.utc).date()
    _, existing = couch.ask("GET", "/_all_dbs")
    ours = {name for name in existing if name.startswith(f"{prefix}-")}
    for name in sorted(ours.union(database_names(prefix, today, int(months)))):
        ensure(couch, name, security)


if __name__ == "__main__":
    main(*sys.argv[1:])
