"""What a node logs of an error that nobody expected: where it happened, and no value of any variable."""

from __future__ import annotations

import subprocess
import sys

import pytest

SECRET = "correct-horse-battery"
PROGRAM = """
import sys
import structlog
from dcron.logs import set_up_logging

set_up_logging(sys.argv[1], "info", "n1")

def fail(password):
    raise RuntimeError("broken")

try:
    fail(sys.argv[2])
except RuntimeError as error:
    structlog.get_logger().error("call failed", exc_info=error)
"""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_shows_no_values(log_format):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, log_format, SECRET], capture_output=True, text=True, check=True
    )
    assert "RuntimeError: broken" in done.stderr
    assert "in fail" in done.stderr
    assert SECRET not in done.stderr
