"""The clients of docs/examples, run against a node as their readers would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from dcron.rpc import dcron_pb2 as pb
from tests.node_packages import NodeUnavailable, node_modules
from tests.system.cluster import Cluster
from tests.unit.cli.fake_node import FakeNode, aborting

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
EXAMPLE_SECONDS = 60.0
RUN = "01M84D6QBS78X2GEQR0TKKPTAC:01M84D6QBS78X2GEQR0TKKPTAD:001"
SPOKEN = Timestamp(seconds=1)
ENDS = [
    (pb.Execution(state=pb.EXECUTION_STATE_SUCCEEDED, exit_code=0), 0),
    (pb.Execution(state=pb.EXECUTION_STATE_FAILED, exit_code=7), 7),
    (pb.Execution(state=pb.EXECUTION_STATE_FAILED, signal=9), 1),
    (pb.Execution(state=pb.EXECUTION_STATE_LOST), 1),
    (pb.Execution(state=pb.EXECUTION_STATE_RUNNING, verdict=pb.VERDICT_SUCCEEDED, verdict_at=SPOKEN), 0),
    (pb.Execution(state=pb.EXECUTION_STATE_RUNNING, verdict_at=SPOKEN), 1),
]
"""Ends of executions, and the exit codes that examples give for them."""

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("examples")
    made = Cluster(folder, f"sqlite:///{folder}/dcron.db", f"file://{folder}/objects", {}, nodes=1)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=EXAMPLE_SECONDS,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def registered(cluster: Cluster, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Register a job by the Python client, which runs it once."""
    script = folder / "job.sh"
    script.write_text("echo from $DCRON_JOB; exit 3\n")
    server = cluster.nodes[0].address
    return run(sys.executable, str(EXAMPLES / "run_job.py"), server, name, str(script))


def test_the_python_client_registers_runs_waits_and_reads(cluster: Cluster, tmp_path: Path) -> None:
    done = registered(cluster, "by-python", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "from by-python\n", "")


def test_the_node_client_runs_waits_and_reads(cluster: Cluster, tmp_path: Path) -> None:
    try:
        modules = node_modules()
    except NodeUnavailable as reason:
        pytest.skip(str(reason))
    registered(cluster, "by-node", tmp_path)
    proto = str(ROOT / "proto" / "dcron.proto")
    server = cluster.nodes[0].address
    done = run("node", str(EXAMPLES / "run_job.js"), server, "by-node", proto, NODE_PATH=str(modules))
    assert (done.returncode, done.stdout, done.stderr) == (3, "from by-node\n", "")
    absent = run("node", str(EXAMPLES / "run_job.js"), server, "absent", proto, NODE_PATH=str(modules))
    assert (absent.returncode, absent.stderr) == (1, "job 'absent' not found\n")


@pytest.fixture
def scripted() -> Iterator[FakeNode]:
    """A node that answers as written down, with a run that waits at first."""
    node = FakeNode()
    node.on("UploadScript", pb.UploadScriptResponse())
    node.on("CreateJob", pb.Job(name="a"))
    node.on("RunJob", pb.RunJobResponse(execution_id=RUN))
    node.on("ReadLog", aborting(grpc.StatusCode.NOT_FOUND, "there is none"))
    node.start()
    yield node
    node.stop()


def queued(node: FakeNode, end: pb.Execution) -> None:
    """Let the run wait, then start, and then end."""
    jobs = [pb.Job(name="a", waiting_execution_ids=[RUN]), pb.Job(name="a")]
    node.on("GetJob", lambda request, context: jobs.pop(0) if len(jobs) > 1 else jobs[0])
    absent = aborting(grpc.StatusCode.NOT_FOUND, "not started")
    asked: list[pb.WaitExecutionRequest] = []

    def wait(request: pb.WaitExecutionRequest, context: grpc.ServicerContext) -> pb.Execution:
        asked.append(request)
        return absent(request, context) if len(asked) == 1 else end

    node.on("WaitExecution", wait)


@pytest.mark.parametrize(("end", "exit_code"), ENDS)
def test_the_python_client_waits_in_the_queue_and_tells_each_end(
    scripted: FakeNode, tmp_path: Path, end: pb.Execution, exit_code: int
) -> None:
    queued(scripted, end)
    script = tmp_path / "job.sh"
    script.write_text("exit 0\n")
    done = run(sys.executable, str(EXAMPLES / "run_job.py"), scripted.address, "a", str(script))
    assert (done.returncode, done.stderr) == (exit_code, "no log: there is none\n")


@pytest.mark.parametrize(("end", "exit_code"), ENDS)
def test_the_node_client_waits_in_the_queue_and_tells_each_end(
    scripted: FakeNode, end: pb.Execution, exit_code: int
) -> None:
    try:
        modules = node_modules()
    except NodeUnavailable as reason:
        pytest.skip(str(reason))
    queued(scripted, end)
    proto = str(ROOT / "proto" / "dcron.proto")
    command = ("node", str(EXAMPLES / "run_job.js"), scripted.address, "a", proto)
    done = run(*command, NODE_PATH=str(modules))
    assert (done.returncode, done.stderr) == (exit_code, "no log: there is none\n")


def test_the_python_client_uploads_a_script_of_more_than_one_message(
    cluster: Cluster, tmp_path: Path
) -> None:
    script = tmp_path / "job.sh"
    script.write_text("exit 6\n" + "# long\n" * 200_000)
    server = cluster.nodes[0].address
    done = run(sys.executable, str(EXAMPLES / "run_job.py"), server, "long", str(script))
    assert (done.returncode, done.stderr) == (6, "")
