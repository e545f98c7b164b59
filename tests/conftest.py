"""What holds for all tests."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TypeVar

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling, Scheduling

from tests.couchdb_server import CouchServer, CouchUnavailable

Report = TypeVar("Report", bound=pytest.CollectReport | pytest.TestReport)

SERVERS_VARIABLE = "DCRON_TEST_REQUIRE_SERVERS"
SERVERS_REQUIRED = os.environ.get(SERVERS_VARIABLE) == "1"

COUCHDB_VARIABLE = "DCRON_TEST_COUCHDB_URL"

# How fast the machine was just then is nothing that a property test is to find out.
settings.register_profile("dcron", settings(), deadline=None)
settings.load_profile("dcron")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only a real CouchDB can do, where none is named: the stand-in cannot be bent to it."""
    if os.environ.get(COUCHDB_VARIABLE):
        return
    left_out = [item for item in items if item.get_closest_marker("real_couchdb")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


SPREAD_FILE = "tests/simulation/test_simulation.py::"


class _FilesAndSeeds(LoadFileScheduling):
    """The tests of a file in one process, but for the simulation: a minute in many pieces."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(SPREAD_FILE) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """How a parallel run shares out its tests."""
    return _FilesAndSeeds(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def couch_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A CouchDB for all tests: the one that DCRON_TEST_COUCHDB_URL names, or the stand-in."""
    given = os.environ.get(COUCHDB_VARIABLE)
    if given:
        yield given
        return
    try:
        with CouchServer(tmp_path_factory.mktemp("couchdb")) as server:
            yield server.url
    except CouchUnavailable as reason:
        pytest.skip(str(reason))


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
