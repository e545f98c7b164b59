"""Early ends of a command: one line for people, one exit code for scripts."""

from __future__ import annotations

import re
from enum import IntEnum

import click

__all__ = ["CommandFailed", "ExitCode", "NotFoundFailure", "UnreachableFailure", "one_line"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class ExitCode(IntEnum):
    """Exit codes of dcron itself; `job run --wait` and `execution log` exit with the script's own."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    INTERRUPTED = 130
    BROKEN_PIPE = 141


def one_line(text: str) -> str:
    """Text from elsewhere as it may be shown: no line breaks, nothing that moves a terminal's cursor."""
    return _CONTROL.sub(" ", text).strip()


class CommandFailed(Exception):
    """The command did not do what was asked; the message says what to do about it."""

    def __init__(self, message: str, exit_code: int = ExitCode.FAILED) -> None:
        super().__init__(one_line(message))
        self.exit_code = int(exit_code)

    def show(self) -> None:
        """Print the one line on stderr."""
        click.echo(f"dcron: {self}", err=True)


class NotFoundFailure(CommandFailed):
    """A named job, execution or node does not exist."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.NOT_FOUND)


class UnreachableFailure(CommandFailed):
    """No node answered; asking again later may help.

    The exit code is UNREACHABLE when there was no connection at all, else FAILED."""

    def __init__(self, message: str, *, connected: bool) -> None:
        super().__init__(message, ExitCode.FAILED if connected else ExitCode.UNREACHABLE)
