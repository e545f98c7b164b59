"""Makes the virtual environment that OpenStack Swift runs in, apart from the product's own.

Swift's dependencies would otherwise decide versions for dcron. Run as a program it prints the path of
the environment's Python.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["SwiftUnavailable", "swift_python"]

VERSIONS = Path(__file__).with_name("swift-constraints.txt")
INSTALL_TIMEOUT_SECONDS = 300.0
CACHE = Path(__file__).resolve().parent.parent / ".cache"


class SwiftUnavailable(Exception):
    """Swift could not be installed; the message is one line that says why."""


def swift_python() -> Path:
    """Python of an environment that has Swift, made at first use; safe to call from many processes."""
    folder = CACHE / "swift-venv"
    python = folder / "bin" / "python"
    # Written last, so that an installation that was interrupted is made again.
    finished = folder / "installed"
    CACHE.mkdir(exist_ok=True)
    versions = VERSIONS.read_text()
    with (CACHE / "swift-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists() or finished.read_text() != versions:
            shutil.rmtree(folder, ignore_errors=True)
            _install(folder, python)
            finished.write_text(versions)
    return python


def _install(folder: Path, python: Path) -> None:
    venv.create(folder, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--retries", "1", "--constraint", str(VERSIONS), "swift"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise SwiftUnavailable(f"pip took more than {INSTALL_TIMEOUT_SECONDS:g} s to install Swift") from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or ["no message"]
        raise SwiftUnavailable(f"pip cannot install Swift (no network?): {errors[0].removeprefix('ERROR: ')}")


if __name__ == "__main__":
    try:
        print(swift_python())
    except SwiftUnavailable as error:
        sys.exit(str(error))
