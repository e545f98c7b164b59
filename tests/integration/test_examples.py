"""The clients of docs/examples, run against a node as their readers would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node_packages import NodeUnavailable, node_modules
from tests.system.cluster import Cluster

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
EXAMPLE_SECONDS = 60.0

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
