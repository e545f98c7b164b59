"""A node's daemon is restarted while its scripts run, alone or together with its keeper."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.keeper_helpers import alive, keeper_pid
from tests.system.cluster import Cluster, NodeProcess, started, wait_for

YEARLY = ("--schedule", "@yearly")
WAYS_TO_END = {
    "succeeds": ("exit 0", 0, None),
    "fails": ("exit 3", 3, None),
    "fails-high": ("exit 255", 255, None),
    "crashes": ("kill -SEGV $$", None, signal.SIGSEGV),
    "is-killed": ("kill -KILL $$", None, signal.SIGKILL),
}
"""What each script does in the end, and the exit code or signal that this is."""


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Cluster]:
    """One node with stores on its own disk: what is shown here does not depend on them."""
    made = Cluster(tmp_path, f"sqlite:///{tmp_path}/dcron.db", f"file://{tmp_path}/objects", {}, nodes=1)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        print(made.nodes[0].tail())


class Scripts:
    """One script for each way to end, half of which end at the first gate and half at the second."""

    def __init__(self, cluster: Cluster, folder: Path, names: list[str], *options: str) -> None:
        self._cluster = cluster
        self.names = names
        self._gates = [folder / "first-gate", folder / "second-gate"]
        self._starts = folder / "starts"
        for number, name in enumerate(names):
            gate = self._gates[number % 2]
            end, _, _ = WAYS_TO_END[name]
            cluster.create(
                name,
                f"echo $DCRON_EXECUTION_ID >> {self._starts}; echo began; "
                f"until [ -e {gate} ]; do sleep 0.1; done; echo ended; {end}",
                *YEARLY, *options,
            )  # fmt: skip
            cluster.do("job", "run", name)
        wait_for("all run", lambda: len(started(self._starts)) == len(names))
        self.pids = {name: self._pid(name) for name in names}

    def _pid(self, name: str) -> int:
        [execution] = self._cluster.executions(name)
        mark = f"DCRON_EXECUTION_ID={execution['id']}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    environment = (entry / "environ").read_bytes().split(b"\0")
                    session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    continue
                if mark in environment and session == int(entry.name):
                    return session
        raise AssertionError(f"no process of {name}")

    def open_first_gate(self) -> None:
        """Returns when what waits there has ended."""
        self._gates[0].touch()
        pids = [self.pids[name] for name in self.names[::2]]
        wait_for("those at the first gate have ended", lambda: not any(map(alive, pids)))

    def open_second_gate(self) -> None:
        self._gates[1].touch()

    def were_started_once(self) -> bool:
        ids = started(self._starts)
        return len(ids) == len(set(ids)) == len(self.names)


def kill_with_keeper(node: NodeProcess) -> None:
    """First the daemon, which would start another keeper."""
    keeper = keeper_pid(node.spool)
    assert keeper is not None
    node.kill()
    os.kill(keeper, signal.SIGKILL)
    wait_for("the keeper is gone", lambda: not alive(keeper))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_scripts_outlive_a_restart_of_the_daemon_and_their_true_ends_are_recorded(lone, tmp_path, number):
    node = lone.nodes[0]
    # given scripts that run, of which each ends in another way
    scripts = Scripts(lone, tmp_path, list(WAYS_TO_END))
    keeper = keeper_pid(node.spool)

    # when the daemon is stopped, some end while it is away, and the others after it is back
    node.signal(number)
    node.process.wait(15)
    assert all(map(alive, scripts.pids.values())), "scripts go on"
    scripts.open_first_gate()
    node.start()
    lone.wait_ready(node)
    assert keeper_pid(node.spool) == keeper
    scripts.open_second_gate()

    # then the true end of each is recorded, with its whole log, and none was started twice
    for name, (_, exit_code, ended_by) in WAYS_TO_END.items():
        [ended] = lone.settled(name)
        assert (ended.get("exitCode"), ended.get("signal")) == (exit_code, ended_by), name
        assert ended["state"] == ("EXECUTION_STATE_SUCCEEDED" if exit_code == 0 else "EXECUTION_STATE_FAILED")
        assert lone.cli("execution", "log", ended["id"]).stdout == b"began\nended\n"
    assert scripts.were_started_once()


def test_scripts_outlive_daemon_and_keeper_and_what_nobody_saw_is_recorded_as_lost(lone, tmp_path):
    node = lone.nodes[0]
    # given two scripts that run
    scripts = Scripts(lone, tmp_path, ["succeeds", "fails"], "--max-attempts", "1")

    # when daemon and keeper are killed at once, and one script ends while neither is there
    kill_with_keeper(node)
    assert all(map(alive, scripts.pids.values())), "scripts go on"
    scripts.open_first_gate()
    node.start()
    lone.wait_ready(node)

    # then the one that ended unseen is lost, and the other one still counts as running
    [gone] = lone.settled("succeeds")
    assert (gone["state"], gone.get("exitCode"), gone.get("signal")) == ("EXECUTION_STATE_LOST", None, None)
    assert "nobody saw how it ended" in gone["message"]
    assert [each["state"] for each in lone.executions("fails")] == ["EXECUTION_STATE_RUNNING"]
    assert alive(scripts.pids["fails"])

    # and when that ends too, its end is seen, but not how
    scripts.open_second_gate()
    [unknown] = lone.settled("fails")
    assert (unknown["state"], unknown.get("exitCode"), unknown.get("signal")) == (
        "EXECUTION_STATE_LOST",
        None,
        None,
    )
    for ended in (gone, unknown):
        assert lone.cli("execution", "log", ended["id"]).stdout == b"began\nended\n"
    assert scripts.were_started_once()


def test_script_that_was_adopted_from_a_killed_keeper_is_still_stopped_at_its_timeout(lone, tmp_path):
    node = lone.nodes[0]
    # given a script with a timeout
    scripts = Scripts(
        lone, tmp_path, ["succeeds"], "--timeout", "15s", "--grace", "1s", "--max-attempts", "1"
    )

    # when daemon and keeper are killed at once, and come back
    kill_with_keeper(node)
    node.start()
    lone.wait_ready(node)

    # then the timeout that it was started with holds
    [ended] = lone.settled("succeeds", seconds=60)
    assert ended["state"] == "EXECUTION_STATE_TIMED_OUT"
    assert not alive(scripts.pids["succeeds"])
    assert scripts.were_started_once()
