"""`dcron job create` and `dcron job update`: what is wanted of a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import click
from google.protobuf.field_mask_pb2 import FieldMask

from dcron.cli.client import connect
from dcron.cli.durations import DURATION, span
from dcron.cli.job_views import next_line
from dcron.cli.options import server_option
from dcron.cli.subjects import job_named
from dcron.cli.upload import open_script, upload_script
from dcron.rpc import dcron_pb2 as pb

__all__ = ["create", "pairs", "update"]

_FIELD_OF_OPTION = {"retries": "failure_retries"}
"""Options with one value whose field of Specification has another name."""
_OF_SEVERAL_OR_FILE = frozenset({"script", "arguments", "environment", "labels"})
"""Fields of Specification that no option with one value sets."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


_SPECIFICATION_OPTIONS = (
    click.option("--timezone", metavar="ZONE", help="Timezone of the schedule, such as Europe/Berlin."),
    click.option(
        "--interpreter",
        metavar="PROGRAM",
        help="Runs the script: bash, python3, /opt/bin/tool …; '' for the script's own #! line.",
    ),
    click.option(
        "--timeout",
        type=DURATION,
        help="Stop an attempt after this time (30s, 5m, 1h30m) and try on another node. "
        "0: no limit, and no retry.",
    ),
    click.option("--grace", type=DURATION, help="From TERM to KILL when an attempt is stopped."),
    click.option(
        "--max-attempts",
        type=click.IntRange(1),
        help="Attempts at one occurrence when they time out or are lost.",
    ),
    click.option("--retries", type=click.IntRange(0), help="Further attempts when the script itself fails."),
    click.option("--arg", "argument", multiple=True, help="An argument for the script; repeatable."),
    click.option(
        "--env", "variable", metavar="K=V", multiple=True, help="A variable for the script; repeatable."
    ),
    click.option("--label", metavar="K=V", multiple=True, help="A label that a node must have; repeatable."),
)


def _specification_options(command: _Command) -> _Command:
    """The options that create and update share; one that is not given is None, or an empty list."""
    for option in reversed(_SPECIFICATION_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("name")
@click.argument("script", metavar="SCRIPT")
@click.option(
    "--schedule",
    required=True,
    metavar="CRON",
    help="Minute hour day month weekday; or six fields with seconds first; or @hourly, @daily …",
)
@_specification_options
@click.option("--paused", is_flag=True, help="Register it, but run nothing until it is resumed.")
@server_option
def create(name: str, script: str, paused: bool, **given: Any) -> None:
    """Upload SCRIPT ('-' for stdin) and register it as job NAME.

    Without further options there is no timeout, the timezone is UTC, a script is stopped with a grace
    of 10s, an occurrence takes up to 3 attempts, and a script that fails by itself is not retried.

    \b
    Examples:
      dcron job create backup --schedule '30 2 * * *' --timezone Europe/Berlin \\
          --interpreter bash --timeout 1h backup.sh
      dcron job create report --schedule '@hourly' --interpreter python3 \\
          --arg --all --env REGION=eu --label disk=ssd report.py
      echo 'uptime' | dcron job create load --schedule '*/10 * * * * *' --interpreter sh -
    """
    wanted = pb.Specification()
    _take(wanted, given)
    with open_script(script) as file, connect() as client:
        if not wanted.interpreter and not file.has_interpreter_line:
            raise click.UsageError(
                "nothing says how to run the script: give --interpreter, or begin it with a #! line"
            )
        upload_script(client, file)
        wanted.script.CopyFrom(file.description)
        request = pb.CreateJobRequest(name=name, specification=wanted, paused=paused)
        job = client.write(lambda public: public.CreateJob, request, job_named(name))
    print(f"created job {job.name}: {next_line(job)}")


@click.command()
@click.argument("name")
@click.option("--schedule", metavar="CRON", help="A new schedule; only what comes after now counts.")
@click.option("--script", metavar="FILE", help="A new script; '-' reads stdin.")
@_specification_options
@click.option("--clear-args", is_flag=True, help="Take all arguments away.")
@click.option("--clear-env", is_flag=True, help="Take all variables away.")
@click.option("--clear-labels", is_flag=True, help="Take all labels away.")
@click.option(
    "--if-revision",
    type=click.IntRange(1),
    default=None,
    help="Change it only if it is still at this revision.",
)
@server_option
def update(name: str, script: str | None, if_revision: int | None, **given: Any) -> None:
    """Change what is wanted of job NAME; what no option names stays as it is.

    --arg, --env and --label replace all that were there, so give the ones to keep again.
    What runs goes on under the old revision.

    \b
    Examples:
      dcron job update backup --schedule '0 3 * * *'
      dcron job update backup --script backup.sh --if-revision 4
      dcron job update backup --clear-env
    """
    wanted = pb.Specification()
    fields = _take(wanted, given)
    if not fields and script is None:
        raise click.UsageError("nothing to change; name at least one option")
    with ExitStack() as stack:
        client = stack.enter_context(connect())
        if script is not None:
            file = stack.enter_context(open_script(script))
            upload_script(client, file)
            wanted.script.CopyFrom(file.description)
            fields.append("script")
        request = pb.UpdateJobRequest(
            name=name,
            specification=wanted,
            update_mask=FieldMask(paths=fields),
            if_revision=if_revision or 0,
        )
        job = client.write(lambda public: public.UpdateJob, request, job_named(name))
    print(f"updated job {job.name} to revision {job.revision}: {next_line(job)}")


def _take(wanted: pb.Specification, given: Mapping[str, Any]) -> list[str]:
    """Put the options that were given into `wanted`; the names of the fields that they set."""
    fields = []
    known = wanted.DESCRIPTOR.fields_by_name
    for option, value in given.items():
        field = _FIELD_OF_OPTION.get(option, option)
        if value is None or field not in known or field in _OF_SEVERAL_OR_FILE:
            continue
        if known[field].message_type is None:
            setattr(wanted, field, value)
        else:
            getattr(wanted, field).CopyFrom(span(value))
        fields.append(field)
    if _is_set("--arg", given["argument"], "--clear-args", given.get("clear_args")):
        wanted.arguments.extend(given["argument"])
        fields.append("arguments")
    if _is_set("--env", given["variable"], "--clear-env", given.get("clear_env")):
        wanted.environment.update(pairs("--env", given["variable"]))
        fields.append("environment")
    if _is_set("--label", given["label"], "--clear-labels", given.get("clear_labels")):
        wanted.labels.update(pairs("--label", given["label"]))
        fields.append("labels")
    return fields


def _is_set(option: str, values: Sequence[str], clear_option: str, clear: bool | None) -> bool:
    """Whether a repeatable option says something: values, or that there are to be none."""
    if values and clear:
        raise click.UsageError(f"{option} and {clear_option} contradict each other")
    return bool(values or clear)


def pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE texts of a repeatable option; a usage error where one is not such."""
    found: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint=option)
        if key in found:
            raise click.BadParameter(f"{key!r} is given twice", param_hint=option)
        found[key] = value
    return found
