"""How late jobs start that all fall due at one instant, beside a bare loop that starts the same script.

usage: python -m tests.bench.due_at_once [JOBS]

Three nodes on SQLite and a folder, as `dcron dev` runs them. Lateness is what the script itself writes down
in its first line. The yardstick runs right before, on the same machine: quote the two together."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc

from dcron.rpc import dcron_pb2 as pb
from dcron.rpc.dcron_pb2_grpc import PublicStub
from tests.system.cluster import Cluster, NodeProcess, wait_for

DEFAULT_JOBS = 1_000
SETTLE_SECONDS = 10
"""Between the last registration and the instant."""
REGISTERED_PER_SECOND = 50
"""Slower than any machine seen so far: what is reserved for registering."""
SLOTS = 500
MAX_SECONDS = 120.0


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_JOBS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        marks = folder / "marks"
        script = folder / "script.sh"
        script.write_text(f"date +%s.%N >> {marks}\n")
        spawned = spawn_loop(script, marks, jobs)
        marks.unlink()
        stores = ("couchdb://admin:secret@127.0.0.1:15984/dcrob", f"file://{folder}/objects")
        cluster = Cluster(folder, *stores, {"DCRON_SLOTS": str(SLOTS)}, lease_seconds=6.0)
        try:
            cluster.start()
            due_at = register(cluster, script, jobs)
            wait_for("all starts", lambda: len(read(marks)) >= jobs, MAX_SECONDS + SETTLE_SECONDS)
            settled = wait_for(
                "all outcomes", lambda: not cluster.status()["activeCount"] and time.time(), MAX_SECONDS
            )
        finally:
            cluster.stop()
        started = [mark - due_at.timestamp() for mark in read(marks)]
    assert len(started) == jobs, f"{len(started)} starts of {jobs} jobs"
    print(f"{jobs} jobs due at once, {os.cpu_count()} cores, seconds after the instant")
    print(f"{'':24}{'p50':>8}{'p99':>8}{'max':>8}")
    report("bare loop of spawns", spawned)
    report("dcron, three nodes", started)
    print(f"all outcomes and logs stored after {settled - due_at.timestamp():.1f} s")


def spawn_loop(script: Path, marks: Path, count: int) -> list[float]:
    """Lateness of the script when a loop does nothing but start it."""
    began = time.time()
    running = [subprocess.Popen(["sh", str(script)]) for _ in range(count)]
    for process in running:
        process.wait()
    return [mark - began for mark in read(marks)]


def register(cluster: Cluster, script: Path, count: int) -> datetime:
    """Register jobs that fall due together; the instant."""
    settle = timedelta(seconds=SETTLE_SECONDS + count / REGISTERED_PER_SECOND)
    due_at = (datetime.now(UTC) + settle).replace(microsecond=0)
    schedule = f"{due_at.second} {due_at.minute} {due_at.hour} * * *"
    cluster.do("job", "create", "first", "--schedule", schedule, "--interpreter", "sh", str(script))
    stubs = [stub(node) for node in cluster.nodes]
    specification = stubs[0].GetJob(pb.GetJobRequest(name="first")).specification

    def create(number: int) -> None:
        request = pb.CreateJobRequest(name=f"job{number:06}", specification=specification)
        stubs[number % len(stubs)].CreateJob(request)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(1, count)))
    assert datetime.now(UTC) < due_at, "registering took too long for the instant to be met"
    return due_at


def stub(node: NodeProcess) -> PublicStub:
    return PublicStub(grpc.insecure_channel(node.address))


def read(marks: Path) -> list[float]:
    return [float(line) for line in marks.read_text().split()] if marks.exists() else []


def report(name: str, lateness: list[float]) -> None:
    p99 = statistics.quantiles(lateness, n=100)[98]
    print(f"{name:24}{statistics.median(lateness):8.2f}{p99:8.2f}{max(lateness):8.2f}")


if __name__ == "__main__":
    main()
