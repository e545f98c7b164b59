"""The table on the terminal and in the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Bound, Figure, Measured, Results

__all__ = ["COLUMNS", "cells", "grouped", "show"]

COLUMNS = ("figure", "stores", "min", "median", "max", "yardstick (median)", "target", "met")


def show(results: Results) -> None:
    """Print all figures and notes."""
    table = Table(*COLUMNS[:2], title=None)
    for name in COLUMNS[2:5]:
        table.add_column(name, justify="right", no_wrap=True)
    for name in COLUMNS[5:]:
        table.add_column(name)
    before = ""
    for figure in grouped(results.figures):
        if before not in ("", figure.scenario):
            table.add_section()
        before = figure.scenario
        table.add_row(*cells(figure))
    console = Console()
    # A pipe has no width of its own.
    (console if console.is_terminal else Console(width=180)).print(table)
    for note in results.notes:
        console.print(f"note: {note}", markup=False)


def grouped(figures: Sequence[Figure]) -> list[Figure]:
    """By scenario, in the order in which these first come."""
    order = list(dict.fromkeys(figure.scenario for figure in figures))
    return sorted(figures, key=lambda figure: order.index(figure.scenario))


def cells(figure: Figure) -> Iterator[str]:
    """One line of the table, as COLUMNS has it."""
    measured = figure.measured
    yield f"{figure.scenario}: {measured.name}"
    yield figure.store
    for value in (measured.minimum, measured.median, measured.maximum):
        yield _amount(value, measured.unit)
    yield "; ".join(f"{each.name} {_amount(each.median, each.unit)}" for each in figure.yardsticks)
    yield "; ".join(_target(bound, measured) for bound in figure.targets)
    yield "; ".join("yes" if bound.holds(measured) else "no" for bound in figure.targets)


def _target(bound: Bound, measured: Measured) -> str:
    amount = f"{'≤' if bound.at_most else '≥'} {_amount(bound.limit, measured.unit)}"
    return f"{amount} ({bound.words})" if bound.words else amount


def _amount(value: float, unit: str) -> str:
    size = abs(value)
    digits = 0 if size >= 100 or not unit else 1 if size >= 10 else 2 if size >= 0.1 else 3
    space = " " if unit and not unit.startswith("/") else ""
    return f"{value:,.{digits}f}{space}{unit}"
