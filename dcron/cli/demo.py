"""`dcron demo`: the main job on a temporary cluster, shown and checked step by step."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import join
from typing import TypeVar

import click

from dcron.cli.client import Client
from dcron.cli.failures import CommandFailed
from dcron.cli.local_cluster import LocalCluster, LocalNode, free_ports, stop_signals_interrupt
from dcron.cli.subjects import CLUSTER, job_named
from dcron.rpc import dcron_pb2 as pb

__all__ = ["demo"]

NODES = 3
JOB = "hello"
SCHEDULE = "*/2 * * * * *"
SCRIPT_NAME = "hello.sh"
SCRIPT = 'echo "hello from $DCRON_NODE, scheduled for $DCRON_SCHEDULED_AT (attempt $DCRON_ATTEMPT)"\n'
GREETING = b"hello from"
RUNS_BEFORE = 4
"""Scheduled runs to wait for, on two nodes at least."""
STEP_SECONDS = 30.0
COMMAND_SECONDS = 30.0
POLL_SECONDS = 0.2
PROCESSES = Path("/proc")

_Answer = TypeVar("_Answer")


@click.command(hidden=True)
def demo() -> None:
    """Show the main job: schedule, run, look at results, kill the leader, go on."""
    started = time.monotonic()
    stop_signals_interrupt()
    with tempfile.TemporaryDirectory(prefix="dcron-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DCRON_")}
        with (
            _nothing_left_behind(folder),
            LocalCluster(folder / "data", free_ports(NODES), environment) as cluster,
            _logs_on_failure(cluster),
            Client(cluster.servers.split(",")) as client,
        ):
            _Demo(folder, cluster, client, environment).run()
            _narrate("Stopping the nodes")
    _narrate(f"Done in {time.monotonic() - started:.0f} s: all of it happened as promised. Try next:")
    print("  dcron dev                    # such a cluster in the foreground; then, in another terminal:")
    print("  dcron job create --help      # register a job of your own")
    print("  dcron execution list         # what ran, where, and how it ended")
    print("  dcron cluster status         # who leads, and what waits")


class _Demo:
    """The steps; each raises CommandFailed when what it shows does not happen."""

    def __init__(
        self, folder: Path, cluster: LocalCluster, client: Client, environment: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._cluster = cluster
        self._client = client
        self._environment = {**environment, "DCRON_SERVER": cluster.servers}

    def run(self) -> None:
        """All steps, in order."""
        self._start()
        self._register()
        self._run_on_schedule()
        self._run_on_request()
        self._show_results()
        self._kill_the_leader()

    def _start(self) -> None:
        _narrate(f"Starting {NODES} nodes; SQLite and a folder stand in for CouchDB and S3")
        self._cluster.start()
        _until("a node leads, and all are seen alive", self._is_complete)
        self._dcron("node", "list")

    def _register(self) -> None:
        _narrate(f"Uploading {SCRIPT_NAME} and registering it as a job for every second second:")
        (self._folder / SCRIPT_NAME).write_text(SCRIPT, encoding="utf-8")
        print(f"  {SCRIPT}", end="")
        # With a timeout, what ran on a node that dies is tried again on another one.
        limits = ("--timeout", "5s", "--grace", "1s")
        options = ("--schedule", SCHEDULE, "--timezone", "Europe/Berlin", "--interpreter", "sh", *limits)
        self._dcron("job", "create", JOB, *options, SCRIPT_NAME)

    def _run_on_schedule(self) -> None:
        _narrate(f"Waiting for {RUNS_BEFORE} runs on schedule")

        def enough() -> bool:
            runs = self._succeeded()
            return len(runs) >= RUNS_BEFORE and len({run.node_id for run in runs}) > 1

        _until(f"{RUNS_BEFORE} scheduled runs succeed, on two nodes or more", enough)

    def _run_on_request(self) -> None:
        _narrate("Asking for a run now, and waiting for it")
        self._dcron("job", "run", JOB, "--wait")

    def _show_results(self) -> None:
        _narrate("What ran, where, and how it ended")
        self._dcron("execution", "list", "--job", JOB, "-n", "8")
        run = self._succeeded()[0]
        other = next(node for node in self._cluster.nodes if node.id != run.node_id)
        _narrate(f"The log of a run on {run.node_id}, read through {other.id}")
        self._dcron("execution", "log", run.id, "--server", other.address)
        with Client([other.address]) as client:
            log = b"".join(client.read_log(run.id, follow=False))
        _expect("the log holds what the script printed", log.startswith(GREETING))

    def _kill_the_leader(self) -> None:
        before = self._status()
        leader = self._node(before.leader_id)
        _narrate(f"Killing the leader, {leader.id}, with SIGKILL (pid {leader.pid})")
        leader.kill()
        killed_at = time.time()
        _narrate("Waiting for another leader: a silent one is believed for 6 s")

        def successor() -> pb.ClusterStatus | None:
            status = self._status()
            seen_silent = any(node.id == leader.id and not node.alive for node in status.nodes)
            return status if seen_silent and status.leader_id not in {"", leader.id} else None

        after = _until("another node leads", successor)
        _expect("the term has grown", after.term > before.term)
        self._dcron("cluster", "status")

        def next_run() -> pb.Execution | None:
            runs = self._succeeded()
            return next(
                (
                    run
                    for run in runs
                    if run.term >= after.term and run.scheduled_at.ToNanoseconds() / 1e9 > killed_at
                ),
                None,
            )

        run = _until(f"the next occurrence runs, launched by {after.leader_id}", next_run)
        _narrate(f"{after.leader_id} leads now, and the next occurrence ran on {run.node_id}")
        self._dcron("execution", "list", "--job", JOB, "-n", "5")

    def _is_complete(self) -> bool:
        status = self._status()
        return bool(status.leader_id) and sum(node.alive for node in status.nodes) == NODES

    def _succeeded(self) -> list[pb.Execution]:
        """Runs of the schedule that succeeded, newest first."""
        request = pb.ListExecutionsRequest(job=JOB, states=[pb.EXECUTION_STATE_SUCCEEDED], page_size=100)
        found = self._client.read(lambda public: public.ListExecutions, request, job_named(JOB))
        return [run for run in found.executions if not run.manual]

    def _status(self) -> pb.ClusterStatus:
        request = pb.GetClusterStatusRequest()
        return self._client.read(lambda public: public.GetClusterStatus, request, CLUSTER)

    def _node(self, node_id: str) -> LocalNode:
        return next(node for node in self._cluster.nodes if node.id == node_id)

    def _dcron(self, *arguments: str) -> None:
        """Run a command as a user would, and show it."""
        print(f"$ dcron {join(arguments)}", flush=True)
        command = [sys.executable, "-m", "dcron", *arguments]
        done = subprocess.run(
            command, env=self._environment, cwd=self._folder, timeout=COMMAND_SECONDS, check=False
        )
        _expect(f"'dcron {join(arguments)}' succeeds (exit code {done.returncode})", done.returncode == 0)


@contextmanager
def _logs_on_failure(cluster: LocalCluster) -> Iterator[None]:
    try:
        yield
    except CommandFailed:
        for node in cluster.nodes:
            state = "running" if node.runs else f"ended with exit code {node.exit_code}"
            click.echo(f"--- the last lines of {node.id} ({state})", err=True)
            for line in node.tail:
                click.echo(f"    {line}", err=True)
        raise


@contextmanager
def _nothing_left_behind(folder: Path) -> Iterator[None]:
    """Wait until no process works in `folder`: a keeper ends by itself soon after its node."""
    finished = False
    try:
        yield
        finished = True
    finally:
        _narrate("Waiting until the nodes' keepers, which would look after running scripts, have ended")
        deadline = time.monotonic() + STEP_SECONDS
        while (left := _processes_in(folder)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if left:
            click.echo(f"processes left behind: {' '.join(left)}", err=True)
        # What failed before is the better message.
        if finished:
            _expect(f"no process is left in {folder}", not left)


def _processes_in(folder: Path) -> list[str]:
    """Ids of processes that name the folder on their command line."""
    found = []
    for entry in PROCESSES.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command_line = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.fsencode(folder) in command_line:
            found.append(entry.name)
    return found


def _narrate(text: str) -> None:
    click.secho(f"\n==> {text}", bold=True)
    sys.stdout.flush()


def _expect(what: str, happened: bool) -> None:
    if not happened:
        raise CommandFailed(f"the demo expected that {what}; it did not happen")


def _until(what: str, ask: Callable[[], _Answer | None]) -> _Answer:
    """The first answer that is not empty, within STEP_SECONDS."""
    deadline = time.monotonic() + STEP_SECONDS
    while not (answer := ask()):
        _expect(f"{what} within {STEP_SECONDS:g} s", time.monotonic() < deadline)
        time.sleep(POLL_SECONDS)
    return answer
