"""The program as the shell sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from dcron import __version__
from dcron.rpc import dcron_pb2 as pb
from tests.unit.cli.fake_node import Done, FakeNode

SECONDS = 30
DCRON = [sys.executable, "-m", "dcron"]
HEAVY = ("grpc", "google.protobuf", "rich", "asyncio", "aiohttp", "structlog")


def dcron_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DCRON, *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, **environment},
        check=False,
    )


def test_python_m_dcron_is_the_program() -> None:
    done = dcron_process("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert __version__ in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from dcron.cli.main import main; assert main(['--help']) == 0; "
        f"print('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize(
    "command",
    [
        [],
        *(
            ["job", name]
            for name in ("create", "list", "show", "update", "delete", "pause", "resume", "run", "next")
        ),
        *(["execution", name] for name in ("list", "show", "log", "cancel", "resolve")),
        *(["node", name] for name in ("list", "drain", "undrain")),
        *(["cluster", name] for name in ("status", "freeze", "thaw")),
        *(
            [name]
            for name in (
                "job",
                "execution",
                "node",
                "cluster",
                "serve",
                "doctor",
                "dev",
                "demo",
                "completion",
            )
        ),
    ],
)
def test_every_command_has_help_that_begins_with_a_sentence(
    command: list[str], dcron: Callable[..., Done]
) -> None:
    done = dcron(*command, "--help")
    assert done.exit_code == 0
    assert done.out.startswith("Usage: dcron")
    summary = done.out.split("\n\n")[1].strip()
    assert summary[0].isupper() and summary.endswith((".", ":"))


def test_demo_is_not_listed(dcron: Callable[..., Done]) -> None:
    commands = dcron("--help").out.split("Commands:")[1]
    assert "dev" in commands and "demo" not in commands


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jobs"], "No such command 'jobs'"),
        (["docter"], "Did you mean 'doctor'? See 'dcron --help'"),
        (["job", "lst"], "No such command 'lst'"),
        (["job", "show"], "Missing argument 'NAME'"),
        (["job", "list", "--bogus"], "No such option"),
        (["job", "list", "--output", "xml"], "'xml' is not one of"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_help(
    arguments: list[str], message: str, dcron: Callable[..., Done]
) -> None:
    done = dcron(*arguments)
    assert (done.exit_code, done.out) == (2, "")
    assert done.err.startswith("dcron: ") and done.err.count("\n") == 1
    assert message in done.err and "--help'" in done.err


def test_no_command_at_all_shows_the_help_and_is_wrong_usage(dcron: Callable[..., Done]) -> None:
    done = dcron()
    assert done.exit_code == 2
    assert "Commands:" in done.err


def test_a_reader_that_has_seen_enough_ends_the_program_quietly(node: FakeNode) -> None:
    line = b"x" * 1023 + b"\n"
    node.on("ReadLog", lambda request, context: (pb.ReadLogResponse(data=line) for _ in range(5_000)))
    node.on("GetExecution", pb.Execution(state=pb.EXECUTION_STATE_SUCCEEDED, exit_code=0))
    command = [*DCRON, "execution", "log", "x", "--server", node.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == line
        process.stdout.close()
        assert process.wait(SECONDS) == 141
        assert process.stderr.read() == b""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell: str, dcron: Callable[..., Done]) -> None:
    done = dcron("completion", shell)
    assert done.exit_code == 0
    assert f"_DCRON_COMPLETE={shell}_complete" in done.out


def test_completion_completes_subcommands() -> None:
    done = dcron_process(_DCRON_COMPLETE="bash_complete", COMP_WORDS="dcron job pa", COMP_CWORD="2")
    assert done.stdout == "plain,pause\n"


@pytest.mark.parametrize(
    ("environment", "exit_code", "message"),
    [
        ({}, 2, "dcron: store is not set"),
        ({"DCRON_STORE": "couch://x"}, 1, "dcron: store: expected"),
    ],
)
def test_a_node_that_cannot_start_says_why_in_one_line(
    environment: dict[str, str], exit_code: int, message: str, tmp_path: os.PathLike[str]
) -> None:
    folders = {"DCRON_OBJECTS": f"file://{tmp_path}/objects", "DCRON_SPOOL": f"{tmp_path}/spool"}
    done = dcron_process("serve", **folders, **environment)
    assert done.returncode == exit_code
    assert done.stderr.splitlines()[-1].startswith(message)
    assert "Traceback" not in done.stderr
