"""Real S3 servers for fixtures: OpenStack Swift, or MinIO where its program is found."""

from __future__ import annotations

import os
import secrets
import selectors
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tests.swift_venv import swift_python

__all__ = ["Flavour", "S3Server", "isolated_environment", "minio_program"]

START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 10.0
START_ATTEMPTS = 5
REGION = "us-east-1"
SWIFT = Path(__file__).parent / "swift_s3" / "serve.py"

Flavour = Literal["swift", "minio"]


def minio_program() -> str | None:
    """Path of the `minio` program, None where there is none."""
    return shutil.which("minio")


def isolated_environment() -> dict[str, str]:
    """AWS_* variables that keep boto3 from the profiles of whoever runs the tests, and from the network."""
    return {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class S3Server:
    """One S3 server process that keeps its data in `folder`, its port, and its random credentials.

    `start` after `stop` or `kill` serves the same data on the same port. Raises SwiftUnavailable where
    Swift cannot be installed. All methods block.
    """

    def __init__(self, folder: Path, flavour: Flavour = "swift") -> None:
        self._folder = folder
        self._flavour = flavour
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._access_key = "test:dcron" if flavour == "swift" else f"key-{secrets.token_hex(6)}"
        self._secret_key = secrets.token_hex(16)
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def endpoint(self) -> str:
        """http://127.0.0.1:port, known once it was started."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The form that `DCRON_OBJECTS` takes; the bucket is not made by this class."""
        return self.bucket_url("dcron")

    def bucket_url(self, bucket: str) -> str:
        """As `url`, of another bucket on the same server."""
        return f"s3://{bucket}?endpoint={self.endpoint}&region={REGION}&path_style=true"

    @property
    def environment(self) -> Mapping[str, str]:
        """AWS_* variables with the credentials, to be added to a client's environment."""
        return {
            **isolated_environment(),
            "AWS_ACCESS_KEY_ID": self._access_key,
            "AWS_SECRET_ACCESS_KEY": self._secret_key,
        }

    def start(self) -> None:
        """Start the server and wait until it answers."""
        if self._process is not None:
            raise RuntimeError("the S3 server runs already")
        if self._flavour == "swift":
            self._start_swift()
        else:
            self._start_minio()

    def stop(self) -> None:
        """Stop the server and wait for its end; nothing if it does not run."""
        if self._process is not None:
            self._process.terminate()
            self._wait()

    def kill(self) -> None:
        """End the server by SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._wait()

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def _start_swift(self) -> None:
        self._launch(
            [str(swift_python()), str(SWIFT), str(self._folder)],
            {"S3_ACCESS_KEY": self._access_key, "S3_SECRET_KEY": self._secret_key},
        )
        line = self._first_line()
        if not line.strip():
            self.kill()
            raise RuntimeError(f"Swift did not start: {self._log().read_text()[-2000:]}")
        self._port = int(line)

    def _start_minio(self) -> None:
        keys = {"MINIO_ROOT_USER": self._access_key, "MINIO_ROOT_PASSWORD": self._secret_key}
        for _ in range(START_ATTEMPTS):
            # Another process may take the port first; then MinIO ends at once and the next is tried.
            self._port = self._port or _free_port()
            address = f"127.0.0.1:{self._port}"
            self._launch(
                [minio_program() or "minio", "server", "--address", address, str(self._folder)], keys
            )
            if self._answers():
                return
            self.kill()
            self._port = 0
        raise RuntimeError(f"MinIO did not start: {self._log().read_text()[-2000:]}")

    def _launch(self, command: list[str], variables: Mapping[str, str]) -> None:
        with self._log().open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if self._flavour == "swift" else log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder), **variables},
            )

    def _first_line(self) -> bytes:
        """What the process says once it is ready; empty when it ended or the time is over."""
        assert self._process is not None
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            return self._process.stdout.readline() if selector.select(START_TIMEOUT_SECONDS) else b""

    def _answers(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1.0).close()
            except OSError:
                time.sleep(0.05)
            else:
                return self._process.poll() is None
        return False

    def _wait(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None

    def _log(self) -> Path:
        return self._folder.with_name(f"{self._folder.name}.log")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
