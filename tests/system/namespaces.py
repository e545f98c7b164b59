"""A network for the nodes of one cluster, made of network namespaces, whose links can be cut.

Each node has two links, to two bridges in a namespace that is the hub: `stores` leads to this machine, where
the gates stand, and `peers` to the other nodes. Addresses are of the range that RFC 2544 sets apart for
tests, and nothing routes them.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import subprocess
from enum import Enum

from tests.system.cluster import NodeProcess

__all__ = ["Link", "Network", "NetworkUnavailable", "enter_own_network"]

NODE_PORT = 7420
COMMAND_SECONDS = 10.0
PREFIX_BITS = 25
CLONE_NEWNET = 0x40000000


class NetworkUnavailable(Exception):
    """No network namespaces can be made here; the message is one line that says why."""


class Link(Enum):
    """What a node is connected to."""

    STORES = "stores"
    PEERS = "peers"


FIRST_HOST = {Link.STORES: 1, Link.PEERS: 129}
"""Each link has a half of the last byte of the address."""


class Network:
    """Namespaces of random names; `close` removes all of it. Raises NetworkUnavailable."""

    def __init__(self, node_ids: list[str]) -> None:
        if os.geteuid() != 0:
            raise NetworkUnavailable("network namespaces need root")
        if shutil.which("ip") is None:
            raise NetworkUnavailable("network namespaces need the program ip (iproute2)")
        self._tag = f"dc{secrets.token_hex(3)}"
        self._hub = f"{self._tag}-hub"
        self._prefix = f"198.18.{secrets.randbelow(256)}"
        self._numbers = {node_id: number for number, node_id in enumerate(node_ids, 1)}
        self._undo: list[tuple[str, ...]] = []
        try:
            self._make_namespace(self._hub)
        except subprocess.CalledProcessError as error:
            raise NetworkUnavailable(f"no network namespaces: {error.stderr.strip()}") from error
        try:
            for link in Link:
                # Without a delay a port that comes back forwards at once.
                _ip("-n", self._hub, "link", "add", link.value, "type", "bridge", "forward_delay", "0")
                _ip("-n", self._hub, "link", "set", link.value, "up")
            self._connect_machine()
            for node_id in node_ids:
                self._connect(node_id)
        except BaseException:
            self.close()
            raise

    @property
    def machine_address(self) -> str:
        """Where this machine is for the nodes."""
        return f"{self._prefix}.1"

    def _namespace(self, node_id: str) -> str:
        return f"{self._tag}-{node_id}"

    def _address(self, node_id: str, link: Link) -> str:
        return f"{self._prefix}.{FIRST_HOST[link] + self._numbers[node_id]}"

    def _port(self, node_id: str, link: Link) -> str:
        return f"{link.value}{self._numbers[node_id]}"

    def _make_namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        self._undo.append(("netns", "delete", name))
        _ip("-n", name, "link", "set", "lo", "up")

    def _connect_machine(self) -> None:
        _ip("link", "add", self._tag, "type", "veth", "peer", "name", "machine", "netns", self._hub)
        self._undo.append(("link", "delete", self._tag))
        _ip("address", "add", f"{self.machine_address}/{PREFIX_BITS}", "dev", self._tag)
        _ip("link", "set", self._tag, "up")
        _ip("-n", self._hub, "link", "set", "machine", "master", Link.STORES.value)
        _ip("-n", self._hub, "link", "set", "machine", "up")

    def _connect(self, node_id: str) -> None:
        namespace = self._namespace(node_id)
        self._make_namespace(namespace)
        for link in Link:
            port, far_end = self._port(node_id, link), ("peer", "name", link.value, "netns", namespace)
            _ip("-n", self._hub, "link", "add", port, "type", "veth", *far_end)
            _ip("-n", self._hub, "link", "set", port, "master", link.value)
            address = f"{self._address(node_id, link)}/{PREFIX_BITS}"
            _ip("-n", namespace, "address", "add", address, "dev", link.value)
            _ip("-n", namespace, "link", "set", link.value, "up")
            self.mend(node_id, link)

    def settle(self, node: NodeProcess) -> None:
        """Let a node that has not started yet live in its namespace."""
        node.command = ["ip", "netns", "exec", self._namespace(node.id), *node.command]
        node.address = f"{self._address(node.id, Link.STORES)}:{NODE_PORT}"
        node.environment |= {
            "DCRON_LISTEN": f"0.0.0.0:{NODE_PORT}",
            "DCRON_INSECURE": "true",
            "DCRON_ADVERTISE": f"{self._address(node.id, Link.PEERS)}:{NODE_PORT}",
        }

    # Ports of the hub are set, not ends of a node or of this machine: those would lose their routes and
    # with them hear of the cut, or send what they have for each other some other way.

    def cut(self, node_id: str, *links: Link) -> None:
        """Let nothing through any more, in either direction; nobody is told."""
        for link in links:
            self._set(node_id, link, "down")

    def mend(self, node_id: str, *links: Link) -> None:
        """Undo `cut`."""
        for link in links:
            self._set(node_id, link, "up")

    def _set(self, node_id: str, link: Link, state: str) -> None:
        _ip("-n", self._hub, "link", "set", self._port(node_id, link), state)

    def close(self) -> None:
        """Remove the namespaces, and with them all links; nothing may run in them any more."""
        while self._undo:
            _ip(*self._undo.pop())


def enter_own_network() -> None:
    """Put this thread, and all that it starts from now on, into a network that has a loopback and no more.

    Nobody else on this machine can take a port that is free there. Raises NetworkUnavailable."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise NetworkUnavailable("a network of its own needs root and the program ip (iproute2)")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise NetworkUnavailable(f"no network of its own: {os.strerror(ctypes.get_errno())}")
    _ip("link", "set", "lo", "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=COMMAND_SECONDS)
