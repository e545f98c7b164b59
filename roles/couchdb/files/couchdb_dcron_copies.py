#!/usr/bin/python3
"""couchdb-dcron-copies URL CREDENTIALS COPIES SECONDS: has each database kept COPIES times, and waits for it.

For hosts that join a cluster which has data, or come back blank: CouchDB gives them no part of databases that
are there, and where they had one it does not say when it is whole again. Asks all nodes by way of the one at
URL. CREDENTIALS is a file with the admin's name and password, a line each. Prints what it changed, no more.
"""

import base64
import http.client
import json
import sys
import time
import urllib.parse
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

TIMEOUT_SECONDS = 60.0
PAUSE_SECONDS = 1.0
NEW = {
    "_security": ({}, {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}),
    "_revs_limit": (1000,),
}
"""Settings of a database that a new copy does not have, by their names, and what it has in their place."""


class Couch:
    """A cluster, as its admin."""

    def __init__(self, url: str, credentials: Path) -> None:
        user, password = credentials.read_text(encoding="utf-8").splitlines()
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        self._address = urllib.parse.urlsplit(url).netloc

    def find(self, path: str, method: str = "GET", body: object = None) -> Any:
        """The JSON of an answer; None where there is no such thing. Ends the program when it is refused."""
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            answer = connection.getresponse()
            content = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            sys.exit(f"{method} {path}: {answer.status} {content}")
        return content

    def members(self) -> list[str]:
        """The names of all nodes; ends the program when one is away."""
        found = self.find("/_membership")
        if away := set(found["cluster_nodes"]) - set(found["all_nodes"]):
            sys.exit(f"{', '.join(sorted(away))} cannot be reached by the other nodes of the cluster")
        return sorted(found["cluster_nodes"])

    def maps(self, nodes: list[str]) -> dict[str, dict]:
        """Where the copies of each database are, by its name; a node that is blank may know of none."""
        return {
            row["id"]: row["doc"]
            for node in nodes
            for row in self.find(f"/_node/{node}/_dbs/_all_docs?include_docs=true")["rows"]
            if not row["id"].startswith("_design/")
        }

    def documents(self, node: str, shard: str) -> int:
        """How many documents, deleted ones among them, a node's copy of a shard has; -1 where it has none."""
        found = self.find(copy_path(node, shard))
        return -1 if found is None else found["doc_count"] + found["doc_del_count"]

    def setting(self, node: str, shard: str, name: str) -> object:
        """A setting of a node's copy; None where there is no copy, or it was never set."""
        found = self.find(f"{copy_path(node, shard)}/{name}")
        return None if found in NEW[name] else found

    def is_copying(self, nodes: list[str]) -> bool:
        """Whether any node has documents that it has not brought to the others yet."""
        return any(self.find(f"/_node/{node}/_system")["internal_replication_jobs"] for node in nodes)


class Known(NamedTuple):
    """What copies of a shard held when the program began, that all of them have to hold."""

    documents: int
    settings: dict[str, object]


def copy_path(node: str, shard: str) -> str:
    """Where a node's copy of a shard is asked for."""
    return f"/_node/{node}/{urllib.parse.quote(shard, safe='')}"


def shards(maps: dict[str, dict]) -> dict[str, list[str]]:
    """The nodes that are to have a copy of each shard of all databases."""
    return {
        f"shards/{part}/{database}{bytes(placed['shard_suffix']).decode()}": nodes
        for database, placed in maps.items()
        for part, nodes in placed["by_range"].items()
    }


def survey(couch: Couch, shard: str, nodes: list[str]) -> Known:
    """What the copies of a shard hold."""
    settings = {}
    for name in NEW:
        found = (couch.setting(node, shard, name) for node in nodes)
        if (value := next((each for each in found if each is not None), None)) is not None:
            settings[name] = value
    return Known(max(couch.documents(node, shard) for node in nodes), settings)


def spread(placed: dict, nodes: list[str], copies: int) -> list[str]:
    """Place copies that are missing, on nodes that have the fewest parts; which nodes got one."""
    got = []
    for part, having in placed["by_range"].items():
        while len(having) < min(copies, len(nodes)):
            others = [node for node in nodes if node not in having]
            node = min(others, key=lambda name: len(placed["by_node"].get(name, [])))
            having.append(node)
            placed["by_node"].setdefault(node, []).append(part)
            placed["changelog"].append(["add", part, node])
            got.append(node)
    return got


def place(couch: Couch, nodes: list[str], maps: dict[str, dict], copies: int) -> None:
    """Have each database kept so many times."""
    for database, placed in sorted(maps.items()):
        if strange := set(placed["by_node"]) - set(nodes):
            sys.exit(f"{database} has copies on {', '.join(sorted(strange))}: no node of the cluster")
        if got := spread(placed, nodes, copies):
            # By a node that knows the database: one that is blank would take this for a new one.
            path = f"_dbs/{urllib.parse.quote(database, safe='')}"
            knows = next(node for node in nodes if couch.find(f"/_node/{node}/{path}"))
            couch.find(f"/_node/{knows}/{path}", "PUT", placed)
            print(f"{database} is kept on {', '.join(sorted(set(got)))} too")


def lacks(couch: Couch, shard: str, node: str, known: Known) -> str:
    """What a node's copy does not hold yet; empty when it is whole."""
    documents = couch.documents(node, shard)
    if documents < 0:
        return f"{node} has no copy of {shard}"
    # A new copy lets nobody in, and CouchDB would take over what most copies say, the new ones among them.
    for name, value in known.settings.items():
        if couch.setting(node, shard, name) != value:
            couch.find(f"{copy_path(node, shard)}/{name}", "PUT", value)
            return f"{node} did not have {name} of {shard}"
    if documents < known.documents:
        return f"{node} has {documents} of {known.documents} documents of {shard}"
    return ""


def wait(
    couch: Couch, nodes: list[str], wanted: dict[str, list[str]], known: dict[str, Known], until: float
) -> None:
    """Wait until all copies are whole; ends the program when that takes too long."""
    while True:
        copies = [(shard, node) for shard, having in wanted.items() for node in having]
        troubles = [trouble for shard, node in copies if (trouble := lacks(couch, shard, node, known[shard]))]
        if couch.is_copying(nodes):
            troubles.append("documents are still being copied")
        if not troubles:
            return
        if time.monotonic() > until:
            sys.exit(f"gave up waiting: {troubles[0]}")
        time.sleep(PAUSE_SECONDS)


def main(url: str, credentials: str, copies: str, seconds: str) -> None:
    """Place copies, and wait until all are whole."""
    couch = Couch(url, Path(credentials))
    nodes = couch.members()
    maps = couch.maps(nodes)
    known = {shard: survey(couch, shard, having) for shard, having in shards(maps).items()}
    place(couch, nodes, maps, int(copies))
    for database in maps:
        couch.find(f"/{urllib.parse.quote(database, safe='')}/_sync_shards", "POST", {})
    wait(couch, nodes, shards(maps), known, time.monotonic() + float(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
