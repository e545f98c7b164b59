"""Packages of Node.js for the tests that run examples, at pinned versions, where Node.js is found."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

__all__ = ["PACKAGES", "NodeUnavailable", "node_modules"]

PACKAGES = ("@grpc/grpc-js@1.14.7", "@grpc/proto-loader@0.8.1")
CACHE = Path(__file__).parent.parent / ".cache" / "node-examples"
INSTALL_TIMEOUT_SECONDS = 300.0


class NodeUnavailable(Exception):
    """The packages are not to be had here; the message is one line that says why."""


def node_modules() -> Path:
    """Their folder; installs them at first, once for all that ask at the same time."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NodeUnavailable("no Node.js: install Node.js and npm")
    CACHE.mkdir(parents=True, exist_ok=True)
    done = CACHE / "installed"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _install()
            done.touch()
    return CACHE / "node_modules"


def _install() -> None:
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(CACHE)]
    try:
        subprocess.run(
            ["npm", "install", *options, *PACKAGES],
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()[-1:] or ["npm said nothing"]
        raise NodeUnavailable(f"npm could not install {' '.join(PACKAGES)}: {reason[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise NodeUnavailable(f"npm took too long to install {' '.join(PACKAGES)}") from error
