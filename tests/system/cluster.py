"""Real nodes as processes, driven by the command line as a user drives them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import grpc
from google.protobuf import json_format

from dcron.cli.main import main as command_line
from dcron.rpc import dcron_pb2 as pb
from dcron.rpc.dcron_pb2_grpc import PublicStub
from tests.couchdb_server import with_own_databases

Answer = TypeVar("Answer")

START_SECONDS = 30.0
WELL_SECONDS = 30.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.1
MAX_RECORDS = 1000
"""Executions that one answer tells of at most."""
KEEPER_SECONDS = 20.0
"""What a keeper that was told to end has for it, with all its scripts."""


def wait_for(what: str, ask: Callable[[], Answer | None], seconds: float = 20.0) -> Answer:
    """The first answer that is not empty; fails with `what` when none comes in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = ask()
        if answer:
            return answer
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"not within {seconds:g} s: {what}")


def free_ports(count: int) -> list[int]:
    """Ports that were free just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def at(text: str) -> datetime:
    """The instant of a time stamp in the command line's JSON."""
    return datetime.fromisoformat(text)


def started(path: Path) -> list[str]:
    """Execution ids as the scripts themselves wrote them when they started."""
    return path.read_text().split() if path.exists() else []


class NodeProcess:
    """One `dcron serve`, its spool and its log file.

    `command` and `environment` may be changed before it starts; `address` is where clients reach it."""

    def __init__(self, node_id: str, port: int, folder: Path, environment: Mapping[str, str]) -> None:
        self.id = node_id
        self.address = f"127.0.0.1:{port}"
        self.command = [sys.executable, "-m", "dcron", "serve"]
        self.spool = folder / node_id
        self.log = folder / f"{node_id}.log"
        self.environment = {
            **os.environ,
            **environment,
            "DCRON_NODE_ID": node_id,
            "DCRON_LISTEN": self.address,
            "DCRON_SPOOL": str(self.spool),
            "DCRON_LABELS": f"host={node_id}",
        }
        self.away = True
        """Whether it is not known to answer: it starts, or a test keeps it from that."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon; it is not ready yet (`Cluster.wait_ready`)."""
        self.away = True
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.id} was not started"
        return self._process

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP of the daemon: it is there, and does nothing."""
        self.away = True
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused daemon go on."""
        self.signal(signal.SIGCONT)
        self.away = False

    def kill(self) -> None:
        """SIGKILL of the daemon alone; its keeper and scripts go on."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def keeper_pid(self) -> int | None:
        """The process that runs its scripts; None where there is none (any more)."""
        tail = f"\0-m\0dcron.keeper\0{self.spool}\0".encode()
        for folder in Path("/proc").iterdir():
            # Processes end meanwhile.
            with contextlib.suppress(OSError):
                if folder.name.isdecimal() and (folder / "cmdline").read_bytes().endswith(tail):
                    return int(folder.name)
        return None

    def stop(self) -> int:
        """A clean stop; the daemon's exit code."""
        if self.is_running():
            self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Cluster:
    """Nodes on one pair of stores; what a user does goes through `cli` and `ask`."""

    def __init__(
        self,
        folder: Path,
        store_url: str,
        objects_url: str,
        environment: Mapping[str, str],
        *,
        nodes: int = 3,
        lease_seconds: float = 3.0,
    ) -> None:
        self.folder = folder
        # A SQLite file is one cluster's, a CouchDB is shared.
        store = with_own_databases(store_url) if store_url.startswith("couchdb") else store_url
        shared = {
            **environment,
            "DCRON_STORE": store,
            "DCRON_OBJECTS": objects_url,
            "DCRON_LEASE_SECONDS": str(lease_seconds),
        }
        ports = free_ports(nodes)
        self.nodes = [NodeProcess(f"n{number}", port, folder, shared) for number, port in enumerate(ports, 1)]
        self.store_url = store
        self.client_environment: dict[str, str] = {}
        """What commands find besides, such as a certificate."""

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        self.wait_well()

    def wait_ready(self, node: NodeProcess) -> None:
        def ready() -> bool:
            assert node.is_running(), f"{node.id} ended by itself:\n{node.tail()}"
            return self._read("cluster", "status", via=[node]).returncode == 0

        wait_for(f"{node.id} answers", ready, START_SECONDS)
        node.away = False

    def wait_well(self) -> None:
        """Wait until all nodes serve, know of each other, and one leads."""
        for node in self.nodes:
            self.wait_ready(node)
        wait_for("a leader", self.leader_id, WELL_SECONDS)
        wait_for("all nodes alive", lambda: len(self.alive()) == len(self.nodes), WELL_SECONDS)

    def stop(self) -> None:
        """Stop all nodes, then their keepers, which wait for their scripts."""
        for node in self.nodes:
            if node.is_running():
                node.resume()
                node.process.terminate()
        for node in self.nodes:
            if node.is_running():
                try:
                    node.process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    node.kill()
        keepers = {node.id: pid for node in self.nodes if (pid := node.keeper_pid())}
        for pid in keepers.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        wait_for(
            f"the keepers of {', '.join(keepers)} end",
            lambda: not any(node.keeper_pid() for node in self.nodes),
            KEEPER_SECONDS,
        )

    def answering(self) -> list[NodeProcess]:
        """The nodes that are known to answer; if there are none, those that should."""
        running = [node for node in self.nodes if node.is_running()]
        return [node for node in running if not node.away] or running

    def node(self, node_id: str) -> NodeProcess:
        return next(node for node in self.nodes if node.id == node_id)

    def cli(
        self, *words: str, via: Sequence[NodeProcess] | None = None, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command line against some nodes (default: all that answer)."""
        return subprocess.run(
            [sys.executable, "-m", "dcron", *words],
            env={**os.environ, **self._settings(via)},
            input=stdin,
            capture_output=True,
            timeout=90,
            check=False,
        )

    def _settings(self, via: Sequence[NodeProcess] | None) -> dict[str, str]:
        """What the command line finds in its environment."""
        nodes = via if via is not None else self.answering()
        return {"DCRON_SERVER": ",".join(node.address for node in nodes), **self.client_environment}

    def _read(
        self, *words: str, via: Sequence[NodeProcess] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command line in this process: what a test asks again and again, until it is so, would
        otherwise start Python each time, and keep a core busy."""
        printed, errors = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self._settings(via)),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(errors),
        ):
            code = command_line(words)
        return subprocess.CompletedProcess(
            words, code, printed.getvalue().encode(), errors.getvalue().encode()
        )

    def stub(self) -> PublicStub:
        """The API of a node that answers, for what would take too many commands."""
        return PublicStub(grpc.insecure_channel(self.answering()[0].address))

    def ask(self, *words: str, via: Sequence[NodeProcess] | None = None) -> Any:
        """A reading command's JSON; the command must succeed."""
        done = self._read(*words, "--output", "json", via=via)
        assert done.returncode == 0, f"dcron {' '.join(words)}: {done.stderr.decode()}"
        return json.loads(done.stdout)

    def do(self, *words: str, via: Sequence[NodeProcess] | None = None, stdin: bytes = b"") -> str:
        """A command that must succeed; what it prints."""
        done = self.cli(*words, via=via, stdin=stdin)
        assert done.returncode == 0, f"dcron {' '.join(words)}: {done.stderr.decode()}"
        return done.stdout.decode()

    def create(self, name: str, script: str, *options: str, via: Sequence[NodeProcess] | None = None) -> None:
        """Register a job with a shell script."""
        path = self.folder / f"{name}.sh"
        path.write_text(script)
        self.do("job", "create", name, "--interpreter", "sh", *options, str(path), via=via)

    def create_many(self, names: Sequence[str], script: str, *options: str) -> None:
        """Register jobs that differ by their names only."""
        first, *others = names
        self.create(first, script, *options)
        public = self.stub()
        specification = public.GetJob(pb.GetJobRequest(name=first)).specification
        for name in others:
            public.CreateJob(pb.CreateJobRequest(name=name, specification=specification))

    def status(self, via: Sequence[NodeProcess] | None = None) -> Any:
        return self.ask("cluster", "status", via=via)

    def leader_id(self, via: Sequence[NodeProcess] | None = None) -> str:
        return str(self.status(via)["leaderId"])

    def leader(self) -> NodeProcess:
        """The node that leads; there may be none for a moment."""
        return self.node(wait_for("a leader", self.leader_id, WELL_SECONDS))

    def alive(self) -> list[str]:
        return [node["id"] for node in self.ask("node", "list")["nodes"] if node["alive"]]

    def executions(self, job: str = "", *, state: str = "", limit: int = 1000) -> list[Any]:
        words = ["execution", "list", "-n", str(limit)]
        words += ["--job", job] if job else []
        words += ["--state", state] if state else []
        return list(self.ask(*words)["executions"])

    def told(self, ask: Callable[[PublicStub], Answer]) -> Answer:
        """What a node answers to what may be asked twice: not all of them can at any moment."""

        def answer() -> tuple[Answer] | None:
            try:
                return (ask(self.stub()),)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return None

        return wait_for("an answer", answer)[0]

    def records(self, job: str) -> list[Any]:
        """All executions and skip records of a job, in the form of the command line's JSON."""
        request = pb.ListExecutionsRequest(job=job, page_size=MAX_RECORDS)
        records = self.told(lambda public: public.ListExecutions(request)).executions
        assert len(records) < MAX_RECORDS, f"{job} has more than one answer can tell"
        return [
            json_format.MessageToDict(each, always_print_fields_with_no_presence=True) for each in records
        ]

    def settled(self, job: str, count: int = 1, seconds: float = 30.0) -> list[Any]:
        """At least `count` executions of a job that have an outcome."""

        def ended() -> list[Any] | None:
            found = [
                each
                for each in self.executions(job)
                if each["state"] not in {"EXECUTION_STATE_RUNNING", "EXECUTION_STATE_SKIPPED"}
            ]
            return found if len(found) >= count else None

        return wait_for(f"{count} outcomes of {job}", ended, seconds)


@contextlib.contextmanager
def serving(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster while it runs; pytest shows the ends of its logs when a test fails."""
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        for node in cluster.nodes:
            if node.log.exists():
                print(f"--- {node.id}\n{node.tail()}")
