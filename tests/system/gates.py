"""A gate stands between one node and one of its stores, and can be told at which request to hold."""

from __future__ import annotations

import json
import re
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from dcron.adapters.couchdb.http import parse_couchdb_url
from dcron.adapters.s3.url import parse_s3_url
from tests.system.cluster import Cluster, NodeProcess

__all__ = [
    "Gate",
    "GatedCluster",
    "Hold",
    "Request",
    "Step",
    "a_claim",
    "a_log_upload",
    "an_intent",
    "an_outcome",
    "stand_before_store",
]

READ_BYTES = 65_536
HOLD_SECONDS = 60.0
"""How long a test waits for a request to come, and a request is held at most."""
CONNECT_SECONDS = 2.0


class Step(Enum):
    """How far a request gets before it is held."""

    NOT_PASSED_ON = "nothing of it is passed on"
    HALF_PASSED_ON = "half of its body is passed on"
    NOT_ANSWERED = "it is passed on; its answer is held"


@dataclass(frozen=True)
class Request:
    """One HTTP request; its body is empty where the client waits to be asked for it."""

    head: bytes
    body: bytes

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    @property
    def documents(self) -> list[dict[str, Any]]:
        """What it writes, if it is a bulk write of the document store."""
        return list(json.loads(self.body)["docs"]) if self.path.endswith("/_bulk_docs") else []


def an_intent(request: Request) -> bool:
    """The request by which a leader writes that it is about to offer an attempt."""
    return any(document.get("place", {}).get("active") for document in request.documents)


def a_claim(request: Request) -> bool:
    """The request that writes a claim."""
    return any(document.get("kind") == "claim" for document in request.documents)


def an_outcome(request: Request) -> bool:
    """The request that writes an outcome."""
    return any(document.get("kind") == "outcome" for document in request.documents)


def a_log_upload(request: Request) -> bool:
    """The request that stores a log."""
    return request.method == "PUT" and "/logs/" in request.path


@dataclass
class Hold:
    """One request that is to be held, and what becomes of it."""

    matches: Callable[[Request], bool]
    step: Step
    request: Request | None = None
    """The request itself, once it is held."""
    _reached: threading.Event = field(default_factory=threading.Event)
    _decided: threading.Event = field(default_factory=threading.Event)
    _dropped: bool = False

    def wait(self) -> Request:
        """Wait until the request is held."""
        assert self._reached.wait(HOLD_SECONDS), (
            f"no request came that is to be held so that {self.step.value}"
        )
        assert self.request is not None
        return self.request

    def is_reached(self, seconds: float) -> bool:
        """Whether the request is held, after waiting for it so long at most."""
        return self._reached.wait(seconds)

    def let_go(self) -> None:
        """Let what is held go on."""
        self._decided.set()

    def drop(self) -> None:
        """Let nothing more of it through, and break its connection."""
        self._dropped = True
        self._decided.set()

    def here(self) -> None:
        """What the gate calls with the request in its hands; ConnectionError when it is dropped."""
        self._reached.set()
        if not self._decided.wait(HOLD_SECONDS) or self._dropped:
            raise ConnectionAbortedError


class Gate:
    """An HTTP proxy to `upstream` (host:port) that listens on a free port of `host` until it is closed."""

    def __init__(self, upstream: str, host: str = "127.0.0.1") -> None:
        name, _, port = upstream.rpartition(":")
        self.upstream = (name, int(port))
        self._hold: Hold | None = None
        self._lock = threading.Lock()
        self._server = _Server((host, 0), _Connection)
        self._server.gate = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1})
        self._thread.start()

    @property
    def address(self) -> str:
        """host:port where it listens."""
        host, port = self._server.server_address[:2]
        return f"{host}:{port}"

    def hold(self, matches: Callable[[Request], bool], step: Step) -> Hold:
        """Hold the first request that matches, from now on; all others pass."""
        hold = Hold(matches, step)
        with self._lock:
            self._hold = hold
        return hold

    def take_hold(self, request: Request) -> Hold | None:
        """The hold that a request is meant by; it is used up."""
        with self._lock:
            hold = self._hold
            if hold is None or not hold.matches(request):
                return None
            self._hold = None
            hold.request = request
            return hold

    def close(self) -> None:
        """Stop listening; connections end with those who use them."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def stand_before_store(node: NodeProcess, host: str = "127.0.0.1") -> Gate:
    """A gate before the document store of a node that is not started yet: before its first host."""
    store_url = node.environment["DCRON_STORE"]
    gate = Gate(urlsplit(parse_couchdb_url(store_url).hosts[0]).netloc, host)
    # Host names come after the credentials, if there are any.
    node.environment["DCRON_STORE"] = re.sub(r"(?<=//)([^/@]*@)?[^/@]+", rf"\g<1>{gate.address}", store_url)
    return gate


class GatedCluster:
    """A cluster each of whose nodes has a gate of its own before each store."""

    def __init__(self, cluster: Cluster, host: str = "127.0.0.1") -> None:
        self.cluster = cluster
        self.store: dict[str, Gate] = {}
        self.objects: dict[str, Gate] = {}
        for node in cluster.nodes:
            self._stand_before(node, host)

    def _stand_before(self, node: NodeProcess, host: str) -> None:
        objects_url = node.environment["DCRON_OBJECTS"]
        endpoint = parse_s3_url(objects_url).endpoint or ""
        if not endpoint.startswith("http://"):
            pytest.skip("no gate can stand before an object store that is not reached by http")
        self.store[node.id] = stand_before_store(node, host)
        objects = self.objects[node.id] = Gate(urlsplit(endpoint).netloc, host)
        node.environment["DCRON_OBJECTS"] = objects_url.replace(endpoint, f"http://{objects.address}")

    def worker(self) -> NodeProcess:
        """A node that does not lead."""
        leader = self.cluster.leader()
        return next(node for node in self.cluster.nodes if node is not leader)

    def close(self) -> None:
        """Close the gates; after the nodes have stopped."""
        for gate in (*self.store.values(), *self.objects.values()):
            gate.close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64
    gate: Gate


class _Connection(socketserver.StreamRequestHandler):
    """One connection of the node, and the one to the store that goes with it."""

    server: _Server
    _held_answer: Hold | None = None

    def handle(self) -> None:
        # Whoever is at either end may be killed at any moment.
        with suppress(OSError), socket.create_connection(self.server.gate.upstream, CONNECT_SECONDS) as store:
            store.settimeout(None)
            answers = threading.Thread(target=self._pass_answers, args=(store,), daemon=True)
            answers.start()
            try:
                while (request := self._read()) is not None:
                    self._pass(request, store)
            finally:
                _shut(store)
                answers.join()

    def _read(self) -> Request | None:
        """The next request; its body with it, unless the client wants to be asked for that."""
        lines = [self.rfile.readline()]
        while lines[-1] not in {b"\r\n", b""}:
            lines.append(self.rfile.readline())
        if lines[-1] == b"":
            return None
        head = b"".join(lines)
        asks = _header(head, b"expect") is not None
        return Request(head, b"" if asks else self.rfile.read(_length(head)))

    def _pass(self, request: Request, store: socket.socket) -> None:
        hold = self.server.gate.take_hold(request)
        if hold is not None and hold.step is Step.NOT_PASSED_ON:
            hold.here()
        elif hold is not None and hold.step is Step.NOT_ANSWERED:
            self._held_answer = hold
        store.sendall(request.head)
        body = request.body or self.rfile.read(_length(request.head))
        if hold is not None and hold.step is Step.HALF_PASSED_ON:
            half = len(body) // 2
            store.sendall(body[:half])
            hold.here()
            body = body[half:]
        store.sendall(body)

    def _pass_answers(self, store: socket.socket) -> None:
        with suppress(OSError):
            while data := store.recv(READ_BYTES):
                hold, self._held_answer = self._held_answer, None
                if hold is not None:
                    hold.here()
                self.connection.sendall(data)
        _shut(self.connection)


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.strip().lower() == name:
            return value.strip()
    return None


def _length(head: bytes) -> int:
    assert _header(head, b"transfer-encoding") is None, "a gate passes bodies of known length only"
    return int(_header(head, b"content-length") or 0)


def _shut(peer: socket.socket) -> None:
    with suppress(OSError):
        peer.shutdown(socket.SHUT_RDWR)
