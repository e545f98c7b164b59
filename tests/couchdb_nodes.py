"""The nodes of a running CouchDB that are processes of ours on this machine, to be paused and killed.

They are found by the ports that they listen on, so it does not matter who started them.
"""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["LocalCouchNodes", "NodesUnavailable"]

LISTENING = "0A"
"""The state of a socket in /proc/net/tcp."""
START_SECONDS = 60.0
END_SECONDS = 10.0
ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.05
OUTPUTS = (1, 2)
UP = (http.client.OK, http.client.UNAUTHORIZED, http.client.NOT_FOUND)
"""What a node answers that is asked for its health: 401 that it tells nobody without a password
(`require_valid_user`), 404 that it is in maintenance."""


class NodesUnavailable(Exception):
    """A node is not a process of ours on this machine; the message is one line that says which."""


@dataclass(frozen=True, slots=True)
class _Process:
    """A process and all that is needed to start it again."""

    pid: int
    program: str
    argv: tuple[str, ...]
    folder: str
    environment: dict[str, str]
    outputs: tuple[str, str]


class LocalCouchNodes:
    """Pauses, kills and restarts the nodes at `addresses`, each 127.0.0.1:port; node i is addresses[i].

    `start` runs again what `kill` ended: its own program, arguments, folder, environment and log files, so
    that it comes back with its data. Left as a context manager, every node runs and is awake again; a node
    that was killed has another pid then than whoever started the cluster knows. Raises NodesUnavailable
    where a node is no process of ours. All methods block.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._ports = [_loopback_port(address) for address in addresses]
        self._processes = [_described(_listener(port)) for port in self._ports]
        self._killed: set[int] = set()

    def pause(self, i: int) -> None:
        """SIGSTOP: connections stay, nothing is answered."""
        os.kill(self._processes[i].pid, signal.SIGSTOP)

    def resume(self, i: int) -> None:
        """SIGCONT; nothing for a node that is awake."""
        os.kill(self._processes[i].pid, signal.SIGCONT)

    def kill(self, i: int) -> None:
        """SIGKILL, and wait until its process is gone."""
        pid = self._processes[i].pid
        os.kill(pid, signal.SIGKILL)
        self._killed.add(i)
        _wait_until_gone(pid)

    def start(self, i: int) -> None:
        """Start a node that was killed, and wait until it answers."""
        _start_again(self._processes[i])
        self._wait_until_up(i)
        self._killed.discard(i)
        self._processes[i] = _described(_listener(self._ports[i]))

    def mend(self) -> None:
        """Wake and start whatever was paused or killed."""
        for i in range(len(self._ports)):
            if i in self._killed:
                self.start(i)
            else:
                self.resume(i)
                self._wait_until_up(i)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.mend()

    def _wait_until_up(self, i: int) -> None:
        until = time.monotonic() + START_SECONDS
        while not _is_up(self._ports[i]):
            if time.monotonic() > until:
                raise TimeoutError(f"CouchDB at port {self._ports[i]} does not answer")
            time.sleep(POLL_SECONDS)


def _loopback_port(address: str) -> int:
    host, _, port = address.rpartition(":")
    if host != "127.0.0.1" or not port.isdecimal():
        raise NodesUnavailable(f"CouchDB at {address} is not at 127.0.0.1:port, so it is no process of ours")
    return int(port)


def _listener(port: int) -> int:
    """The pid of ours that listens on a port."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        # Processes end meanwhile, and those of others do not show their files.
        with suppress(OSError):
            if any(str(entry.readlink()) in sockets for entry in (folder / "fd").iterdir()):
                return int(folder.name)
    raise NodesUnavailable(f"no process of ours listens on port {port}")


def _inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _described(pid: int) -> _Process:
    folder = Path("/proc") / str(pid)
    variables = (folder / "environ").read_bytes().decode(errors="surrogateescape").split("\0")
    out, error = (str((folder / "fd" / str(number)).readlink()) for number in OUTPUTS)
    return _Process(
        pid,
        str((folder / "exe").readlink()),
        tuple((folder / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]),
        str((folder / "cwd").readlink()),
        dict(variable.split("=", 1) for variable in variables if "=" in variable),
        (out, error),
    )


def _start_again(process: _Process) -> None:
    """In a session of its own: it stays when we end."""
    append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    outputs = [
        (os.POSIX_SPAWN_OPEN, number, _log(path), append, 0o600)
        for number, path in zip(OUTPUTS, process.outputs, strict=True)
    ]
    os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", 'cd "$0" && exec "$@"', process.folder, process.program, *process.argv[1:]],
        process.environment,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), *outputs],
        setsid=True,
    )


def _log(output: str) -> str:
    """Where a process wrote; a pipe cannot be opened a second time."""
    return output if output.startswith("/") else os.devnull


def _wait_until_gone(pid: int) -> None:
    until = time.monotonic() + END_SECONDS
    while _runs(pid):
        if time.monotonic() > until:
            raise TimeoutError(f"process {pid} does not end")
        time.sleep(POLL_SECONDS)
    with suppress(ChildProcessError):  # it is ours only if we started it
        os.waitpid(pid, 0)


def _runs(pid: int) -> bool:
    """Whether a process is there that has not ended; one that its parent has not looked at has."""
    try:
        status = (Path("/proc") / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _is_up(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/_up")
        return connection.getresponse().status in UP
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
