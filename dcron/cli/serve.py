"""`dcron serve`: one node."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from pathlib import Path

import click

from dcron.cli.failures import CommandFailed, ExitCode
from dcron.config import load_settings
from dcron.domain.errors import SetupError

__all__ = ["serve"]


@click.command()
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TOML file with the node's settings; DCRON_* environment variables win over it.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Serve other machines without TLS: whoever reaches this node can run scripts on it.",
)
@click.pass_context
def serve(context: click.Context, config: Path | None, insecure: bool) -> None:
    """Run one node until SIGTERM or Ctrl-C. Scripts that run then go on, and are adopted at the next start.

    Required are a store, a place for objects and a spool folder, in the file or in the environment.

    \b
    Examples:
      dcron serve --config /etc/dcron/node.toml
      DCRON_STORE=sqlite:////var/lib/dcron/dcron.db DCRON_OBJECTS=file:///var/lib/dcron/objects \\
          DCRON_SPOOL=/var/lib/dcron/spool dcron serve
    """
    environment = {**os.environ, **({"DCRON_INSECURE": "true"} if insecure else {})}
    try:
        settings = load_settings(config, environment)
    except SetupError as error:
        raise CommandFailed(str(error), ExitCode.USAGE) from None
    _load_structlog()
    from dcron.node import serve_main

    try:
        exit_code = asyncio.run(serve_main(settings))
    except SetupError as error:
        raise CommandFailed(str(error)) from None
    context.exit(exit_code)


def _load_structlog() -> None:
    """Load structlog without rich, which it takes where it finds it, for tracebacks that a node does not
    print: 6 MiB."""
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment] # what the import system takes for "is not there"
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]
