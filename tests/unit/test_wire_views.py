"""What messages say of what is shown, held field by field; see test_wire.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given

from dcron import wire, wire_requests
from dcron.domain.concerns import Concern
from dcron.domain.model import (
    Active,
    Claim,
    ClusterSettings,
    Coalesced,
    Job,
    LastOutcome,
    LogObject,
    ManualRun,
    Occurrence,
    Outcome,
    Place,
    Skip,
    SkipReason,
    State,
    Verdict,
    VerdictKind,
)
from dcron.domain.nodes import LeaderReport, NodeRecord, Waiting
from dcron.domain.records import Unrecognized
from dcron.domain.views import ClusterView, ExecutionView, HeldExecution, NodeView, SkippedView
from dcron.rpc import dcron_pb2 as pb
from tests.unit.domain import document_samples as samples
from tests.unit.wire_samples import (
    EXECUTION,
    RUN,
    SCRIPT,
    SCRIPT_TEXT,
    SPECIFICATION,
    START,
    UID,
    assert_says,
    at,
    second,
    told,
)

SPECIFICATION_TEXT = {
    "schedule": "@daily",
    "script": SCRIPT_TEXT,
    "timezone": "Europe/Berlin",
    "interpreter": "sh",
    "arguments": ["a", "b"],
    "environment": {"K": "V"},
    "labels": {"zone": "north"},
    "timeout": "61s",
    "grace": "0.500s",
    "max_attempts": 4,
    "failure_retries": 2,
}
JOB = Job(
    name="backup",
    uid=UID,
    revision=7,
    specification=SPECIFICATION,
    created_at=second(1),
    changed_at=second(2),
    paused=True,
    place=Place(
        sequence=1,
        term=1,
        next_at=second(3),
        counts_from=START,
        active=Active(Occurrence.of_schedule(UID, second(4)), 2, 1, second(5)),
        waiting=(ManualRun(RUN),),
        last=LastOutcome(f"{UID}:20260302T110000Z:001", State.TIMED_OUT, second(6)),
    ),
)
REPORT = LeaderReport(waiting=(Waiting("other", "x", "not this"), Waiting("backup", "x", "all are busy")))
CLAIM = Claim(
    execution_id=EXECUTION,
    token="t",
    node_id="n1",
    job="backup",
    term=5,
    revision=7,
    script=SCRIPT,
    scheduled_at=second(7),
    manual=True,
    claimed_at=second(8),
    timeout_seconds=62.0,
    coalesced=Coalesced(second(9), 3),
)
OUTCOME = Outcome(
    execution_id=EXECUTION,
    token="t",
    node_id="n1",
    state=State.FAILED,
    finished_at=second(12),
    started_at=second(11),
    exit_code=13,
    signal=14,
    message="ended by a signal",
    cpu_seconds=1.5,
    peak_memory_bytes=16,
    log=LogObject("logs/x", 17, 18),
)
VERDICT = Verdict(EXECUTION, VerdictKind.RETRY, "ann", "seen", second(19))
EXECUTION_VIEW = ExecutionView(CLAIM, OUTCOME, VERDICT, needs_attention=True)
EXECUTION_TEXT = {
    "id": EXECUTION,
    "job": "backup",
    "state": "EXECUTION_STATE_FAILED",
    "scheduled_at": at(7),
    "attempt": 2,
    "manual": True,
    "node_id": "n1",
    "term": "5",
    "revision": "7",
    "script": SCRIPT_TEXT,
    "claimed_at": at(8),
    "timeout": "62s",
    "needs_attention": True,
    "occurrences_until": at(9),
    "occurrence_count": "3",
    "verdict": "VERDICT_RETRY",
    "verdict_by": "ann",
    "verdict_reason": "seen",
    "verdict_at": at(19),
    "started_at": at(11),
    "finished_at": at(12),
    "exit_code": 13,
    "signal": 14,
    "message": "ended by a signal",
    "cpu_time": "1.500s",
    "peak_memory_bytes": "16",
    "log_bytes": "35",
    "log_cut_bytes": "18",
}


def test_a_job_says_all_of_itself() -> None:
    assert_says(
        wire.job_message(JOB, REPORT),
        {
            "name": "backup",
            "uid": UID,
            "revision": "7",
            "specification": SPECIFICATION_TEXT,
            "paused": True,
            "created_at": at(1),
            "changed_at": at(2),
            "next_at": at(3),
            "active": {
                "execution_id": f"{UID}:20260302T120004Z:002",
                "scheduled_at": at(4),
                "intended_at": at(5),
                "attempt": 2,
            },
            "waiting_execution_ids": [f"{UID}:{RUN}:001"],
            "last": {
                "execution_id": f"{UID}:20260302T110000Z:001",
                "state": "EXECUTION_STATE_TIMED_OUT",
                "settled_at": at(6),
            },
            "waiting_reason": "all are busy",
        },
    )


def test_a_specification_says_all_of_itself() -> None:
    assert_says(wire.specification_message(SPECIFICATION), SPECIFICATION_TEXT)


def test_an_idle_job_says_nothing_of_what_it_does_not_do() -> None:
    idle = replace(JOB, paused=False, place=Place(1, 1, None, START))
    missing = {"next_at", "active", "waiting_execution_ids", "last", "waiting_reason", "paused"}
    assert set(told(wire.job_message(idle, LeaderReport()))) == (
        set(pb.Job.DESCRIPTOR.fields_by_name) - missing
    )


def test_an_active_manual_run_says_so_and_a_job_whose_node_is_gone_says_what_to_do() -> None:
    active = Active(Occurrence.of_request(UID, RUN), 2, 1, second(5))
    message = wire.job_message(
        replace(JOB, place=replace(JOB.place, active=active)), LeaderReport(attention=(active.execution_id,))
    )
    assert message.active.manual
    assert "needs a person" in message.waiting_reason
    assert not wire.job_message(JOB, LeaderReport(attention=("another",))).waiting_reason


def test_an_execution_says_all_of_itself() -> None:
    assert_says(wire.execution_message(EXECUTION_VIEW), EXECUTION_TEXT, never=frozenset({"skip_reason"}))


def test_an_execution_that_runs_says_nothing_of_its_end() -> None:
    view = ExecutionView(replace(CLAIM, coalesced=Coalesced(second(9), None), timeout_seconds=0.0))
    known = {"id", "job", "scheduled_at", "attempt", "manual", "node_id", "term", "revision", "script"}
    known |= {"state", "claimed_at", "occurrences_until"}
    message = wire.execution_message(view)
    assert set(told(message)) == known
    assert message.state == pb.EXECUTION_STATE_RUNNING


def test_an_execution_that_stands_for_itself_alone_says_nothing_of_others() -> None:
    message = wire.execution_message(ExecutionView(replace(CLAIM, coalesced=None)))
    assert told(message).keys().isdisjoint({"occurrences_until", "occurrence_count"})


@pytest.mark.parametrize("state", State)
def test_every_state_has_its_name_on_the_wire_and_back(state: State) -> None:
    message = wire.execution_message(ExecutionView(CLAIM, replace(OUTCOME, state=state)))
    assert pb.ExecutionState.Name(message.state) == f"EXECUTION_STATE_{state.name}"
    request = pb.ListExecutionsRequest(states=[message.state])
    assert wire_requests.execution_query_from(request).states == (state,)


@pytest.mark.parametrize("kind", VerdictKind)
def test_every_verdict_has_its_name_on_the_wire_and_back(kind: VerdictKind) -> None:
    message = wire.execution_message(ExecutionView(CLAIM, None, replace(VERDICT, kind=kind)))
    assert pb.Verdict.Name(message.verdict) == f"VERDICT_{kind.name}"
    assert wire_requests.verdict_from(message.verdict) is kind


@pytest.mark.parametrize("reason", SkipReason)
def test_a_skipped_record_says_all_there_is(reason: SkipReason) -> None:
    skip = Skip(UID, second(1), second(2), reason, 3)
    assert told(wire.skipped_message(SkippedView(skip, "backup"))) == {
        "id": f"{UID}:20260302T120001Z:skipped:20260302T120002Z",
        "job": "backup",
        "state": "EXECUTION_STATE_SKIPPED",
        "scheduled_at": at(1),
        "occurrences_until": at(2),
        "occurrence_count": "3",
        "skip_reason": f"SKIP_REASON_{reason.name}",
    }


def test_words_that_only_a_newer_version_knows_are_unspecified_and_told_in_text() -> None:
    preempted = Unrecognized("preempted")
    ended = wire.execution_message(ExecutionView(CLAIM, replace(OUTCOME, state=preempted)))
    assert ended.state == pb.EXECUTION_STATE_UNSPECIFIED
    assert ended.message == (
        "ended as 'preempted', which only a newer version of dcron knows: ended by a signal"
    )
    assert wire.execution_message(
        ExecutionView(CLAIM, replace(OUTCOME, state=preempted, message=""))
    ).message.endswith("knows")
    last = replace(JOB.place, last=replace(JOB.place.last, state=preempted))
    job = wire.job_message(replace(JOB, place=last), REPORT)
    assert job.last.state == pb.EXECUTION_STATE_UNSPECIFIED
    said = wire.execution_message(ExecutionView(CLAIM, None, replace(VERDICT, kind=Unrecognized("hold"))))
    assert said.verdict == pb.VERDICT_UNSPECIFIED
    assert said.verdict_reason == "as 'hold', which only a newer version of dcron knows: seen"
    skip = Skip(UID, second(1), second(2), Unrecognized("held"), 3)
    skipped = wire.skipped_message(SkippedView(skip, "backup"))
    assert skipped.skip_reason == pb.SKIP_REASON_UNSPECIFIED
    assert skipped.message == "skipped as 'held', which only a newer version of dcron knows"


def test_what_is_listed_is_an_execution_or_a_skip_record() -> None:
    skipped = SkippedView(Skip(UID, second(1), second(2), SkipReason.PAUSED, 3), "backup")
    assert wire.listed_message(skipped) == wire.skipped_message(skipped)
    assert wire.listed_message(EXECUTION_VIEW) == wire.execution_message(EXECUTION_VIEW)


NODE_VIEW = NodeView(
    NodeRecord(
        node_id="n1",
        incarnation="t",
        spool_id="s",
        address="host:1",
        version="1.2",
        slots=2,
        started_at=second(3),
        renewed_at=second(4),
        running=5,
        labels={"zone": "north"},
        spooled=6,
        warnings=("disk",),
        stopped=True,
        spooled_since=second(7),
        lease_seconds=8.0,
    ),
    alive=True,
    leading=True,
    draining=True,
)
NODE_TEXT = {
    "id": "n1",
    "address": "host:1",
    "version": "1.2",
    "alive": True,
    "leading": True,
    "draining": True,
    "slots": 2,
    "running": 5,
    "labels": {"zone": "north"},
    "started_at": at(3),
    "renewed_at": at(4),
    "spooled": 6,
    "warnings": ["disk"],
    "stopped": True,
    "spooled_since": at(7),
    "lease": "8s",
}


def test_a_node_says_all_of_itself() -> None:
    assert_says(wire.node_message(NODE_VIEW), NODE_TEXT)


@pytest.mark.parametrize("flag", ["alive", "leading", "draining"])
def test_the_flags_of_a_node_are_told_apart(flag: str) -> None:
    others = {name: False for name in ("alive", "leading", "draining") if name != flag}
    assert told(wire.node_message(replace(NODE_VIEW, **others))).keys() & {*others, flag} == {flag}


def test_a_cluster_says_all_of_itself() -> None:
    view = ClusterView(
        answering_id="n1",
        leader_id="n2",
        term=3,
        summary="all is well",
        nodes=(NODE_VIEW,),
        settings=ClusterSettings(4, START, frozen=True, frozen_at=second(5)),
        report=LeaderReport(waiting=(Waiting("backup", EXECUTION, "busy"),), waiting_count=6, active_count=7),
        store_trouble="refused",
        store_trouble_since=second(8),
        held=(HeldExecution(EXECUTION, "backup", State.LOST, second(9), "the store"),),
    )
    message = wire.cluster_message(view, [EXECUTION_VIEW], [Concern("what", "remedy")])
    assert_says(
        message,
        {
            "answering_node_id": "n1",
            "leader_id": "n2",
            "term": "3",
            "summary": "all is well",
            "nodes": [NODE_TEXT],
            "frozen": True,
            "frozen_at": at(5),
            "waiting": [{"job": "backup", "execution_id": EXECUTION, "reason": "busy"}],
            "waiting_count": 6,
            "needs_attention": [EXECUTION_TEXT],
            "active_count": 7,
            "format_version": 4,
            "concerns": [{"what": "what", "remedy": "remedy"}],
            "store_trouble": "refused",
            "store_trouble_since": at(8),
            "held": [
                {
                    "node_id": "n1",
                    "execution_id": EXECUTION,
                    "job": "backup",
                    "state": "EXECUTION_STATE_LOST",
                    "since": at(9),
                    "waits_for": "the store",
                }
            ],
        },
    )
    thawed = replace(view, settings=replace(view.settings, frozen=False))
    assert told(wire.cluster_message(thawed, [], [])).keys().isdisjoint({"frozen", "frozen_at"})
    unknown = replace(view, settings=None)
    assert told(wire.cluster_message(unknown, [], [])).keys().isdisjoint({"frozen", "format_version"})


@given(samples.INSTANTS)
def test_a_timestamp_is_what_protobuf_makes_of_an_instant(instant: datetime) -> None:
    assert wire.timestamp(instant).ToDatetime(tzinfo=UTC) == instant
