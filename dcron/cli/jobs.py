"""`dcron job`: what is registered, and when it runs."""

from __future__ import annotations

import sys

import click

from dcron.cli.client import Client, connect
from dcron.cli.job_views import format_time_in, next_line, print_job, print_jobs
from dcron.cli.options import output_option, server_option
from dcron.cli.output import print_json, print_note
from dcron.cli.registering import create, update
from dcron.cli.running import run
from dcron.cli.subjects import JOBS, job_named
from dcron.rpc import dcron_pb2 as pb

__all__ = ["job"]

MAX_JOBS = 1_000_000
"""Jobs that a listing shows at most; a node that repeats its pages cannot keep us for ever."""


@click.group()
def job() -> None:
    """Register jobs, look at them, change them, run them."""


@job.command("list")
@output_option
@server_option
def list_jobs(output: str) -> None:
    """List all jobs, by name."""
    with connect() as client:
        listing = _all_jobs(client)
    if output == "json":
        print_json(listing)
        return
    print_jobs(listing.jobs)
    if not listing.jobs:
        print_note("no jobs yet; register one with 'dcron job create'")


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


def _all_jobs(client: Client) -> pb.ListJobsResponse:
    """All pages in one message."""
    listing = pb.ListJobsResponse()
    token = ""
    while len(listing.jobs) < MAX_JOBS:
        page = client.read(lambda public: public.ListJobs, pb.ListJobsRequest(page_token=token), JOBS)
        listing.jobs.extend(page.jobs)
        token = page.next_page_token
        if not token or not page.jobs:
            return listing
    listing.next_page_token = token
    return listing


for _command in (create, update, run):
    job.add_command(_command)
