"""`dcron job run`: one run now."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import click

from dcron.cli.client import connect
from dcron.cli.execution_views import exit_code_of, format_result, state_name
from dcron.cli.following import await_occurrence
from dcron.cli.options import server_option
from dcron.cli.output import print_note
from dcron.cli.subjects import job_named
from dcron.domain.ids import ULID_RANDOMNESS_BYTES, new_ulid
from dcron.rpc import dcron_pb2 as pb

__all__ = ["run"]


@click.command()
@click.argument("name")
@click.option("--wait", is_flag=True, help="Wait for the end, and exit as the script did.")
@server_option
@click.pass_context
def run(context: click.Context, name: str, wait: bool) -> None:
    """Run job NAME once, now, and print the id of the execution.

    A run waits for the one that is under way. With --wait, dcron exits with the script's own exit code,
    128 + n when signal n ended it, 124 when it timed out, 130 when it was cancelled, 1 when it was lost.

    \b
    Examples:
      dcron job run backup --wait && echo done
      dcron execution log --follow "$(dcron job run backup)"
    """
    # Made here, once: however often the request is sent, it is one run.
    request_id = new_ulid(datetime.now(UTC), secrets.token_bytes(ULID_RANDOMNESS_BYTES))
    with connect() as client:
        request = pb.RunJobRequest(name=name, request_id=request_id)
        execution_id = client.read(lambda public: public.RunJob, request, job_named(name)).execution_id
        click.echo(execution_id)
        if not wait:
            return
        try:
            settled = await_occurrence(client, name, execution_id)
        except KeyboardInterrupt:
            print_note(f"it goes on without us; stop it with 'dcron execution cancel {execution_id}'")
            raise
    again = f", attempt {settled.attempt}" if settled.attempt > 1 else ""
    where = f" on {settled.node_id}" if settled.node_id else ""
    result = format_result(settled)
    print_note(f"{state_name(settled.state)}{where}{again}{f': {result}' if result else ''}")
    context.exit(exit_code_of(settled))
