"""A server of CouchDB's protocol for fixtures: pouchdb-server, where Node.js is found."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

__all__ = ["CouchServer", "CouchUnavailable", "couch_server_program", "with_own_databases"]

PACKAGE = "pouchdb-server@4.2.0"
CACHE = Path(__file__).parent.parent / ".cache" / "pouchdb-server"
INSTALL_TIMEOUT_SECONDS = 300.0
START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 10.0
START_ATTEMPTS = 5
POLL_SECONDS = 0.05


class CouchUnavailable(Exception):
    """There is no server to be had here; the message is one line that says why."""


def couch_server_program() -> Path:
    """The installed server's program; installs it at first, once for all that ask at the same time."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise CouchUnavailable("no CouchDB: set DCRON_TEST_COUCHDB_URL, or install Node.js and npm")
    CACHE.mkdir(parents=True, exist_ok=True)
    done = CACHE / "installed"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _install()
            done.touch()
    return CACHE / "node_modules" / "pouchdb-server" / "bin" / "pouchdb-server"


def with_own_databases(url: str) -> str:
    """The URL of a CouchDB that is shared, for databases beside those of others: the prefix grows longer."""
    parts = urlsplit(url)
    return parts._replace(path=f"/{parts.path.strip('/')}t{secrets.token_hex(4)}").geturl()


def _install() -> None:
    options = ["--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--prefix", str(CACHE)]
    try:
        subprocess.run(
            ["npm", "install", *options, PACKAGE],
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()[-1:] or ["npm said nothing"]
        raise CouchUnavailable(f"no CouchDB: npm could not install {PACKAGE}: {reason[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise CouchUnavailable(f"no CouchDB: npm took too long to install {PACKAGE}") from error


class CouchServer:
    """One server process without authentication, with all its data in memory.

    `start` after `stop` or `kill` serves nothing of what was stored, on the same port; `pause` and
    `resume` are the outage that keeps the data. Configuration and log are in `folder`. Raises
    CouchUnavailable where there is no Node.js. All methods block.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        """127.0.0.1:port, known once it was started."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The form that `DCRON_STORE` takes, with the default prefix."""
        return f"couchdb://{self.address}/dcron"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        if self._process is not None:
            raise RuntimeError("the CouchDB server runs already")
        program = couch_server_program()
        for _ in range(START_ATTEMPTS):
            # Another process may take the port first; then the server ends at once and the next is tried.
            self._port = self._port or _free_port()
            self._launch(program)
            if self._answers():
                return
            self.kill()
            self._port = 0
        raise RuntimeError(
            f"pouchdb-server did not start: {(self._folder / 'stdout.log').read_text()[-2000:]}"
        )

    def stop(self) -> None:
        """Stop the server and wait for its end, paused or not; nothing if it does not run."""
        if self._process is not None:
            self.resume()
            self._process.terminate()
            self._wait()

    def kill(self) -> None:
        """End the server by SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._wait()

    def pause(self) -> None:
        """Freeze the server by SIGSTOP: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _launch(self, program: Path) -> None:
        node = shutil.which("node")
        assert node is not None
        files = ["--config", str(self._folder / "config.json"), "--dir", str(self._folder)]
        with (self._folder / "stdout.log").open("ab") as log:
            self._process = subprocess.Popen(
                [node, str(program), "--in-memory", "--host", "127.0.0.1", "--port", str(self._port), *files],
                cwd=self._folder,  # its log.txt goes there
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
            )

    def _answers(self) -> bool:
        assert self._process is not None
        until = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=STOP_TIMEOUT_SECONDS)
            try:
                connection.request("GET", "/")
                return "express-pouchdb" in json.loads(connection.getresponse().read())
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(POLL_SECONDS)
            finally:
                connection.close()
        return False

    def _wait(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
