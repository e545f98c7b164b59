"""`dcron audit`: who changed what, from where, when, and what came of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
from google.protobuf.timestamp_pb2 import Timestamp

from dcron.cli.client import connect
from dcron.cli.durations import parse_duration
from dcron.cli.options import output_option, server_option
from dcron.cli.output import format_time, print_json, print_note, print_table
from dcron.cli.subjects import AUDIT
from dcron.rpc import dcron_pb2 as pb

__all__ = ["audit"]

UNKNOWN = "unknown"


class PastType(click.ParamType[datetime]):
    """An instant, or how long ago it was."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """An aware instant, or a usage error; one without an offset is in UTC."""
        if isinstance(value, datetime):
            return value
        text = str(value)
        try:
            return datetime.now(UTC) - timedelta(seconds=parse_duration(text))
        except (ValueError, OverflowError):
            pass
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is neither a time such as 2026-11-23T13:00 nor one ago, such as 2h or 7d")
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


@click.command()
@click.option(
    "--since", type=PastType(), help="Only what was asked for since then: 2h, 7d or an instant (UTC)."
)
@click.option("--until", type=PastType(), help="Only what was asked for before then.")
@click.option("--job", default="", metavar="NAME", help="Only changes of one job and of its executions.")
@click.option("--who", default="", metavar="NAME", help="Only by one client: the name in its certificate.")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most this many."
)
@output_option
@server_option
def audit(
    since: datetime | None, until: datetime | None, job: str, who: str, limit: int, output: str
) -> None:
    """List what clients asked to change, newest first.

    RESULT is OK, or the status that refused it: what was refused was not changed, but for UNAVAILABLE, after
    which nobody knows. 'unknown' is what is under way, or whose result could not be recorded.

    \b
    Examples:
      dcron audit --since 7d --job backup
      dcron audit --who alice --output json
    """
    request = pb.ListAuditRequest(since=_stamp(since), until=_stamp(until), job=job, who=who, limit=limit)
    with connect() as client:
        found = client.read(lambda public: public.ListAudit, request, AUDIT)
    if output == "json":
        print_json(found)
    else:
        _print_records(found)
    if found.HasField("searched_to"):
        reached = found.searched_to.ToJsonString()
        print_note(f"what is older than {reached} was not searched; for that, give --until {reached}")
    elif not found.records:
        print_note("no changes found")


def _print_records(found: pb.ListAuditResponse) -> None:
    rows = [
        (
            format_time(record.asked_at),
            record.who,
            record.address,
            record.node_id,
            record.method,
            record.subject,
            record.result or UNKNOWN,
            " ".join(f"{name}={value}" for name, value in sorted(record.content.items()) if value),
        )
        for record in found.records
    ]
    print_table(("TIME", "WHO", "FROM", "NODE", "CHANGE", "SUBJECT", "RESULT", "CONTENT"), rows)


def _stamp(instant: datetime | None) -> Timestamp | None:
    if instant is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp
