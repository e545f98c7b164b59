"""A worker sleeps between the claim of an attempt and its start, for longer than it may."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from dcron.domain.planning import AHEAD_SECONDS
from dcron.services.worker.executor import CLAIM_TO_START_SECONDS
from tests.system.accounting import Ledger, attempts_at
from tests.system.cluster import NodeProcess, wait_for
from tests.system.gates import GatedCluster, Step, a_claim

pytestmark = pytest.mark.timeout(180)

TOO_LONG_SECONDS = AHEAD_SECONDS + CLAIM_TO_START_SECONDS + 0.5
"""After a claim, which may come that much before its instant."""


def test_a_worker_that_slept_before_it_heard_of_its_claim_does_not_start_it(gated, tmp_path):
    # Given a worker whose claim is stored, and that has not heard of it,
    ledger = Ledger.open(gated.cluster, tmp_path / "starts", ["job"])
    worker = gated.worker()
    hold = gated.store[worker.id].hold(a_claim, Step.NOT_ANSWERED)
    execution_id = hold.wait().documents[0]["_id"]

    # when it is stopped (SIGSTOP), and wakes when it is too late to start,
    worker.pause()
    hold.let_go()
    sleep_by_boottime(TOO_LONG_SECONDS)
    worker.resume()

    # then it never starts, and the next attempt runs elsewhere.
    assert_repeated_elsewhere(gated, execution_id, worker)
    ledger.close(causes=["EXECUTION_STATE_NOT_STARTED"])


def test_a_node_that_slept_when_a_script_was_about_to_start_does_not_start_it(gated, tmp_path):
    # Given a worker that holds a claim, and whose keeper has not been able to start the script yet,
    ledger = Ledger.open(gated.cluster, tmp_path / "starts", ["job"])
    worker = gated.worker()
    keeper_pid = worker.keeper_pid()
    assert keeper_pid is not None
    hold = gated.store[worker.id].hold(a_claim, Step.NOT_ANSWERED)
    execution_id = hold.wait().documents[0]["_id"]
    os.kill(keeper_pid, signal.SIGSTOP)
    try:
        hold.let_go()
        wait_for("it is accepted", lambda: was_accepted(gated, execution_id))
        sleep_by_boottime(AHEAD_SECONDS)

        # when the whole node is stopped, and wakes when it is too late to start,
        worker.pause()
        sleep_by_boottime(TOO_LONG_SECONDS)
    finally:
        os.kill(keeper_pid, signal.SIGCONT)
        worker.resume()

    # then it never starts, and the next attempt runs elsewhere.
    first = assert_repeated_elsewhere(gated, execution_id, worker)
    assert first["message"] == f"more than {CLAIM_TO_START_SECONDS:g} s passed after the claim"
    ledger.close(causes=["EXECUTION_STATE_NOT_STARTED"])


def sleep_by_boottime(seconds: float) -> None:
    """The pause itself is what is tested, on the clock that the product measures it by."""
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
    while (left := until - time.clock_gettime(time.CLOCK_BOOTTIME)) > 0:
        time.sleep(left)


def was_accepted(gated: GatedCluster, execution_id: str) -> bool:
    """Whether the leader has heard that a worker holds the claim, and so starts the script."""
    leader = gated.cluster.leader()
    return any(
        "accepted" in line and f"execution={execution_id} " in line for line in leader.tail(2000).splitlines()
    )


def assert_repeated_elsewhere(gated: GatedCluster, execution_id: str, worker: NodeProcess) -> Any:
    """The attempt was not started, and the next one ran on another node; the first one."""

    def both() -> list[Any] | None:
        found = attempts_at(gated.cluster.records("job"), execution_id)
        return found if found[-1]["state"] == "EXECUTION_STATE_SUCCEEDED" else None

    first, second = wait_for("the next attempt has run", both, 60)
    assert (first["id"], first["nodeId"], first["state"]) == (
        execution_id,
        worker.id,
        "EXECUTION_STATE_NOT_STARTED",
    )
    assert second["nodeId"] != worker.id
    return first
