"""Lists page after page, and what is read back, waited for and forgotten."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import grpc
import pytest

from dcron.cli import paging
from dcron.cli.main import main
from dcron.rpc import dcron_pb2 as pb
from tests.unit.cli.fake_node import Done, FakeNode, aborting, instant

LONG_ID = "01M84D6QBS78X2GEQR0TKKPTAC:01M84D77W4PZCJ2JPN00BZXVBH:001"
EXECUTION = pb.Execution(
    id=LONG_ID,
    job="a",
    state=pb.EXECUTION_STATE_FAILED,
    exit_code=7,
    node_id="n1",
    started_at=instant("2026-11-23T13:00:00.25Z"),
    finished_at=instant("2026-11-23T13:01:30.25Z"),
    message="odd\x1b[2J\nmessage",
)


def test_a_listing_of_jobs_goes_through_all_pages(node: FakeNode, dcron: Callable[..., Done]) -> None:
    def page(request: pb.ListJobsRequest, context: grpc.ServicerContext) -> pb.ListJobsResponse:
        names = {"": "a", "a": "b", "b": "c"}
        name = names[request.page_token]
        return pb.ListJobsResponse(jobs=[pb.Job(name=name)], next_page_token=name if name != "c" else "")

    node.on("ListJobs", page)
    done = dcron("job", "list", "--server", node.address)
    assert [line.split()[0] for line in done.out.splitlines()] == ["NAME", "a", "b", "c"]
    done = dcron("job", "list", "--output", "json", "--server", node.address)
    answer = json.loads(done.out)
    assert [job["name"] for job in answer["jobs"]] == ["a", "b", "c"]
    assert answer["nextPageToken"] == ""


def test_a_script_is_printed_byte_for_byte(
    node: FakeNode, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    content = bytes(range(256))
    node.on("GetJob", pb.Job(specification=pb.Specification(script=pb.Script(sha256="a" * 64))))
    node.on(
        "GetJobRevision", pb.JobRevision(specification=pb.Specification(script=pb.Script(sha256="b" * 64)))
    )
    parts = (content[:100], content[100:])
    node.on("GetScript", lambda request, context: (pb.GetScriptResponse(data=part) for part in parts))
    for words in ((), ("--revision", "2")):
        assert main(["job", "script", "a", *words, "--server", node.address]) == 0
        assert capsysbinary.readouterr().out == content
    assert [request.sha256[0] for request in node.asked("GetScript")] == ["a", "b"]
    assert node.asked("GetJobRevision") == [pb.GetJobRevisionRequest(job="a", revision=2)]


def test_a_revision_that_tells_of_a_removal_has_no_script(node: FakeNode, dcron: Callable[..., Done]) -> None:
    node.on("GetJobRevision", pb.JobRevision(job="a", revision=3, deleted=True))
    done = dcron("job", "script", "a", "--revision", "3", "--server", node.address)
    assert (done.exit_code, node.asked("GetScript")) == (3, [])
    assert done.err == (
        "dcron: revision 3 tells that job 'a' was removed, and has no script; see 'dcron job revisions a'\n"
    )


def test_a_script_that_is_missing_points_to_the_jobs(node: FakeNode, dcron: Callable[..., Done]) -> None:
    node.on("GetJob", pb.Job(specification=pb.Specification(script=pb.Script(sha256="a" * 64))))
    node.on("GetScript", aborting(grpc.StatusCode.NOT_FOUND, "no script is stored"))
    done = dcron("job", "script", "a", "--server", node.address)
    assert (done.exit_code, done.err) == (3, "dcron: no script is stored; see 'dcron job list'\n")


def test_revisions_are_a_table(node: FakeNode, dcron: Callable[..., Done]) -> None:
    made = pb.JobRevision(revision=1, specification=pb.Specification(schedule="@daily"))
    removed = pb.JobRevision(revision=2, deleted=True)
    node.on("ListJobRevisions", pb.ListJobRevisionsResponse(revisions=[removed, made]))
    _, first, second = dcron("job", "revisions", "a", "--server", node.address).out.splitlines()
    assert first.split()[0] == "2"
    assert "removed" in first
    assert "@daily" in second


def test_a_wait_goes_on_until_the_execution_is_settled(node: FakeNode, dcron: Callable[..., Done]) -> None:
    answers = [pb.Execution(state=pb.EXECUTION_STATE_RUNNING)] * 2
    answers.append(pb.Execution(state=pb.EXECUTION_STATE_FAILED, exit_code=7))
    node.on("WaitExecution", lambda request, context: answers.pop(0))
    done = dcron("execution", "wait", LONG_ID, "--server", node.address)
    assert (done.exit_code, answers) == (7, [])
    assert "exit 7" in done.out


def test_a_node_is_forgotten(node: FakeNode, dcron: Callable[..., Done]) -> None:
    node.on("ForgetNode", pb.ForgetNodeResponse())
    done = dcron("node", "forget", "n2", "--server", node.address)
    assert (done.exit_code, done.out) == (0, "forgot node n2\n")
    assert node.asked("ForgetNode") == [pb.ForgetNodeRequest(id="n2")]


def test_filters_of_jobs_are_passed_on(node: FakeNode, dcron: Callable[..., Done]) -> None:
    node.on("ListJobs", pb.ListJobsResponse())
    words = (
        "--prefix",
        "a-",
        "--label",
        "disk=ssd",
        "--state",
        "paused",
        "--last",
        "failed",
        "--last",
        "lost",
    )
    done = dcron("job", "list", *words, "--server", node.address)
    assert (done.exit_code, done.err) == (0, "no jobs found\n")
    assert node.asked("ListJobs") == [
        pb.ListJobsRequest(
            page_size=1000,
            name_prefix="a-",
            labels={"disk": "ssd"},
            states=[pb.JOB_STATE_PAUSED],
            last_states=[pb.EXECUTION_STATE_FAILED, pb.EXECUTION_STATE_LOST],
        )
    ]


def test_filters_of_executions_are_passed_on_page_after_page(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    pages = {
        "": pb.ListExecutionsResponse(executions=[EXECUTION] * 2, next_page_token="x"),
        "x": pb.ListExecutionsResponse(next_page_token="y"),
        "y": pb.ListExecutionsResponse(executions=[EXECUTION], next_page_token="z"),
    }
    node.on("ListExecutions", lambda request, context: pages[request.page_token])
    words = ("--job", "a", "--state", "lost", "--node", "n1", "--since", "2026-01-01", "--manual", "-n", "3")
    done = dcron("execution", "list", *words, "--oldest-first", "--server", node.address)
    assert len(done.out.splitlines()) == 4
    asked = node.asked("ListExecutions")
    assert [(request.page_size, request.page_token) for request in asked] == [(3, ""), (1, "x"), (1, "y")]
    for request in asked:
        request.ClearField("page_size")
        request.ClearField("page_token")
        assert request == pb.ListExecutionsRequest(
            job="a",
            states=[pb.EXECUTION_STATE_LOST],
            node_id="n1",
            scheduled_from=instant("2026-01-01T00:00:00Z"),
            manual=True,
            oldest_first=True,
        )


def test_a_page_that_leads_to_itself_ends_the_command(node: FakeNode, dcron: Callable[..., Done]) -> None:
    node.on("ListExecutions", pb.ListExecutionsResponse(next_page_token="x"))
    done = dcron("execution", "list", "--server", node.address)
    assert done.exit_code == 1
    assert "same page token twice" in done.err
    assert len(node.asked("ListExecutions")) == 2


def test_a_list_that_goes_on_for_ever_is_cut_and_said_to_be(
    node: FakeNode, dcron: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "MAX_PAGES", 5)
    tokens = itertools.count()
    node.on("ListJobs", lambda request, context: pb.ListJobsResponse(next_page_token=f"t{next(tokens)}"))
    done = dcron("job", "list", "--server", node.address)
    assert "stopped after 5 pages; more may follow" in done.err
    assert len(node.asked("ListJobs")) == 5
