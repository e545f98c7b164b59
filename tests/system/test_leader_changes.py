"""Leaders that die or sleep: nothing due is lost, nothing starts twice."""

from __future__ import annotations

import pytest

from tests.system.accounting import Ledger, assert_no_older_term_was_taken
from tests.system.cluster import Cluster, NodeProcess, wait_for
from tests.system.gates import Step, an_intent

KILLED_AFTER_SECONDS = (-1.95, -1.8, -1.0, 0.0, 0.25)
"""How long after the instant at which all jobs fall due the leader is killed, round by round; it launches
them up to two seconds ahead."""


@pytest.mark.timeout(240)
def test_what_falls_due_in_the_second_in_which_the_leader_is_killed_starts_once(cluster, tmp_path):
    # Given 50 jobs that all fall due at the top of each minute, and every ten seconds after it,
    jobs = [f"job{number:02}" for number in range(1, 51)]
    ledger = Ledger.open(cluster, tmp_path / "starts", jobs, period_seconds=10)

    # when in one round after the other the leader is killed just then,
    for delay_seconds in KILLED_AFTER_SECONDS:
        leader = cluster.leader()
        ledger.sleep_until_due(delay_seconds)
        leader.kill()
        wait_for_another_leader(cluster, leader)
        leader.start()
        cluster.wait_ready(leader)

    # then each occurrence is accounted for, and none started twice.
    ledger.close()


@pytest.mark.timeout(180)
def test_a_leader_that_slept_past_its_lease_starts_nothing_when_it_wakes(gated, tmp_path):
    # Given jobs that fall due each second, and a leader that has written what it is about to offer,
    cluster = gated.cluster
    ledger = Ledger.open(cluster, tmp_path / "starts", ["a", "b", "c", "d"], period_seconds=1)
    ledger.goes_on()
    sleeper = cluster.leader()
    term = int(cluster.status()["term"])
    hold = gated.store[sleeper.id].hold(an_intent, Step.NOT_ANSWERED)
    hold.wait()

    # when it is stopped (SIGSTOP) just then, and wakes after another one has taken over,
    sleeper.pause()
    hold.let_go()
    wait_for_another_leader(cluster, sleeper)
    ledger.goes_on()
    sleeper.resume()

    # then it follows, no worker takes what it may still offer, and nothing starts twice.
    wait_for("it follows", lambda: cluster.leader_id(via=[sleeper]) not in {"", sleeper.id})
    assert int(cluster.status()["term"]) > term
    ledger.close()
    assert_no_older_term_was_taken([each for job in ledger.jobs for each in cluster.records(job)])


def wait_for_another_leader(cluster: Cluster, gone: NodeProcess) -> None:
    others = [node for node in cluster.nodes if node is not gone]
    wait_for("another leader", lambda: cluster.leader_id(via=others) not in {"", gone.id}, 15)
