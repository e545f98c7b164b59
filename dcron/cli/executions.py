"""`dcron execution`: what ran, how it ended, and what it printed."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Sequence
from datetime import datetime

import click

from dcron.cli.client import connect
from dcron.cli.execution_views import (
    exit_code_of,
    is_settled,
    print_execution,
    print_executions,
    state_name,
    verdict_name,
)
from dcron.cli.following import await_outcome, await_settled, await_start
from dcron.cli.instants import PastType, stamp
from dcron.cli.options import output_option, server_option
from dcron.cli.output import print_json, print_note
from dcron.cli.paging import MAX_ENTRIES, collect
from dcron.cli.subjects import execution_named, job_named
from dcron.rpc import dcron_pb2 as pb

__all__ = ["execution"]

_STATES = {state_name(state): state for state in pb.ExecutionState.values() if state}
_VERDICTS = {verdict_name(verdict): verdict for verdict in pb.Verdict.values() if verdict}


@click.group()
def execution() -> None:
    """See what ran, its result and its log."""


@execution.command("list")
@click.option(
    "--job", default="", metavar="NAME", help="Only those of one job, by name or uid, removed or not."
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(list(_STATES)),
    help="Only in this state; repeatable. Of all jobs, those running leave out what removed jobs still run.",
)
@click.option("--node", default="", metavar="NODE", help="Only those that one node claimed.")
@click.option("--since", type=PastType(), help="Only those scheduled since then: 2h, 7d or an instant (UTC).")
@click.option("--until", type=PastType(), help="Only those scheduled before then.")
@click.option("--manual/--scheduled", default=None, help="Only manual runs, or only those of a schedule.")
@click.option("--oldest-first", is_flag=True, help="The oldest first.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, MAX_ENTRIES),
    default=20,
    show_default=True,
    help="At most this many.",
)
@output_option
@server_option
def list_executions(
    job: str,
    states: Sequence[str],
    node: str,
    since: datetime | None,
    until: datetime | None,
    manual: bool | None,
    oldest_first: bool,
    limit: int,
    output: str,
) -> None:
    """List executions, newest first; of one job with what was skipped.

    \b
    Examples:
      dcron execution list --job backup --since 7d
      dcron execution list --state failed --state timed_out --node node2
      dcron execution list --state skipped --until 2025-12-31
    """
    wanted = pb.ListExecutionsRequest(
        job=job,
        states=[_STATES[state] for state in states],
        node_id=node,
        scheduled_from=stamp(since),
        scheduled_until=stamp(until),
        manual=manual,
        oldest_first=oldest_first,
    )
    with connect() as client:

        def page(size: int, token: str) -> tuple[Sequence[pb.Execution], str]:
            request = pb.ListExecutionsRequest(page_size=size, page_token=token)
            request.MergeFrom(wanted)
            answer = client.read(lambda public: public.ListExecutions, request, job_named(job))
            return answer.executions, answer.next_page_token

        executions, next_token = collect(page, limit)
    if output == "json":
        print_json(pb.ListExecutionsResponse(executions=executions, next_page_token=next_token))
        return
    print_executions(executions)
    if not executions:
        print_note("no executions found")


@execution.command()
@click.argument("execution_id", metavar="ID")
@output_option
@server_option
def show(execution_id: str, output: str) -> None:
    """Show one execution: its times, its result, what it used."""
    with connect() as client:
        request = pb.GetExecutionRequest(id=execution_id)
        found = client.read(lambda public: public.GetExecution, request, execution_named(execution_id))
    if output == "json":
        print_json(found)
    else:
        print_execution(found)


@execution.command()
@click.argument("execution_id", metavar="ID")
@click.option("--follow", "-f", is_flag=True, help="Go on while the script runs.")
@server_option
@click.pass_context
def log(context: click.Context, execution_id: str, follow: bool) -> None:
    """Print the log of an execution, byte for byte, and exit as the script did.

    While it runs, without --follow, what there is so far is printed and the exit code is 0. Otherwise it
    is the script's own, 128 + n when signal n ended it, 124 when it timed out, 130 when it was cancelled,
    1 when it was lost.
    """
    with connect() as client:
        if follow:
            await_start(client, execution_id)
        for data in client.read_log(execution_id, follow=follow):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        if follow:
            found = await_outcome(client, execution_id)
        else:
            request = pb.GetExecutionRequest(id=execution_id)
            found = client.read(lambda public: public.GetExecution, request, execution_named(execution_id))
    context.exit(exit_code_of(found) if is_settled(found) else 0)


@execution.command()
@click.argument("execution_id", metavar="ID")
@output_option
@server_option
@click.pass_context
def wait(context: click.Context, execution_id: str, output: str) -> None:
    """Wait until an execution is settled, show it, and exit as the script did.

    One that its job still lists as waiting is waited for, too. Its end is that of this attempt:
    'dcron job run --wait' waits for further attempts. Exit codes are those of 'dcron execution log'.
    """
    with connect() as client:
        found = await_settled(client, execution_id)
    if output == "json":
        print_json(found)
    else:
        print_execution(found)
    context.exit(exit_code_of(found))


@execution.command()
@click.argument("execution_id", metavar="ID")
@server_option
def cancel(execution_id: str) -> None:
    """Stop a running execution and all it left behind: TERM, then KILL after the job's grace."""
    with connect() as client:
        request = pb.CancelExecutionRequest(id=execution_id)
        answer = client.write(lambda public: public.CancelExecution, request, execution_named(execution_id))
    print(f"asked {answer.node_id} to stop {execution_id}")


@execution.command()
@click.argument("execution_id", metavar="ID")
@click.option(
    "--as", "verdict", required=True, type=click.Choice(list(_VERDICTS)), help="How it ended, or what to do."
)
@click.option("--reason", default="", help="Why; kept with the execution.")
@server_option
def resolve(execution_id: str, verdict: str, reason: str) -> None:
    """Say how an execution ended that dcron cannot know the end of, so that its job goes on.

    For one whose node is gone and that has no timeout, or whose outcome the store rejects; 'dcron cluster
    status' names them. Where the machine can be started again, that is better: it tells the true end.

    \b
    succeeded  its work is done
    failed     it is not, and is not tried again: the job waits for its next occurrence
    retry      another attempt starts now: make sure that the script does not run any more

    What you say is kept with the execution and cannot be taken back. A true outcome that comes later is
    kept and shown beside it.

    \b
    Example:
      dcron execution resolve ID --as failed --reason 'node2 was scrapped'
    """
    request = pb.ResolveExecutionRequest(
        id=execution_id, verdict=_VERDICTS[verdict], by=_whoami(), reason=reason
    )
    with connect() as client:
        found = client.write(lambda public: public.ResolveExecution, request, execution_named(execution_id))
    follows = "another attempt follows" if verdict == "retry" else f"job {found.job} goes on"
    print(f"resolved {execution_id} as {verdict}: {follows}")


def _whoami() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # In a container there may be no name for this uid.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
