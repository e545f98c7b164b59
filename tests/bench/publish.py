"""usage: python -m tests.bench.publish RESULTS.json ...

Puts the figures and plots of one or more runs into docs/performance.md."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.figures import Curve, Figure, Results
from tests.bench.plots import draw
from tests.bench.records import load
from tests.bench.table import COLUMNS, cells, grouped

__all__ = ["publish"]

PAGE = Path("docs/performance.md")
PLOTS = Path("docs/performance")
BEGIN = "<!-- figures: written by python -m tests.bench.publish -->"
END = "<!-- end of figures -->"
LINE_CHARACTERS = 112


def publish(paths: Sequence[Path]) -> None:
    """Replace what stands between the marks of the page, and the plots that it shows."""
    page = PAGE.read_text()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"{PAGE} has no place for figures"
    results = [load(path) for path in paths]
    figures = [figure for each in results for figure in each.figures]
    notes = dict.fromkeys(note for each in results for note in each.notes)
    plots = _plots(results)
    text = "\n".join((*map(_machine, paths), "", *_table(figures), "", *_listed(notes), *plots))
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def _machine(path: Path) -> str:
    record = json.loads(path.read_text())
    machine = record["machine"]
    scenarios = ", ".join(dict.fromkeys(figure["scenario"] for figure in record["figures"]))
    return _item(
        f"{scenarios}: {record['measured_at'][:16].replace('T', ' ')} UTC, {machine['cores']} cores,"
        f" {machine['memory_gib']} GiB, Python {machine['python']}, BENCH={record['mode']},"
        f" load average {machine['load_average_before']} before{_disk(machine)}"
    )


def _item(text: str) -> str:
    return textwrap.fill(
        text, LINE_CHARACTERS, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False
    )


def _disk(machine: Mapping[str, Any]) -> str:
    """Nothing for results of before that was looked at."""
    if "disk" not in machine:
        return ""
    return f", {machine['disk']} where a file takes {machine['file_milliseconds']:.2f} ms of processor time"


def _table(figures: Sequence[Figure]) -> Iterator[str]:
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * 2}{'---:|' * 3}{'---|' * 3}"
    for figure in grouped(figures):
        yield f"| {' | '.join(cells(figure))} |"


def _listed(notes: Iterable[str]) -> Iterator[str]:
    for note in notes:
        yield _item(note)
        yield ""


def _plots(results: Sequence[Results]) -> Iterator[str]:
    """Each plot shows one run, the last that has it: lines of several runs are not to be compared."""
    by_name: dict[str, list[Curve]] = {}
    for each in results:
        for plot in dict.fromkeys(curve.plot for curve in each.curves):
            by_name[plot] = [curve for curve in each.curves if curve.plot == plot]
    PLOTS.mkdir(exist_ok=True)
    for plot, curves in by_name.items():
        path = PLOTS / f"{plot}.svg"
        path.write_text(draw(curves))
        yield f"![{plot.replace('-', ' ')}]({PLOTS.name}/{path.name})"
        yield ""


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    publish([Path(name) for name in sys.argv[1:]])
