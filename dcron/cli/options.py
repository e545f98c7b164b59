"""Options that many commands share; imports nothing heavy, so that `dcron --help` is quick."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

__all__ = [
    "DEFAULT_PORT",
    "DEFAULT_SERVER",
    "given_servers",
    "output_option",
    "parse_servers",
    "root_server_option",
    "server_option",
]

DEFAULT_PORT = 7420
DEFAULT_SERVER = f"localhost:{DEFAULT_PORT}"
_META_KEY = "dcron.servers"
_MAX_PORT = 65_535

_Command = TypeVar("_Command", bound=Callable[..., Any])


def parse_servers(text: str) -> tuple[str, ...]:
    """Addresses in `host:port[,host:port…]`, DEFAULT_PORT where none is given; ValueError if malformed."""
    servers = tuple(_parse_server(part.strip()) for part in text.split(",") if part.strip())
    if not servers:
        raise ValueError("no server is named; give host:port[,host:port…]")
    return servers


def _parse_server(text: str) -> str:
    bare_host = text.endswith("]") or ":" not in text
    host, _, port = (text, ":", str(DEFAULT_PORT)) if bare_host else text.rpartition(":")
    usable = host and not any(character.isspace() or character == "/" for character in host)
    if not usable or not (port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT):
        raise ValueError(f"{text!r} is not host:port")
    return f"{host}:{port}"


def _remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Keep the servers for `given_servers`; the option nearest to the command wins."""
    if value is None:
        return
    try:
        context.meta[_META_KEY] = parse_servers(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error


root_server_option = click.option(
    "--server",
    metavar="HOST:PORT[,…]",
    envvar="DCRON_SERVER",
    show_envvar=True,
    expose_value=False,
    callback=_remember,
    help="Node to talk to; any one will do. The next one is tried when one is down. Default: those of the"
    f" context, else {DEFAULT_SERVER}.",
)
"""For the root command: with the environment variable and the default."""

server_option = click.option(
    "--server",
    metavar="HOST:PORT[,…]",
    expose_value=False,
    callback=_remember,
    help="Node to talk to, as before the command.",
)
"""For each command that talks to a node."""


def output_option(command: _Command) -> _Command:
    """Add `--output table|json` to a reading command, as parameter `output`."""
    return click.option(
        "--output",
        "-o",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="A table for people, or JSON for programs.",
    )(command)


def given_servers() -> Sequence[str]:
    """The servers that the command line or the environment names, if any; only within a command."""
    servers: Sequence[str] = click.get_current_context().meta.get(_META_KEY, ())
    return servers
