"""`job create` and `job update`: what goes over the wire, and the script's way into the object store."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from dcron.rpc import dcron_pb2 as pb
from tests.unit.cli.fake_node import Done, FakeNode, aborting, instant

SCRIPT = b"#!/bin/sh\necho hello \x00\xff\n"
SECRET = "X-Amz-Signature=5ec3e7"
JOB = pb.Job(
    name="a",
    revision=2,
    specification=pb.Specification(timezone="Europe/Berlin"),
    next_at=instant("2026-11-23T13:00:00Z"),
)
NEXT = "next at 2026-11-23 14:00:00 Europe/Berlin (2026-11-23 13:00:00Z)"


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "hello.sh"
    path.write_bytes(SCRIPT)
    return str(path)


@pytest.fixture
def registry(node: FakeNode) -> FakeNode:
    """A node that has every script already and takes every job."""
    node.on("PrepareUpload", pb.PrepareUploadResponse(present=True))
    node.on("UploadScript", pb.UploadScriptResponse())
    node.on("CreateJob", JOB)
    node.on("UpdateJob", JOB)
    return node


class ObjectStore(ThreadingHTTPServer):
    """Takes PUTs; `refusal` is the answer to them, if any."""

    refusal: tuple[int, bytes] | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Put)
        self.taken: list[tuple[str, Any, bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/bucket/key?{SECRET}"


class _Put(BaseHTTPRequestHandler):
    server: ObjectStore

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, self.headers, body))
        code, answer = self.server.refusal or (200, b"")
        self.send_response(code)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with ObjectStore() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_new_job_is_sent_with_all_that_was_given(
    registry: FakeNode, script: str, dcron: Callable[..., Done]
) -> None:
    options = (
        "--timezone Europe/Berlin --interpreter bash --timeout 1h30m --grace 5 --max-attempts 2 --retries 1"
    )
    more = "--arg -x --arg=y --env A=b=c --env E= --label disk=ssd --paused"
    done = dcron(
        "job", "create", "a", "--schedule", "*/5 * * * *", *options.split(), *more.split(), script,
        "--server", registry.address,
    )  # fmt: skip
    assert done == (0, f"created job a: {NEXT}\n", "", done.seconds)
    [request] = registry.asked("CreateJob")
    assert request == pb.CreateJobRequest(
        name="a",
        paused=True,
        specification=pb.Specification(
            schedule="*/5 * * * *",
            timezone="Europe/Berlin",
            interpreter="bash",
            script=pb.Script(
                sha256=hashlib.sha256(SCRIPT).hexdigest(), size_bytes=len(SCRIPT), file_name="hello.sh"
            ),
            arguments=["-x", "y"],
            environment={"A": "b=c", "E": ""},
            labels={"disk": "ssd"},
            timeout=Duration(seconds=5400),
            grace=Duration(seconds=5),
            max_attempts=2,
            failure_retries=1,
        ),
    )


def test_what_no_option_names_is_left_to_the_node(
    registry: FakeNode, script: str, dcron: Callable[..., Done]
) -> None:
    dcron("job", "create", "a", "--schedule", "@daily", script, "--server", registry.address)
    wanted = registry.asked("CreateJob")[0].specification
    assert {field.name for field, _ in wanted.ListFields()} == {"schedule", "script"}


def test_a_script_that_the_store_has_is_not_sent(
    registry: FakeNode, script: str, dcron: Callable[..., Done]
) -> None:
    dcron("job", "create", "a", "--schedule", "@daily", script, "--server", registry.address)
    assert [name for name, _ in registry.calls] == ["PrepareUpload", "CreateJob"]


def test_a_script_goes_through_the_node_in_chunks_where_there_is_no_url(
    registry: FakeNode, tmp_path: Path, dcron: Callable[..., Done]
) -> None:
    content = b"#!" + bytes(2 * 1024 * 1024 + 5)
    (tmp_path / "big").write_bytes(content)
    registry.on("PrepareUpload", pb.PrepareUploadResponse())
    done = dcron(
        "job", "create", "a", "--schedule", "@daily", str(tmp_path / "big"), "--server", registry.address
    )
    assert done.exit_code == 0
    [messages] = registry.asked("UploadScript")
    assert b"".join(message.data for message in messages) == content
    assert [message.sha256 for message in messages] == [hashlib.sha256(content).hexdigest(), "", ""]
    assert max(len(message.data) for message in messages) <= 1024 * 1024


def test_an_upload_that_one_node_drops_is_sent_whole_through_the_next(
    make_node: Callable[[], FakeNode], registry: FakeNode, script: str, dcron: Callable[..., Done]
) -> None:
    first = make_node()
    first.on("PrepareUpload", pb.PrepareUploadResponse())
    first.on("UploadScript", aborting(grpc.StatusCode.UNAVAILABLE, "object store is away"))
    servers = f"{first.address},{registry.address}"
    assert dcron("job", "create", "a", "--schedule", "@daily", script, "--server", servers).exit_code == 0
    [messages] = registry.asked("UploadScript")
    assert b"".join(message.data for message in messages) == SCRIPT


def test_a_script_is_put_where_the_node_says_with_the_headers_it_says(
    registry: FakeNode, store: ObjectStore, script: str, dcron: Callable[..., Done]
) -> None:
    headers = {"Content-Length": str(len(SCRIPT)), "x-amz-checksum-sha256": "abc"}
    registry.on("PrepareUpload", pb.PrepareUploadResponse(url=store.url, headers=headers))
    done = dcron("job", "create", "a", "--schedule", "@daily", script, "--server", registry.address)
    assert (done.exit_code, done.err) == (0, "")
    [(path, sent, body)] = store.taken
    assert (path, body) == (f"/bucket/key?{SECRET}", SCRIPT)
    assert sent["x-amz-checksum-sha256"] == "abc"
    assert sent.get_all("Content-Length") == [str(len(SCRIPT))]
    assert registry.asked("UploadScript") == []


def test_a_refused_upload_names_the_store_and_the_reason_but_not_the_signed_url(
    registry: FakeNode, store: ObjectStore, script: str, dcron: Callable[..., Done]
) -> None:
    store.refusal = (403, b"<Error><Code>RequestTimeTooSkewed</Code><Key>secret</Key></Error>")
    registry.on("PrepareUpload", pb.PrepareUploadResponse(url=store.url))
    done = dcron("job", "create", "a", "--schedule", "@daily", script, "--server", registry.address)
    assert done.exit_code == 1
    where = f"object store 127.0.0.1:{store.server_port}"
    assert done.err.startswith(f"dcron: {where} refused the script: 403 Forbidden (RequestTimeTooSkewed)")
    assert "clocks" in done.err and done.err.count("\n") == 1
    assert SECRET not in done.err and "secret" not in done.err
    assert registry.asked("CreateJob") == []


def test_an_object_store_that_cannot_be_reached_is_named_but_not_the_signed_url(
    registry: FakeNode, dead_address: str, script: str, dcron: Callable[..., Done]
) -> None:
    registry.on("PrepareUpload", pb.PrepareUploadResponse(url=f"http://{dead_address}/b/k?{SECRET}"))
    done = dcron("job", "create", "a", "--schedule", "@daily", script, "--server", registry.address)
    assert done.exit_code == 1
    assert done.err == f"dcron: object store {dead_address} cannot be reached from here: Connection refused\n"


def test_an_upload_address_that_is_no_web_address_is_refused(
    registry: FakeNode, script: str, dcron: Callable[..., Done]
) -> None:
    registry.on("PrepareUpload", pb.PrepareUploadResponse(url="file:///etc/passwd"))
    done = dcron("job", "create", "a", "--schedule", "@daily", script, "--server", registry.address)
    assert done.exit_code == 1
    assert "not http:// or https://" in done.err


def test_a_script_can_come_from_stdin(
    registry: FakeNode, dcron: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(SCRIPT)))
    dcron("job", "create", "a", "--schedule", "@daily", "-", "--server", registry.address)
    script = registry.asked("CreateJob")[0].specification.script
    assert (script.sha256, script.file_name) == (hashlib.sha256(SCRIPT).hexdigest(), "stdin")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", ["--interpreter", "sh"], "is empty"),
        (b"echo", [], "give --interpreter, or begin it with a #! line"),
        (b"#!", ["--timeout", "-5s"], "is negative"),
        (b"#!", ["--env", "A"], "'A' is not KEY=VALUE"),
        (b"#!", ["--env", "=x"], "'=x' is not KEY=VALUE"),
        (b"#!", ["--label", "A=1", "--label", "A=2"], "'A' is given twice"),
        (b"#!", ["--max-attempts", "0"], "0 is not in the range"),
    ],
)
def test_what_is_plainly_wrong_is_a_usage_error_before_anything_is_sent(
    content: bytes,
    options: list[str],
    message: str,
    registry: FakeNode,
    tmp_path: Path,
    dcron: Callable[..., Done],
) -> None:
    (tmp_path / "s").write_bytes(content)
    done = dcron(
        "job",
        "create",
        "a",
        "--schedule",
        "@daily",
        *options,
        str(tmp_path / "s"),
        "--server",
        registry.address,
    )
    assert (done.exit_code, registry.calls) == (2, [])
    assert message in done.err and done.err.count("\n") == 1


def test_a_script_that_is_not_there_is_said(registry: FakeNode, dcron: Callable[..., Done]) -> None:
    done = dcron("job", "create", "a", "--schedule", "@daily", "nowhere.sh", "--server", registry.address)
    assert (done.exit_code, done.err) == (1, "dcron: script 'nowhere.sh': No such file or directory\n")


def test_a_job_created_paused_says_how_to_start_it(
    registry: FakeNode, script: str, dcron: Callable[..., Done]
) -> None:
    registry.on("CreateJob", pb.Job(name="a", paused=True))
    done = dcron(
        "job", "create", "a", "--schedule", "@daily", "--paused", script, "--server", registry.address
    )
    assert done.out == "created job a: paused; start it with 'dcron job resume a'\n"


@pytest.mark.parametrize(
    ("options", "fields", "wanted"),
    [
        (["--timeout", "0"], ["timeout"], pb.Specification(timeout=Duration())),
        (["--schedule", "@hourly"], ["schedule"], pb.Specification(schedule="@hourly")),
        (["--interpreter", ""], ["interpreter"], pb.Specification()),
        (
            ["--retries", "0", "--grace", "1m"],
            ["failure_retries", "grace"],
            pb.Specification(grace=Duration(seconds=60)),
        ),
        (["--arg", "x"], ["arguments"], pb.Specification(arguments=["x"])),
        (
            ["--env", "A=1", "--env", "B=2"],
            ["environment"],
            pb.Specification(environment={"A": "1", "B": "2"}),
        ),
        (["--clear-args", "--clear-env"], ["arguments", "environment"], pb.Specification()),
        (["--clear-labels"], ["labels"], pb.Specification()),
    ],
)
def test_an_update_names_exactly_the_fields_that_were_given(
    options: list[str],
    fields: list[str],
    wanted: pb.Specification,
    registry: FakeNode,
    dcron: Callable[..., Done],
) -> None:
    done = dcron("job", "update", "a", *options, "--server", registry.address)
    assert done.out == f"updated job a to revision 2: {NEXT}\n"
    mask = FieldMask(paths=fields)
    assert registry.asked("UpdateJob") == [
        pb.UpdateJobRequest(name="a", specification=wanted, update_mask=mask)
    ]


def test_every_field_of_a_specification_can_be_updated(
    registry: FakeNode, script: str, dcron: Callable[..., Done]
) -> None:
    scalars = (
        "--schedule @daily --timezone UTC --interpreter sh --timeout 1 --grace 1 --max-attempts 1 --retries 1"
    )
    dcron(
        "job", "update", "a", *scalars.split(), "--arg", "a", "--env", "A=b", "--label", "c=d",
        "--script", script, "--if-revision", "1", "--server", registry.address,
    )  # fmt: skip
    [request] = registry.asked("UpdateJob")
    assert set(request.update_mask.paths) == {field.name for field in pb.Specification.DESCRIPTOR.fields}
    assert request.specification.script.sha256 == hashlib.sha256(SCRIPT).hexdigest()
    assert request.if_revision == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to change"),
        (["--env", "A=1", "--clear-env"], "--env and --clear-env contradict each other"),
    ],
)
def test_an_update_that_makes_no_sense_is_a_usage_error(
    options: list[str], message: str, registry: FakeNode, dcron: Callable[..., Done]
) -> None:
    done = dcron("job", "update", "a", *options, "--server", registry.address)
    assert (done.exit_code, registry.calls) == (2, [])
    assert message in done.err
