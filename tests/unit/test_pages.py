"""The documents are true where that can be checked by reading them, and readable in any editor."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMISES = 7
LINE_CHARACTERS = 120
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))


def test_each_promise_names_tests_that_exist():
    text = (ROOT / "docs" / "faults.md").read_text()
    rows = re.findall(r"^\| (\d) \|.*$", text, re.MULTILINE)
    assert rows == [str(number) for number in range(1, PROMISES + 1)]
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert len(named) >= 2 * PROMISES
    missing = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert missing == []


def pages() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [ROOT / name for name in names]


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without tables and what stands in code fences: neither can be broken."""
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.lstrip().startswith("|"):
            yield number, line


def test_no_line_of_prose_is_too_long_for_an_editor():
    long = [
        f"{page.relative_to(ROOT)}:{number}"
        for page in pages()
        for number, line in prose(page)
        if len(line) > LINE_CHARACTERS
    ]
    assert long == []


def test_links_between_pages_lead_to_files():
    broken = [
        f"{page.relative_to(ROOT)}:{number}: {target}"
        for page in pages()
        for number, line in enumerate(page.read_text().splitlines(), 1)
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", line)
        if not (page.parent / target).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_the_form_of_all_and_a_row_in_the_index(page: Path) -> None:
    text = page.read_text()
    title = re.match(r"# (\d+)\. (.+)\n\nStatus: (?:accepted|replaced) · \d{4}-\d\d-\d\d\\?\n", text)
    assert title
    assert int(title[1]) == int(page.name[:4])
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections[:2] == ["Context", "Decision"]
    assert {"Consequences", "Considered"} >= set(sections[2:]) != set()
    index = (page.parent / "README.md").read_text()
    [row] = re.findall(rf"^\| {title[1]} \| \[{re.escape(title[2])}\]\({page.name}\).*$", index, re.MULTILINE)
    amending = [
        each
        for each in DECISIONS
        if re.search(rf"^Amends: .*\({page.name}\)", each.read_text(), re.MULTILINE)
    ]
    assert re.findall(r"\((\S+?)\)", row)[1:] == [each.name for each in amending]
