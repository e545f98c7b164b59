"""Cluster to talk to and identity to use: options, environment variables, and contexts in a file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from dcron.cli.failures import CommandFailed, ExitCode
from dcron.cli.options import DEFAULT_SERVER, given_servers, parse_servers

__all__ = ["Target", "chosen_target", "target_options"]

TLS_FILES = ("ca", "cert", "key")
CONTEXT_KEYS = ("server", *TLS_FILES)
SYSTEM_FILE = Path("/etc/dcron/client.toml")
_META = "dcron.target."

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Target:
    """Servers as `host:port`, and the files for TLS: all three or none."""

    servers: Sequence[str]
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


def target_options(command: _Command) -> _Command:
    """Add `--context`, `--ca`, `--cert` and `--key` to the root command."""
    texts = {
        "context": "Cluster to talk to, of those in client.toml.",
        "ca": "CA that the nodes' certificates are of (PEM). With --cert and --key: talk TLS.",
        "cert": "Certificate to show to the nodes; it says what you may do.",
        "key": "Key of that certificate.",
    }
    for name, text in reversed(texts.items()):
        command = click.option(
            f"--{name}",
            metavar="NAME" if name == "context" else "FILE",
            envvar=f"DCRON_{name.upper()}",
            show_envvar=True,
            expose_value=False,
            callback=_remember,
            help=text,
        )(command)
    return command


def _remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    context.meta[f"{_META}{parameter.name}"] = value


def chosen_target() -> Target:
    """Target that the command line, the environment and the context name, in this order; only within a
    command.

    Whoever names servers by hand does not mean the current context, unless it is named as well."""
    meta = click.get_current_context().meta
    servers = given_servers()
    named = meta.get(f"{_META}context")
    context = _context(named) if named or not servers else {}
    files = {name: meta.get(f"{_META}{name}") or context.get(name) for name in TLS_FILES}
    missing = [f"--{name}" for name, value in files.items() if not value]
    if 0 < len(missing) < len(TLS_FILES):
        raise CommandFailed(
            f"TLS needs --ca, --cert and --key (or DCRON_CA, DCRON_CERT, DCRON_KEY): {', '.join(missing)}"
            f" {'is' if len(missing) == 1 else 'are'} missing",
            ExitCode.USAGE,
        )
    servers = servers or parse_servers(context.get("server", DEFAULT_SERVER))
    return Target(servers, **{name: Path(value) for name, value in files.items() if value})


def _context(named: str | None) -> Mapping[str, str]:
    """The values of the context `named`, or of the current one; empty when there is none."""
    path = _file()
    content = _read(path) if path else {}
    name = named or content.get("current")
    if name is None:
        return {}
    contexts = content.get("contexts", {})
    if path is None:
        raise CommandFailed(
            f"context {name!r}: neither {_own_file()} nor {SYSTEM_FILE} is there; see docs/security.md",
            ExitCode.USAGE,
        )
    if name not in contexts:
        known = f"; there are: {', '.join(sorted(contexts))}" if contexts else ""
        raise CommandFailed(f"context {name!r} is not in {path}{known}", ExitCode.USAGE)
    return _checked(path, name, contexts[name])


def _checked(path: Path, name: str, context: object) -> Mapping[str, str]:
    """Its values, files as seen from the folder of client.toml."""
    if not isinstance(context, dict) or not all(isinstance(value, str) for value in context.values()):
        raise CommandFailed(f"context {name!r} in {path}: expected texts", ExitCode.USAGE)
    if unknown := sorted(context.keys() - set(CONTEXT_KEYS)):
        raise CommandFailed(
            f"context {name!r} in {path}: unknown {unknown[0]!r}; known are {', '.join(CONTEXT_KEYS)}",
            ExitCode.USAGE,
        )
    try:
        parse_servers(context.get("server", DEFAULT_SERVER))
    except ValueError as error:
        raise CommandFailed(f"context {name!r} in {path}: {error}", ExitCode.USAGE) from None
    return {
        key: value if key == "server" else str(path.parent / Path(value).expanduser())
        for key, value in context.items()
    }


def _own_file() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "dcron/client.toml"


def _file() -> Path | None:
    """The file that holds the contexts: one's own, else the machine's."""
    return next((path for path in (_own_file(), SYSTEM_FILE) if path.exists()), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} is not valid TOML: {error}", ExitCode.USAGE) from None
