"""What the other commands ask and print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from dcron.rpc import dcron_pb2 as pb
from tests.unit.cli.fake_node import Done, FakeNode, instant

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
STATUS = pb.ClusterStatus(
    leader_id="n1",
    term=4,
    summary="n1 leads term 4",
    nodes=[pb.Node(id="n1", alive=True, leading=True, slots=8), pb.Node(id="n2", draining=True, spooled=3)],
    waiting=[pb.Waiting(job="b", execution_id="U:R:001", reason="all nodes are busy")],
    waiting_count=1,
    needs_attention=[pb.Execution(id="U:R:002", job="c", node_id="n9")],
)


@pytest.mark.parametrize(
    ("job", "state"),
    [
        (pb.Job(name="a"), "idle"),
        (pb.Job(name="a", paused=True), "paused"),
        (pb.Job(name="a", active=pb.ActiveOccurrence(attempt=1)), "running"),
        (pb.Job(name="a", paused=True, active=pb.ActiveOccurrence(attempt=1)), "running (paused)"),
        (
            pb.Job(name="a", active=pb.ActiveOccurrence(attempt=1), waiting_reason="all busy"),
            "waiting: all busy",
        ),
    ],
)
def test_the_state_of_a_job_is_told_in_words(
    job: pb.Job, state: str, node: FakeNode, dcron: Callable[..., Done]
) -> None:
    node.on("GetJob", job)
    done = dcron("job", "show", "a", "--server", node.address)
    assert ["state", state] in [line.split(maxsplit=1) for line in done.out.splitlines()]


def test_no_job_yet_is_a_remark_and_not_data(node: FakeNode, dcron: Callable[..., Done]) -> None:
    node.on("ListJobs", pb.ListJobsResponse())
    done = dcron("job", "list", "--server", node.address)
    assert len(done.out.splitlines()) == 1
    assert "dcron job create" in done.err


READING = [
    (("job", "list"), "ListJobs", pb.ListJobsResponse()),
    (("job", "show", "a"), "GetJob", pb.Job()),
    (("job", "next", "a"), "NextOccurrences", pb.NextOccurrencesResponse()),
    (("execution", "list"), "ListExecutions", pb.ListExecutionsResponse()),
    (("execution", "show", "x"), "GetExecution", pb.Execution()),
    (("node", "list"), "ListNodes", pb.ListNodesResponse()),
    (("cluster", "status"), "GetClusterStatus", pb.ClusterStatus()),
]


@pytest.mark.parametrize(("command", "method", "answer"), READING)
def test_every_reading_command_gives_json_with_all_its_plain_fields(
    command: tuple[str, ...], method: str, answer: Any, node: FakeNode, dcron: Callable[..., Done]
) -> None:
    node.on(method, answer)
    done = dcron(*command, "-o", "json", "--server", node.address)
    assert done.exit_code == 0
    plain = {field.json_name for field in answer.DESCRIPTOR.fields if not field.has_presence}
    assert set(json.loads(done.out)) == plain


def test_json_has_a_field_in_the_same_place_whether_set_or_not(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    orders = []
    for name in ("", "a"):
        node.on("GetJob", pb.Job(name=name, revision=3))
        orders.append(list(json.loads(dcron("job", "show", "a", "-o", "json", "--server", node.address).out)))
    assert orders[0] == orders[1]


def test_executions_are_listed_with_whole_ids_in_plain_lines(
    node: FakeNode, dcron: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    node.on("ListExecutions", pb.ListExecutionsResponse(executions=[EXECUTION]))
    done = dcron("execution", "list", "--job", "a", "--state", "failed", "-n", "3", "--server", node.address)
    [_, line] = done.out.splitlines()
    assert line.split() == [
        LONG_ID, "a", "failed", "n1", "2026-11-23", "13:00:00Z", "1m30s",
        "exit", "7;", "odd", "[2J", "message",
    ]  # fmt: skip
    assert node.asked("ListExecutions") == [
        pb.ListExecutionsRequest(job="a", states=[pb.EXECUTION_STATE_FAILED], page_size=3)
    ]


class Terminal:
    """Makes stdout a terminal for the table's eyes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "40")
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_gets_colours_unless_told_otherwise_and_whole_ids_however_narrow(
    no_color: bool, node: FakeNode, dcron: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    Terminal(monkeypatch)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    node.on("ListExecutions", pb.ListExecutionsResponse(executions=[EXECUTION]))
    done = dcron("execution", "list", "--server", node.address)
    assert LONG_ID in done.out
    assert ("\x1b[31mfailed" in done.out) is not no_color
    assert "\x1b[2J" not in done.out


def test_an_execution_is_shown_with_its_result(node: FakeNode, dcron: Callable[..., Done]) -> None:
    node.on("GetExecution", EXECUTION)
    lines = dcron("execution", "show", LONG_ID, "--server", node.address).out.splitlines()
    facts = dict(line.split(maxsplit=1) for line in lines)
    assert facts["id"] == LONG_ID
    assert facts["result"] == "exit 7; odd [2J message"
    assert facts["took"] == "1m30s"


def test_a_skipped_record_says_how_many_and_why(node: FakeNode, dcron: Callable[..., Done]) -> None:
    skipped = pb.Execution(
        id="U:X:skipped",
        state=pb.EXECUTION_STATE_SKIPPED,
        skip_reason=pb.SKIP_REASON_PAUSED,
        occurrence_count=12,
    )
    uncounted = pb.Execution(
        id="U:Y:skipped", state=pb.EXECUTION_STATE_SKIPPED, skip_reason=pb.SKIP_REASON_MISSED
    )
    node.on("ListExecutions", pb.ListExecutionsResponse(executions=[skipped, uncounted]))
    done = dcron("execution", "list", "--server", node.address)
    assert "12 occurrences paused" in done.out
    assert "many occurrences missed" in done.out


@pytest.mark.parametrize(
    ("verdict", "code"),
    [("succeeded", pb.VERDICT_SUCCEEDED), ("failed", pb.VERDICT_FAILED), ("retry", pb.VERDICT_RETRY)],
)
def test_a_verdict_is_sent_with_who_gave_it(
    verdict: str, code: int, node: FakeNode, dcron: Callable[..., Done]
) -> None:
    node.on("ResolveExecution", pb.Execution())
    done = dcron("execution", "resolve", "x", "--as", verdict, "--reason", "gone", "--server", node.address)
    assert done.exit_code == 0
    [request] = node.asked("ResolveExecution")
    assert (request.id, request.verdict, request.reason) == ("x", code, "gone")
    user, _, host = request.by.partition("@")
    assert user and host


def test_the_status_of_the_cluster_names_what_waits_and_what_needs_a_person(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    node.on("GetClusterStatus", STATUS)
    out = dcron("cluster", "status", "--server", node.address).out
    for words in ("n1 leads term 4", "all nodes are busy", "U:R:002", "silent, draining"):
        assert words in out


def test_the_nodes_are_listed_with_what_their_spools_hold(node: FakeNode, dcron: Callable[..., Done]) -> None:
    node.on("ListNodes", pb.ListNodesResponse(nodes=[*STATUS.nodes, pb.Node(id="n3", stopped=True)]))
    lines = dcron("node", "list", "--server", node.address).out.splitlines()
    assert "3 results in its spool" in lines[2]
    assert "stopped" in lines[3]


def test_the_status_gives_the_command_that_settles_what_needs_a_person(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    node.on("GetClusterStatus", STATUS)
    out = dcron("cluster", "status", "--server", node.address).out
    assert "dcron execution resolve U:R:002 --as succeeded|failed|retry" in out


def test_while_nobody_leads_numbers_that_only_a_leader_knows_are_unknown(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    node.on("GetClusterStatus", pb.ClusterStatus(summary="nobody leads: n1 is starting"))
    out = dcron("cluster", "status", "--server", node.address).out
    assert out.count("unknown while nobody leads") == 3


def without_store(node_id: str) -> pb.ClusterStatus:
    return pb.ClusterStatus(
        answering_node_id=node_id,
        store_trouble="no connection",
        nodes=[pb.Node(id=node_id, alive=True)],
        concerns=[pb.Concern(what=f"{node_id} cannot reach the store", remedy="mend it")],
        held=[
            pb.HeldExecution(node_id=node_id, execution_id=LONG_ID, job="a", state=pb.EXECUTION_STATE_RUNNING)
        ],
    )


def test_without_the_store_every_node_is_asked_what_it_knows_and_the_exit_code_is_1(
    make_node: Callable[[], FakeNode], dcron: Callable[..., Done], dead_address: str
) -> None:
    servers = [dead_address]
    for node_id in ("n1", "n2"):
        fake = make_node()
        fake.on("GetClusterStatus", without_store(node_id))
        servers.append(fake.address)
    done = dcron("cluster", "status", "--server", ",".join(servers))
    assert done.exit_code == 1
    assert done.err.count("\n") == 1
    assert "n1, n2" in done.err
    for words in ("n1 cannot reach the store", "n2 cannot reach the store", "mend it", LONG_ID):
        assert words in done.out
    done = dcron("cluster", "status", "--output", "json", "--server", ",".join(servers))
    assert done.exit_code == 1
    assert [each["nodeId"] for each in json.loads(done.out)["held"]] == ["n1", "n2"]


def test_a_node_that_reaches_the_store_is_preferred_to_one_that_does_not(
    make_node: Callable[[], FakeNode], dcron: Callable[..., Done]
) -> None:
    cut_off, whole = make_node(), make_node()
    cut_off.on("GetClusterStatus", without_store("n1"))
    whole.on("GetClusterStatus", STATUS)
    done = dcron("cluster", "status", "--server", f"{cut_off.address},{whole.address}")
    assert done.exit_code == 0
    assert "n1 leads term 4" in done.out
    assert "cannot reach" not in done.out


CHANGES = [
    (("job", "delete", "a", "--yes"), "DeleteJob", pb.DeleteJobResponse(), pb.DeleteJobRequest(name="a")),
    (("job", "pause", "a"), "PauseJob", pb.Job(), pb.PauseJobRequest(name="a")),
    (("job", "resume", "a"), "ResumeJob", pb.Job(), pb.ResumeJobRequest(name="a")),
    (("node", "drain", "n"), "DrainNode", pb.Node(), pb.DrainNodeRequest(id="n")),
    (("node", "undrain", "n"), "UndrainNode", pb.Node(), pb.UndrainNodeRequest(id="n")),
    (("cluster", "freeze"), "FreezeCluster", pb.ClusterStatus(), pb.FreezeClusterRequest()),
    (("cluster", "thaw"), "ThawCluster", pb.ClusterStatus(), pb.ThawClusterRequest()),
    (
        ("execution", "cancel", "x"),
        "CancelExecution",
        pb.CancelExecutionResponse(),
        pb.CancelExecutionRequest(id="x"),
    ),
]


@pytest.mark.parametrize(("command", "method", "answer", "request_"), CHANGES)
def test_every_change_is_sent_once_and_confirmed_in_words(
    command: tuple[str, ...],
    method: str,
    answer: Any,
    request_: Any,
    node: FakeNode,
    dcron: Callable[..., Done],
) -> None:
    node.on(method, answer)
    done = dcron(*command, "--server", node.address)
    assert (done.exit_code, done.err) == (0, "")
    assert done.out
    assert node.calls == [(method, request_)]


def test_deleting_a_job_that_runs_says_that_it_goes_on(node: FakeNode, dcron: Callable[..., Done]) -> None:
    node.on("DeleteJob", pb.DeleteJobResponse(running_execution_id=LONG_ID))
    done = dcron("job", "delete", "a", "--server", node.address)
    assert f"dcron execution cancel {LONG_ID}" in done.out


@pytest.mark.parametrize(("answer", "exit_code", "calls"), [("n\n", 130, 0), ("y\n", 0, 1)])
def test_deleting_asks_at_a_terminal(
    answer: str,
    exit_code: int,
    calls: int,
    node: FakeNode,
    dcron: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node.on("DeleteJob", pb.DeleteJobResponse())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda prompt: answer.strip())
    done = dcron("job", "delete", "a", "--server", node.address)
    assert (done.exit_code, len(node.calls)) == (exit_code, calls)


def test_next_occurrences_are_told_in_the_jobs_timezone_and_in_utc(
    node: FakeNode, dcron: Callable[..., Done]
) -> None:
    moments = [instant("2026-10-25T00:30:00Z"), instant("2026-10-25T01:30:00Z")]
    node.on("NextOccurrences", pb.NextOccurrencesResponse(occurrences=moments, timezone="Europe/Berlin"))
    done = dcron(
        "job", "next", "--schedule", "30 * * * *", "--timezone", "Europe/Berlin", "--server", node.address
    )
    # The hour that daylight saving time repeats.
    assert done.out.splitlines() == [
        "2026-10-25 02:30:00 Europe/Berlin (2026-10-25 00:30:00Z)",
        "2026-10-25 02:30:00 Europe/Berlin (2026-10-25 01:30:00Z)",
    ]


def test_a_timezone_that_this_machine_lacks_leaves_utc(node: FakeNode, dcron: Callable[..., Done]) -> None:
    answer = pb.NextOccurrencesResponse(occurrences=[instant("2026-10-25T00:30:00Z")], timezone="Moon/Base")
    node.on("NextOccurrences", answer)
    assert dcron("job", "next", "a", "--server", node.address).out == "2026-10-25 00:30:00Z\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["a", "--schedule", "@daily"], ["a", "--timezone", "UTC"], ["a", "-n", "0"], ["a", "-n", "101"]],
)
def test_next_takes_either_a_job_or_a_schedule(arguments: list[str], dcron: Callable[..., Done]) -> None:
    done = dcron("job", "next", *arguments)
    assert done.exit_code == 2
    assert done.err.count("\n") == 1
