"""What ARCHITECTURE.md says of bounds is what the constants are."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

PAGE = Path(__file__).parents[2] / "ARCHITECTURE.md"


def test_the_table_of_bounds_says_what_the_constants_are() -> None:
    bounds = PAGE.read_text().partition("## Bounds\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!bound )([^|]+) \| ([\d.,]+) \| `([\w.]+)\.(\w+)` \|$", bounds, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| (?!bound )", bounds, re.MULTILINE)) > 10
    wrong = [
        f"{what}: {said}, but {name} is {held}"
        for what, said, module, name in rows
        if float(said.replace(",", "")) != (held := getattr(import_module(module), name))
    ]
    assert wrong == []
