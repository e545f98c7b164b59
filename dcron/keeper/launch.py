"""Turning a request into a process, or into words that say why it could not be one."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

from dcron.keeper.processes import TOKEN_VARIABLE
from dcron.keeper.records import LOG_NAME, WORK_NAME
from dcron.keeper.script import Request

__all__ = ["LaunchError", "launch", "prepare_folder"]

SHEBANG_BYTES_MAX = 256
"""The kernel reads no more of a script's first line."""

_NO_ROOM = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_LOG_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
_DEFAULTED = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


class LaunchError(Exception):
    """The program cannot be executed; the message says why to the job's owner."""


def prepare_folder(folder: Path) -> None:
    """Make the attempt's folder with the directory that the script works in. Raises OSError."""
    (folder / WORK_NAME).mkdir(mode=0o700, parents=True, exist_ok=True)


def launch(request: Request) -> int:
    """Start the program in a session of its own; its pid.

    Raises LaunchError, and OSError where this machine has no room for it: another one may."""
    environment = {**request.environment, TOKEN_VARIABLE: request.token}
    log = str(request.folder / LOG_NAME)
    program = request.argv[0]
    # A directory for the child is nothing that posix_spawn offers; a single thread may change its own.
    os.chdir(request.folder / WORK_NAME)
    try:
        program = _find(program, environment.get("PATH", os.defpath))
        return os.posix_spawn(
            program,
            request.argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, _LOG_FLAGS, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULTED,
        )
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        raise LaunchError(_explain(program, error)) from error
    except ValueError as error:
        raise LaunchError(f"arguments or environment cannot be passed on: {error}") from error
    finally:
        os.chdir("/")


def _find(program: str, search: str) -> str:
    """The file that a program's name means. Raises LaunchError."""
    if "/" in program:
        return program
    present = ""
    for folder in search.split(os.pathsep):
        candidate = Path(folder or ".") / program
        if candidate.is_file():
            if os.access(candidate, os.X_OK):
                return str(candidate)
            present = present or str(candidate)
    if present:
        raise LaunchError(f"interpreter not executable: {present}")
    raise LaunchError(f"interpreter not found: {program} (looked in PATH={search})")


def _explain(program: str, error: OSError) -> str:
    if error.errno == errno.ENOEXEC:
        return f"cannot execute {program}: no program for this machine, and no script that begins with #!"
    if error.errno in {errno.ENOENT, errno.ENOTDIR} and not Path(program).exists():
        return f"interpreter not found: {program}"
    interpreter = _named_interpreter(program)
    if error.errno in {errno.ENOENT, errno.EACCES, errno.ENOTDIR} and interpreter:
        trouble = "not executable" if Path(interpreter).exists() else "not found"
        if os.access(program, os.X_OK):
            return f"interpreter {trouble}: {interpreter!r} (named in the first line of {program})"
    return f"cannot execute {program}: {error.strerror}"


def _named_interpreter(program: str) -> str:
    """Text after `#!` in the file's first line, with a carriage return that spoils it."""
    try:
        with Path(program).open("rb") as stream:
            line = stream.readline(SHEBANG_BYTES_MAX)
    except OSError:
        return ""
    words = line.removeprefix(b"#!").strip(b" \t\n").replace(b"\t", b" ").split(b" ")
    return os.fsdecode(words[0]) if line.startswith(b"#!") else ""
