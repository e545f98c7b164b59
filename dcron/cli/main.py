"""The command `dcron`: finds the subcommand, and turns every failure into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from dcron import __version__
from dcron.cli.failures import CommandFailed, ExitCode, one_line
from dcron.cli.options import root_server_option
from dcron.cli.targets import target_options

__all__ = ["cli", "main"]

PROGRAM = "dcron"


@dataclass(frozen=True, slots=True)
class _Subcommand:
    """Module of a subcommand and its line in `dcron --help`, which need not import it."""

    location: str
    summary: str
    hidden: bool = False


_SUBCOMMANDS = {
    "job": _Subcommand("dcron.cli.jobs:job", "Register jobs, look at them, change them, run them."),
    "execution": _Subcommand("dcron.cli.executions:execution", "See what ran, its result and its log."),
    "node": _Subcommand("dcron.cli.nodes:node", "See the nodes, and take them out of service."),
    "cluster": _Subcommand("dcron.cli.cluster:cluster", "See how the cluster is, and hold it."),
    "audit": _Subcommand("dcron.cli.audit:audit", "See who changed what."),
    "serve": _Subcommand("dcron.cli.serve:serve", "Run one node."),
    "doctor": _Subcommand("dcron.cli.doctor:doctor", "Check a node's set-up, on its own machine."),
    "dev": _Subcommand("dcron.cli.dev:dev", "Run a whole cluster on this machine until Ctrl-C."),
    "demo": _Subcommand("dcron.cli.demo:demo", "Show the main job on a temporary cluster.", hidden=True),
    "completion": _Subcommand("dcron.cli.completion:completion", "Print a shell's completion script."),
}


class _ReaderGone(Exception):
    """The reader of our output has seen enough (`| head`). No OSError, for which click would exit with 1."""


class _LazyGroup(click.Group):
    """Imports a subcommand only when it is used: gRPC alone takes longer than all of `dcron --help`."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise _ReaderGone from None
        return result

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, subcommand in _SUBCOMMANDS.items() if not subcommand.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        subcommand = _SUBCOMMANDS.get(cmd_name)
        if subcommand is None:
            return None
        module, _, attribute = subcommand.location.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not near:
                raise
            # As click says it of groups whose commands it knows.
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {near[0]!r}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _SUBCOMMANDS[name].summary) for name in self.list_commands(ctx)])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@root_server_option
@target_options
@click.version_option(__version__)
def cli() -> None:
    """Cron for a fleet of servers: each occurrence of a job runs once, on whichever node is free.

    Try it on this machine: 'dcron dev' in one terminal, 'dcron cluster status' in another.

    \b
    Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 not found, 4 no node reachable.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (sys.argv by default); the exit code for the shell."""
    # Must precede the import of gRPC, whose own lines on stderr would stand beside ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        # None: colour on a terminal only.
        color = False if os.environ.get("NO_COLOR") else None
        result = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False, color=color)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return ExitCode.USAGE
    except click.UsageError as error:
        return _show_usage_error(error)
    except click.Abort:
        return ExitCode.INTERRUPTED
    except CommandFailed as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        CommandFailed(error.format_message()).show()
        return ExitCode.FAILED
    except _ReaderGone:
        # Python would complain at exit, when it flushes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    return result if isinstance(result, int) else ExitCode.OK


def _show_usage_error(error: click.UsageError) -> int:
    command = error.ctx.command_path if error.ctx else PROGRAM
    message = one_line(error.format_message()).rstrip(".")
    see = " See" if message.endswith("?") else "; see"
    CommandFailed(f"{message}{see} '{command} --help'", ExitCode.USAGE).show()
    return ExitCode.USAGE
