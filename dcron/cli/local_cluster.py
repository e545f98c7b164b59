"""A cluster of node processes on this machine, sharing SQLite and a folder."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import IO, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dcron.cli.failures import CommandFailed

__all__ = ["HOST", "LocalCluster", "LocalNode", "free_ports", "require_free_ports", "stop_signals_interrupt"]

HOST = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
"""After SIGTERM; what is left then is killed."""
POLL_SECONDS = 0.1
HEALTH_SECONDS = 2.0
TAIL_LINES = 20
_DRAIN_SECONDS = 1.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class LocalNode:
    """One `dcron serve`. `tail` has its last log lines."""

    def __init__(self, node_id: str, port: int, on_line: Callable[[str, str], None]) -> None:
        self.id = node_id
        self.address = f"{HOST}:{port}"
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._on_line = on_line
        self._process: subprocess.Popen[str] | None = None
        self._reader: Thread | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the process; it is not ready yet."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dcron", "serve"],
            env={**environment, "DCRON_NODE_ID": self.id, "DCRON_LISTEN": self.address},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C is for us to pass on, in good order.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._reader = Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None, f"{self.id} was not started"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs, or was never started; negative when a signal ended it."""
        return self._process.poll() if self._process else None

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """Ask it to stop."""
        if self._process and self.runs:
            self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait for its end, or kill it."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        if self._reader:
            self._reader.join(_DRAIN_SECONDS)

    def is_serving(self) -> bool:
        """Whether it says that it can do its work."""
        with grpc.insecure_channel(self.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=HEALTH_SECONDS
                )
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def _read(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                text = line.rstrip("\n")
                self.tail.append(text)
                self._on_line(self.id, text)


class LocalCluster:
    """Nodes `node1`, `node2` … at the given ports; leaving the `with` stops them all."""

    def __init__(
        self,
        data: Path,
        ports: Sequence[int],
        environment: Mapping[str, str],
        on_line: Callable[[str, str], None] = lambda _node_id, _line: None,
    ) -> None:
        """`data` is absolute and is made; `on_line` gets each log line, from a thread for each node."""
        self.data = data
        self.nodes = tuple(LocalNode(f"node{n}", port, on_line) for n, port in enumerate(ports, start=1))
        self._environment = dict(environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def servers(self) -> str:
        """All addresses, as `--server` takes them."""
        return ",".join(node.address for node in self.nodes)

    def start(self) -> None:
        """Start all nodes and wait until each serves; CommandFailed when one does not."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandFailed(f"data folder {self.data}: {error.strerror}") from None
        for node in self.nodes:
            node.start(self._environment_of(node))
        deadline = time.monotonic() + START_SECONDS
        for node in self.nodes:
            self._await_serving(node, deadline)

    def stop(self) -> None:
        """Stop what runs, politely first. Signals that ask us to stop are ignored meanwhile."""
        before = [signal.signal(number, signal.SIG_IGN) for number in _STOP_SIGNALS]
        try:
            for node in self.nodes:
                node.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            for node in self.nodes:
                node.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for number, handler in zip(_STOP_SIGNALS, before, strict=True):
                signal.signal(number, handler)

    def _environment_of(self, node: LocalNode) -> dict[str, str]:
        environment = {
            **self._environment,
            "DCRON_STORE": f"sqlite:///{self.data / 'dcron.db'}",
            "DCRON_OBJECTS": (self.data / "objects").as_uri(),
            "DCRON_SPOOL": str(self.data / node.id),
            "DCRON_LOG_FORMAT": "text",
        }
        # One value cannot be right for several nodes on one machine; on loopback they need no TLS.
        for name in ("ADVERTISE", "TLS_CERTIFICATE", "TLS_KEY", "TLS_CA", "INSECURE"):
            environment.pop(f"DCRON_{name}", None)
        return environment

    def _await_serving(self, node: LocalNode, deadline: float) -> None:
        while not node.is_serving():
            if not node.runs:
                raise CommandFailed(f"{node.id} ended at once: {node.tail[-1] if node.tail else 'no reason'}")
            if time.monotonic() > deadline:
                raise CommandFailed(f"{node.id} does not serve after {START_SECONDS:g} s; see its log above")
            time.sleep(POLL_SECONDS)


def require_free_ports(ports: Sequence[int]) -> None:
    """CommandFailed when one of the ports cannot be listened on."""
    for port in ports:
        with socket.socket() as probe:
            # As the nodes do: connections that have just ended do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise CommandFailed(
                    f"port {port} on {HOST} cannot be used ({error.strerror}); choose others with --port"
                ) from None


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def stop_signals_interrupt() -> None:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, so that `with` blocks are left in order."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
