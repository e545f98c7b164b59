"""`dcron audit`: who changed what, from where, when, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click

from dcron.cli.client import connect
from dcron.cli.instants import PastType, stamp
from dcron.cli.options import output_option, server_option
from dcron.cli.output import format_time, print_json, print_note, print_table
from dcron.cli.paging import MAX_ENTRIES, collect
from dcron.cli.subjects import AUDIT
from dcron.rpc import dcron_pb2 as pb

__all__ = ["audit"]

UNKNOWN = "unknown"


@click.command()
@click.option(
    "--since", type=PastType(), help="Only what was asked for since then: 2h, 7d or an instant (UTC)."
)
@click.option("--until", type=PastType(), help="Only what was asked for before then.")
@click.option("--job", default="", metavar="NAME", help="Only changes of one job and of its executions.")
@click.option("--who", default="", metavar="NAME", help="Only by one client: the name in its certificate.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, MAX_ENTRIES),
    default=50,
    show_default=True,
    help="At most this many.",
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
    with connect() as client:

        def page(size: int, token: str) -> tuple[Sequence[pb.AuditRecord], str]:
            request = pb.ListAuditRequest(
                since=stamp(since), until=stamp(until), job=job, who=who, page_size=size, page_token=token
            )
            answer = client.read(lambda public: public.ListAudit, request, AUDIT)
            return answer.records, answer.next_page_token

        records, next_token = collect(page, limit)
    if output == "json":
        print_json(pb.ListAuditResponse(records=records, next_page_token=next_token))
        return
    _print_records(records)
    if not records:
        print_note("no changes found")


def _print_records(records: Sequence[pb.AuditRecord]) -> None:
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
        for record in records
    ]
    print_table(("TIME", "WHO", "FROM", "NODE", "CHANGE", "SUBJECT", "RESULT", "CONTENT"), rows)
