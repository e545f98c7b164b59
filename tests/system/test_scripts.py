"""Scripts that misbehave: nothing of them is left once they were stopped, and their logs are whole."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.keeper_helpers import alive, keeper_pid
from tests.object_stores import S3Access
from tests.strays import CHILDREN, DAEMON, FORKING, left_pids
from tests.system.cluster import Cluster, NodeProcess, at, wait_for

YEARLY = ("--schedule", "@yearly")
GRACE_SECONDS = 2.0
STRAYS = {"daemon": (DAEMON, 2), "children": (CHILDREN, 4), "forking": (FORKING, 1)}
GIB = 1 << 30
MIB = 1 << 20
MEMORY_BYTES = 20 * MIB
"""What a log of any size may cost each process of a node."""
LINE = b"dcron prints this line again and again, with a number, until it has printed enough: %010d\n"


def last_execution(cluster: Cluster, job: str) -> Any:
    return cluster.settled(job)[0]


class TestStopped:
    @pytest.mark.parametrize("stray", STRAYS)
    def test_nothing_is_left_within_the_grace_and_a_second_after_a_timeout(
        self, shared_cluster, tmp_path, stray
    ):
        # given a script that detaches from all that could be held on to, and ignores TERM
        code, processes = STRAYS[stray]
        path = tmp_path / "stray.py"
        path.write_text(code)
        job = f"{stray}-timeout"
        shared_cluster.create(
            job, f"exec {sys.executable} {path}", *YEARLY,
            "--timeout", "3s", "--grace", f"{GRACE_SECONDS:g}s", "--max-attempts", "1",
        )  # fmt: skip

        # when its timeout comes
        shared_cluster.do("job", "run", job)
        ended = last_execution(shared_cluster, job)

        # then it ends in time, nothing of it is left, and its log has what all of it printed
        assert ended["state"] == "EXECUTION_STATE_TIMED_OUT"
        seconds = (at(ended["finishedAt"]) - at(ended["startedAt"])).total_seconds()
        assert 3 <= seconds <= 3 + GRACE_SECONDS + 1
        pids = left_pids(shared_cluster.cli("execution", "log", ended["id"]).stdout.decode())
        assert len(pids) == processes
        assert not any(map(alive, pids))

    def test_nothing_is_left_after_a_cancel(self, shared_cluster, tmp_path):
        code, processes = STRAYS["daemon"]
        path = tmp_path / "stray.py"
        path.write_text(code)
        shared_cluster.create(
            "daemon-cancel", f"exec {sys.executable} {path}", *YEARLY, "--grace", f"{GRACE_SECONDS:g}s"
        )
        shared_cluster.do("job", "run", "daemon-cancel")
        [running] = wait_for("it runs", lambda: shared_cluster.executions("daemon-cancel", state="running"))

        def printed() -> list[int]:
            log = shared_cluster.cli("execution", "log", running["id"]).stdout.decode()
            pids = left_pids(log)
            return pids if len(pids) == processes else []

        pids = wait_for("all of it runs", printed)

        shared_cluster.do("execution", "cancel", running["id"])

        assert last_execution(shared_cluster, "daemon-cancel")["state"] == "EXECUTION_STATE_CANCELLED"
        assert not any(map(alive, pids))


@pytest.fixture(params=["folder", "S3"])
def two_nodes(request, tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes that keep logs of more than a gibibyte."""
    objects, environment = f"file://{tmp_path}/objects", {}
    if request.param == "S3":
        s3: S3Access = request.getfixturevalue("s3")
        objects, environment = s3.url, dict(s3.environment)
    made = Cluster(
        tmp_path,
        f"sqlite:///{tmp_path}/dcron.db",
        objects,
        {**environment, "DCRON_MAX_LOG_BYTES": str(2 * GIB)},
        nodes=2,
    )
    try:
        made.start()
        yield made
    finally:
        made.stop()
        for node in made.nodes:
            print(f"--- {node.id}\n{node.tail()}")


class Memory:
    """How much more than at the beginning a process has held at its worst."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        # Lets the peak begin anew at what is held now.
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._before = self._bytes("VmRSS")

    def cost_bytes(self) -> int:
        return self._bytes("VmHWM") - self._before

    def _bytes(self, name: str) -> int:
        lines = self._status.read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


class TestLargeLog:
    @pytest.mark.timeout(300)
    def test_gibibyte_of_log_is_whole_and_costs_little_memory(self, two_nodes, tmp_path):
        worker, other = two_nodes.nodes
        # given nodes that have handled a log before
        self.print_and_read(two_nodes, tmp_path, "warm-up", 4 * MIB)
        processes = {"worker": worker.process.pid, "reader": other.process.pid, "keeper": keeper_of(worker)}
        memory = {name: Memory(pid) for name, pid in processes.items()}

        # when a script prints a gibibyte, and the log is read through the node that did not run it
        printed, read = self.print_and_read(two_nodes, tmp_path, "large", GIB)

        # then it is whole, and no process has held much of it
        assert read == printed
        costs = {name: each.cost_bytes() for name, each in memory.items()}
        print({name: f"{cost / MIB:.1f} MiB" for name, cost in costs.items()})
        assert {name: cost for name, cost in costs.items() if cost > MEMORY_BYTES} == {}

    @staticmethod
    def print_and_read(cluster: Cluster, folder: Path, job: str, size: int) -> tuple[str, str]:
        """Digests of what a script printed and of what was read, once it is stored."""
        worker, other = cluster.nodes
        lines = size // len(LINE % 0) + 1
        path = folder / f"{job}.py"
        path.write_text(f"import sys\nfor n in range({lines}): sys.stdout.buffer.write({LINE!r} % n)\n")
        cluster.create(job, f"exec {sys.executable} {path}", *YEARLY, "--label", f"host={worker.id}")
        cluster.do("job", "run", job)
        [ended] = cluster.settled(job, seconds=240)
        assert (ended["state"], int(ended["logBytes"])) == (
            "EXECUTION_STATE_SUCCEEDED",
            lines * len(LINE % 0),
        )
        wait_for("the log is stored", lambda: not list((worker.spool / "attempts").iterdir()), 240)
        return digest_printed(lines), digest_read(other, ended["id"])


def keeper_of(node: NodeProcess) -> int:
    pid = keeper_pid(node.spool)
    assert pid is not None
    return pid


def digest_printed(lines: int) -> str:
    digest = hashlib.sha256()
    for first in range(0, lines, 10_000):
        digest.update(b"".join(LINE % number for number in range(first, min(first + 10_000, lines))))
    return digest.hexdigest()


def digest_read(node: NodeProcess, execution_id: str) -> str:
    digest = hashlib.sha256()
    with subprocess.Popen(
        [sys.executable, "-m", "dcron", "execution", "log", execution_id, "--server", node.address],
        stdout=subprocess.PIPE,
    ) as reader:
        assert reader.stdout is not None
        while chunk := reader.stdout.read(MIB):
            digest.update(chunk)
    assert reader.returncode == 0
    return digest.hexdigest()
