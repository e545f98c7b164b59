"""What holds for all tests."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest
from hypothesis import settings

Report = TypeVar("Report", bound=pytest.CollectReport | pytest.TestReport)

SERVERS_VARIABLE = "DCRON_TEST_REQUIRE_SERVERS"
SERVERS_REQUIRED = os.environ.get(SERVERS_VARIABLE) == "1"

# How fast the machine was just then is nothing that a property test is to find out.
settings.register_profile("dcron", settings(), deadline=None)
settings.load_profile("dcron")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return fail_if_skipped((yield))


def fail_if_skipped(report: Report) -> Report:
    """Where all servers have to be there, a test that would be skipped has not passed: it fails."""
    expected_failure = hasattr(report, "wasxfail")
    if SERVERS_REQUIRED and report.skipped and not expected_failure:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        report.outcome = "failed"
        report.longrepr = f"{SERVERS_VARIABLE}=1 allows no skipped test. {reason}"
    return report
