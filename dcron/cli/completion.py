"""`dcron completion`: what a shell needs to complete dcron's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dcron.cli.failures import CommandFailed

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Examples:
      eval "$(dcron completion bash)"          # in ~/.bashrc
      dcron completion fish > ~/.config/fish/completions/dcron.fish
    """
    complete = get_completion_class(shell)
    if complete is None:
        raise CommandFailed(f"this version of click has no completion for {shell}")
    root = context.find_root()
    click.echo(complete(root.command, {}, "dcron", "_DCRON_COMPLETE").source())
