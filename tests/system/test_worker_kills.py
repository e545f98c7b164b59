"""A worker is killed at each step of an execution, and comes back.

Given a job that runs every other second, and a gate that holds the request by which a step is known; when its
node is killed there (SIGKILL) and started again; then the true outcome and the whole log arrive, no attempt
has started twice, a next one came only with cause, and the schedule goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.accounting import Ledger, attempts_at
from tests.system.cluster import NodeProcess, wait_for
from tests.system.gates import Gate, GatedCluster, Request, Step, a_claim, a_log_upload, an_outcome

pytestmark = pytest.mark.timeout(180)

LOG_KEY = re.compile(r"/logs/[0-9-]+/(?P<uid>\w+)/(?P<key>\w+)-(?P<attempt>\w+)-\w+\.log")
LINES = 20_000
LOG = b"".join(b"%d\n" % number for number in range(1, LINES + 1))
EXIT_CODE = 3


def test_offered_but_not_claimed_the_same_attempt_runs_elsewhere(gated, tmp_path):
    ledger = Ledger.open(gated.cluster, tmp_path / "starts", ["job"])
    worker = gated.worker()

    request = kill_at(worker, gated.store[worker.id], a_claim, Step.NOT_PASSED_ON)

    execution_id = request.documents[0]["_id"]
    [execution] = wait_for(
        "it has run", lambda: attempts_of(gated, execution_id, "EXECUTION_STATE_SUCCEEDED")
    )
    assert execution["nodeId"] != worker.id
    worker.start()
    ledger.close(causes=())


def test_claimed_but_not_started_it_never_starts_and_the_next_attempt_runs_elsewhere(gated, tmp_path):
    ledger = Ledger.open(gated.cluster, tmp_path / "starts", ["job"])
    worker = gated.worker()

    request = kill_at(worker, gated.store[worker.id], a_claim, Step.NOT_ANSWERED)
    worker.start()

    execution_id = request.documents[0]["_id"]
    first, second = wait_for(
        "it has run", lambda: attempts_of(gated, execution_id, "EXECUTION_STATE_SUCCEEDED"), 60
    )
    assert (first["id"], first["nodeId"], first["state"]) == (
        execution_id,
        worker.id,
        "EXECUTION_STATE_NOT_STARTED",
    )
    assert second["nodeId"] != worker.id
    ledger.close(causes=["EXECUTION_STATE_NOT_STARTED"])


def test_started_the_script_goes_on_and_is_adopted(gated, tmp_path):
    gate = tmp_path / "gate"
    worker = gated.worker()
    ledger = open_ledger(gated, tmp_path, worker, before=f"until [ -e {gate} ]; do sleep 0.1; done")
    [execution_id] = wait_for("the script says that it has started", ledger.starts)

    worker.kill()
    worker.start()
    gate.touch()

    assert_arrives(gated, execution_id)
    ledger.close(causes=())


def test_exited_with_nothing_delivered_all_of_it_arrives(gated, tmp_path):
    worker = gated.worker()
    ledger = open_ledger(gated, tmp_path, worker)

    request = kill_at(worker, gated.objects[worker.id], a_log_upload, Step.NOT_PASSED_ON)
    worker.start()

    assert_arrives(gated, execution_of_log(request))
    ledger.close(causes=())


def test_uploading_half_a_log_the_whole_of_it_arrives(gated, tmp_path):
    worker = gated.worker()
    ledger = open_ledger(gated, tmp_path, worker)

    request = kill_at(worker, gated.objects[worker.id], a_log_upload, Step.HALF_PASSED_ON)
    worker.start()

    assert_arrives(gated, execution_of_log(request))
    ledger.close(causes=())


def test_recorded_without_knowing_it_nothing_is_recorded_twice(gated, tmp_path):
    worker = gated.worker()
    ledger = open_ledger(gated, tmp_path, worker)

    request = kill_at(worker, gated.store[worker.id], an_outcome, Step.NOT_ANSWERED)
    execution_id = request.documents[0]["_id"].rpartition(":")[0]
    [recorded] = attempts_of(gated, execution_id, "EXECUTION_STATE_FAILED")
    worker.start()

    ledger.close(causes=())
    assert_arrives(gated, execution_id)
    assert attempts_of(gated, execution_id, "EXECUTION_STATE_FAILED") == [recorded]


def open_ledger(gated: GatedCluster, folder: Path, worker: NodeProcess, before: str = "true") -> Ledger:
    """A job that only this worker can run, with a log that is known and an exit code that is not 0."""
    options = ("--label", f"host={worker.id}")
    then = f"{before}; seq {LINES}; exit {EXIT_CODE}"
    return Ledger.open(
        gated.cluster, folder / "starts", ["job"], *options, then=then, end="EXECUTION_STATE_FAILED"
    )


def kill_at(worker: NodeProcess, gate: Gate, matches: Callable[[Request], bool], step: Step) -> Request:
    """Kill a node when it has got so far with a request; nothing more of that comes through."""
    hold = gate.hold(matches, step)
    request = hold.wait()
    worker.kill()
    hold.drop()
    return request


def execution_of_log(request: Request) -> str:
    """Whose log an upload is."""
    found = LOG_KEY.search(request.path)
    assert found, request.path
    return "{uid}:{key}:{attempt}".format(**found.groupdict())


def attempts_of(gated: GatedCluster, execution_id: str, end: str) -> list[Any]:
    """All attempts at the occurrence of an execution, once the last one has ended like that."""
    attempts = attempts_at(gated.cluster.records("job"), execution_id)
    return attempts if attempts and attempts[-1]["state"] == end else []


def assert_arrives(gated: GatedCluster, execution_id: str) -> None:
    """The true outcome of a first attempt is recorded, and its whole log is in the object store."""
    [ended] = wait_for("its outcome", lambda: attempts_of(gated, execution_id, "EXECUTION_STATE_FAILED"))
    assert (ended["id"], ended["exitCode"]) == (execution_id, EXIT_CODE)
    wait_for("empty spools", lambda: not any(node["spooled"] for node in gated.cluster.status()["nodes"]))
    log = gated.cluster.cli("execution", "log", execution_id)
    assert (log.stdout, log.returncode) == (LOG, EXIT_CODE)
