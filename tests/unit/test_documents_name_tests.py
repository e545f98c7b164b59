"""What docs/faults.md names as the proof of a promise is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROMISES = 7


def test_each_promise_names_tests_that_exist():
    text = (ROOT / "docs" / "faults.md").read_text()
    rows = re.findall(r"^\| (\d) \|.*$", text, re.MULTILINE)
    assert rows == [str(number) for number in range(1, PROMISES + 1)]
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert len(named) >= 2 * PROMISES
    missing = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert missing == []
