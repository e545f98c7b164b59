"""`dcron job`: what is registered, and when it runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

import click

from dcron.cli.client import connect
from dcron.cli.execution_views import state_name
from dcron.cli.failures import NotFoundFailure
from dcron.cli.job_views import (
    format_time_in,
    job_state_name,
    next_line,
    print_job,
    print_jobs,
    print_revisions,
)
from dcron.cli.options import output_option, server_option
from dcron.cli.output import print_json, print_note
from dcron.cli.paging import MAX_ENTRIES, collect
from dcron.cli.registering import create, pairs, update
from dcron.cli.running import run
from dcron.cli.subjects import JOBS, job_named
from dcron.rpc import dcron_pb2 as pb

__all__ = ["job"]

_STATES = {job_state_name(state): state for state in pb.JobState.values() if state}
_LAST_STATES = {
    state_name(state): state
    for state in pb.ExecutionState.values()
    if state not in {pb.EXECUTION_STATE_UNSPECIFIED, pb.EXECUTION_STATE_RUNNING, pb.EXECUTION_STATE_SKIPPED}
}


@click.group()
def job() -> None:
    """Register jobs, look at them, change them, run them."""


@job.command("list")
@click.option("--prefix", default="", metavar="TEXT", help="Only those whose names begin with this.")
@click.option(
    "--label", multiple=True, metavar="K=V", help="Only those that ask for nodes with this label; repeatable."
)
@click.option(
    "--state", "states", multiple=True, type=click.Choice(list(_STATES)), help="Only in this state."
)
@click.option(
    "--last",
    "last_states",
    multiple=True,
    type=click.Choice(list(_LAST_STATES)),
    help="Only those whose last occurrence ended so; repeatable.",
)
@output_option
@server_option
def list_jobs(
    prefix: str, label: Sequence[str], states: Sequence[str], last_states: Sequence[str], output: str
) -> None:
    """List jobs, by name.

    \b
    Examples:
      dcron job list --prefix backup-
      dcron job list --state paused --last failed --last timed_out
    """
    wanted = pb.ListJobsRequest(
        name_prefix=prefix,
        labels=pairs("--label", label),
        states=[_STATES[state] for state in states],
        last_states=[_LAST_STATES[state] for state in last_states],
    )
    with connect() as client:

        def page(size: int, token: str) -> tuple[Sequence[pb.Job], str]:
            request = pb.ListJobsRequest(page_size=size, page_token=token)
            request.MergeFrom(wanted)
            answer = client.read(lambda public: public.ListJobs, request, JOBS)
            return answer.jobs, answer.next_page_token

        jobs, next_token = collect(page, MAX_ENTRIES)
    if output == "json":
        print_json(pb.ListJobsResponse(jobs=jobs, next_page_token=next_token))
        return
    print_jobs(jobs)
    if not jobs:
        is_filtered = prefix or label or states or last_states
        print_note("no jobs found" if is_filtered else "no jobs yet; register one with 'dcron job create'")


@job.command()
@click.argument("name")
@output_option
@server_option
def show(name: str, output: str) -> None:
    """Show one job: what is wanted of it, and where it is."""
    with connect() as client:
        found = client.read(lambda public: public.GetJob, pb.GetJobRequest(name=name), job_named(name))
    if output == "json":
        print_json(found)
    else:
        print_job(found)


@job.command()
@click.argument("name")
@click.option("--revision", type=click.IntRange(1), help="That of an earlier revision.")
@server_option
def script(name: str, revision: int | None) -> None:
    """Print the script of a job, byte for byte."""
    with connect() as client:
        if revision is None:
            request = pb.GetJobRequest(name=name)
            wanted = client.read(lambda public: public.GetJob, request, job_named(name)).specification
        else:
            asked = pb.GetJobRevisionRequest(job=name, revision=revision)
            kept = client.read(lambda public: public.GetJobRevision, asked, job_named(name))
            if kept.deleted:
                raise NotFoundFailure(
                    f"revision {revision} tells that job {name!r} was removed, and has no script; "
                    f"see 'dcron job revisions {shlex.quote(name)}'"
                )
            wanted = kept.specification
        sys.stdout.buffer.write(client.read_script(wanted.script.sha256))


@job.command()
@click.argument("name")
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
def revisions(name: str, limit: int, output: str) -> None:
    """List the revisions of a job, by name or uid, removed or not, the newest first."""
    with connect() as client:

        def page(size: int, token: str) -> tuple[Sequence[pb.JobRevision], str]:
            request = pb.ListJobRevisionsRequest(job=name, page_size=size, page_token=token)
            answer = client.read(lambda public: public.ListJobRevisions, request, job_named(name))
            return answer.revisions, answer.next_page_token

        found, next_token = collect(page, limit)
    if output == "json":
        print_json(pb.ListJobRevisionsResponse(revisions=found, next_page_token=next_token))
    else:
        print_revisions(found)


@job.command()
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask (nobody is asked without a terminal).")
@server_option
def delete(name: str, yes: bool) -> None:
    """Remove a job. Its executions and their logs stay; one that runs goes on."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete job {name!r}?", abort=True, err=True)
    with connect() as client:
        request = pb.DeleteJobRequest(name=name)
        answer = client.write(lambda public: public.DeleteJob, request, job_named(name))
    print(f"deleted job {name}")
    if answer.running_execution_id:
        print(
            f"its execution {answer.running_execution_id} goes on; "
            f"stop it with 'dcron execution cancel {answer.running_execution_id}'"
        )


@job.command()
@click.argument("name")
@server_option
def pause(name: str) -> None:
    """Start nothing of a job that falls due from now on, until it is resumed."""
    with connect() as client:
        client.write(lambda public: public.PauseJob, pb.PauseJobRequest(name=name), job_named(name))
    print(f"paused job {name}")


@job.command()
@click.argument("name")
@server_option
def resume(name: str) -> None:
    """Go on with the first occurrence after now; what the pause held back is not made up for."""
    with connect() as client:
        request = pb.ResumeJobRequest(name=name)
        found = client.write(lambda public: public.ResumeJob, request, job_named(name))
    print(f"resumed job {name}: {next_line(found)}")


@job.command("next")
@click.argument("name", required=False, default="")
@click.option("--schedule", default="", help="A schedule to try out, instead of a job.")
@click.option("--timezone", default="", help="The timezone of --schedule; UTC when not given.")
@click.option("-n", "--count", type=click.IntRange(1, 100), default=5, show_default=True, help="How many.")
@output_option
@server_option
def next_occurrences(name: str, schedule: str, timezone: str, count: int, output: str) -> None:
    """Show when a job, or a schedule that is not registered, comes next.

    \b
    Examples:
      dcron job next backup -n 3
      dcron job next --schedule '30 2 * * mon-fri' --timezone Europe/Berlin
    """
    if bool(name) == bool(schedule):
        raise click.UsageError("give either the NAME of a job or a --schedule")
    if timezone and not schedule:
        raise click.UsageError("--timezone goes with --schedule; a job has its own")
    request = pb.NextOccurrencesRequest(name=name, schedule=schedule, timezone=timezone, count=count)
    with connect() as client:
        answer = client.read(
            lambda public: public.NextOccurrences, request, job_named(name) if name else JOBS
        )
    if output == "json":
        print_json(answer)
        return
    for instant in answer.occurrences:
        print(format_time_in(instant, answer.timezone))
    if not answer.occurrences:
        print_note(f"no occurrence to come{'; the job may be paused' if name else ''}")


for _command in (create, update, run):
    job.add_command(_command)
