"""`dcron dev`: a whole cluster in the foreground, to develop jobs against."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

import click

from dcron.cli.failures import CommandFailed, one_line
from dcron.cli.local_cluster import LocalCluster, LocalNode, require_free_ports, stop_signals_interrupt
from dcron.cli.options import DEFAULT_PORT

__all__ = ["dev"]

MAX_NODES = 16
WATCH_SECONDS = 0.5
_NODE_COLOURS = ("cyan", "magenta", "blue", "green", "yellow")
_LEVEL_COLOURS = {"[warning": "yellow", "[error": "red", "[critical": "red"}


@click.command()
@click.option(
    "--nodes", type=click.IntRange(1, MAX_NODES), default=3, show_default=True, help="How many nodes."
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".dcron"),
    show_default=True,
    help="Where jobs, results and logs are kept; they are there again at the next start.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65_535 - MAX_NODES),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port of the first node; the others follow.",
)
def dev(nodes: int, data: Path, port: int) -> None:
    """Run a cluster on this machine, with SQLite and a folder as stores, until Ctrl-C.

    \b
    Examples:
      dcron dev
      dcron dev --nodes 5 --data /tmp/try --port 8420
    """
    ports = range(port, port + nodes)
    require_free_ports(ports)
    stop_signals_interrupt()
    printer = _line_printer()
    with LocalCluster(data.absolute(), ports, os.environ, printer) as cluster:
        try:
            cluster.start()
            _say(_welcome(cluster))
            dead = _watch(cluster)
        except KeyboardInterrupt:
            _say("stopping; the data stay, and scripts that run go on until they end")
            dead = [node for node in cluster.nodes if not node.runs]
    if dead:
        raise CommandFailed(
            f"ended by themselves: {', '.join(node.id for node in dead)}; see their logs above"
        )


def _watch(cluster: LocalCluster) -> Sequence[LocalNode]:
    """Say which nodes end; return when none is left."""
    dead: list[LocalNode] = []
    while len(dead) < len(cluster.nodes):
        for node in cluster.nodes:
            if not node.runs and node not in dead:
                dead.append(node)
                _say(f"{node.id} has ended by itself (exit code {node.exit_code}); the others go on")
        time.sleep(WATCH_SECONDS)
    return dead


def _welcome(cluster: LocalCluster) -> str:
    return (
        f"{len(cluster.nodes)} nodes serve; their data are in {cluster.data}. In another terminal:\n"
        f"  export DCRON_SERVER={cluster.servers}\n"
        "  dcron cluster status\n"
        "  echo 'echo hello from $DCRON_NODE' | "
        "dcron job create hello --schedule '*/5 * * * * *' --interpreter sh -\n"
        "  dcron execution list\n"
        "Ctrl-C stops them."
    )


def _say(text: str) -> None:
    click.secho(text, bold=True)
    sys.stdout.flush()


def _line_printer() -> Callable[[str, str], None]:
    """Prints log lines of several nodes, each whole and with its node in front."""
    lock = Lock()
    # The threads that print have no context to find it in.
    color = click.get_current_context().color

    def print_line(node_id: str, line: str) -> None:
        colour = _NODE_COLOURS[(int(node_id.removeprefix("node")) - 1) % len(_NODE_COLOURS)]
        level_colour = next((value for level, value in _LEVEL_COLOURS.items() if level in line), None)
        with lock:
            prefix = click.style(f"{node_id} | ", fg=colour)
            click.echo(prefix + click.style(one_line(line), fg=level_colour), color=color)

    return print_line
