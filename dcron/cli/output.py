"""Answers for people (tables, coloured on a terminal) and for programs (protobuf's JSON mapping)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from dcron.cli.failures import one_line

__all__ = ["format_labels", "format_time", "print_details", "print_json", "print_note", "print_table"]

COLUMN_GAP = "  "
NOTHING = "-"
STYLED_COLUMNS = frozenset({"STATE", "LAST"})
STATE_STYLES = {
    "succeeded": "green",
    "running": "cyan",
    "alive": "green",
    "leading": "bold green",
    "failed": "red",
    "timed_out": "red",
    "lost": "red",
    "silent": "red",
    "stopped": "yellow",
    "cancelled": "yellow",
    "not_started": "yellow",
    "skipped": "yellow",
    "paused": "yellow",
    "waiting": "yellow",
    "draining": "yellow",
}
"""Colour of a cell in STYLED_COLUMNS, by its first word."""


def print_json(message: Message) -> None:
    """The standard JSON mapping with every field that has a default; names are camelCase and sorted."""
    # Unsorted, a field's place would depend on whether it has a value.
    print(json_format.MessageToJson(message, always_print_fields_with_no_presence=True, sort_keys=True))


def print_note(text: str) -> None:
    """A remark for people, on stderr, so that stdout holds data only."""
    print(one_line(text), file=sys.stderr)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns. Nothing is ever cut or wrapped, so that ids can be copied."""
    cells = [[one_line(cell) or NOTHING for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich_table(columns, cells)
        return
    lines = [list(columns), *cells]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        print(COLUMN_GAP.join(padded).rstrip())


def print_details(pairs: Sequence[tuple[str, str]]) -> None:
    """One thing, a line for each of its facts; facts without a value are left out."""
    shown = [(label, one_line(value)) for label, value in pairs if value]
    width = max((len(label) for label, _ in shown), default=0)
    for label, value in shown:
        print(f"{label.ljust(width)}{COLUMN_GAP}{value}")


def format_time(instant: Timestamp) -> str:
    """`2026-11-23 13:00:00Z`; empty for a timestamp that is not set."""
    if not instant.seconds and not instant.nanos:
        return ""
    return f"{_datetime(instant):%Y-%m-%d %H:%M:%SZ}"


def format_labels(labels: dict[str, str]) -> str:
    """`key=value,key=value`, by key."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _datetime(instant: Timestamp) -> datetime:
    return instant.ToDatetime(tzinfo=UTC)


def _print_rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in cells:
        table.add_row(
            *(Text(cell, style=_style(column, cell)) for column, cell in zip(columns, row, strict=True))
        )
    console = Console(highlight=False)
    # Wider than the terminal is better than cut: the terminal wraps, and what is copied is whole.
    console.width = max(console.width, _natural_width(columns, cells))
    console.print(table)


def _natural_width(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    from rich.cells import cell_len

    return sum(
        max(cell_len(line[index]) for line in (columns, *cells)) + len(COLUMN_GAP)
        for index in range(len(columns))
    )


def _style(column: str, cell: str) -> str:
    return STATE_STYLES.get(cell.partition(" ")[0], "") if column in STYLED_COLUMNS else ""
