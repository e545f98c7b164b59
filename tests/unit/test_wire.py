"""Each conversion between model and messages is held: taking one out, or mixing two up, fails here.

What goes both ways is drawn and has to come back as it was. What goes out only is compared, field by field,
with what is written down here by hand, with a value of its own for each; and nothing may be missing there.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st

from dcron import wire, wire_requests
from dcron.domain.audit import AuditQuery
from dcron.domain.errors import InvalidInput
from dcron.domain.model import Coalesced, Occurrence, Script, Specification, State
from dcron.domain.offers import OfferAnswer, OfferedAttempt, OfferResult
from dcron.domain.planning import AHEAD_SECONDS
from dcron.domain.queries import SKIPPED, ExecutionQuery, JobQuery, JobState
from dcron.rpc import dcron_pb2 as pb
from tests.unit.domain import document_samples as samples
from tests.unit.wire_samples import EXECUTION, SPECIFICATION, START, UID, second

# Both ways.


def at_most_micro(amounts: st.SearchStrategy[float]) -> st.SearchStrategy[float]:
    """Lengths of time as a person may give them: in microseconds, for messages have whole nanoseconds."""
    return amounts.map(lambda seconds: round(seconds, 6))


SPANS = at_most_micro(samples.AMOUNTS)
# Nothing is said of what is not set, and it has its default then.
NUMBERS = st.integers(1, 10**6)
SPECIFICATIONS = st.builds(
    Specification,
    schedule=samples.TEXT,
    script=samples.SCRIPTS,
    timezone=st.text(min_size=1, max_size=8),
    interpreter=samples.TEXT,
    arguments=st.lists(samples.TEXT, max_size=3).map(tuple),
    environment=samples.PAIRS,
    labels=samples.PAIRS,
    timeout_seconds=SPANS,
    grace_seconds=SPANS,
    max_attempts=NUMBERS,
    failure_retries=samples.COUNTS,
)
ATTEMPTS = st.builds(
    OfferedAttempt,
    execution_id=st.builds(
        lambda occurrence, number: occurrence.attempt(number).text, samples.OCCURRENCES, st.integers(1, 999)
    ),
    job=samples.TEXT,
    revision=samples.COUNTS,
    specification=SPECIFICATIONS,
    scheduled_at=samples.SECONDS,
    manual=st.booleans(),
    coalesced=samples.COALESCED,
    start_in_seconds=at_most_micro(st.floats(0, AHEAD_SECONDS)),
)
UNKNOWN_FIELD = b"\xb8\x3e\x01"
"""Field 999, of which this version has never heard: 1."""
MODEL_NAMES = {"timeout": "timeout_seconds", "grace": "grace_seconds"}


def test_a_specification_has_the_same_fields_in_the_model_and_on_the_wire() -> None:
    names = {MODEL_NAMES.get(name, name) for name in pb.Specification.DESCRIPTOR.fields_by_name}
    assert names == {field.name for field in fields(Specification)} - {"unknown"}
    assert {field.name for field in fields(Script)} - {"unknown"} == set(pb.Script.DESCRIPTOR.fields_by_name)


@given(SPECIFICATIONS)
def test_a_specification_comes_back_as_it_was_sent(specification: Specification) -> None:
    assert wire.specification_from(wire.specification_message(specification)) == specification


def test_of_a_specification_only_schedule_and_script_have_to_be_given() -> None:
    message = pb.Specification(schedule="@daily", script=pb.Script(sha256="a"))
    assert wire.specification_from(message) == Specification("@daily", Script("a", 0))
    assert wire.specification_from(pb.Specification()) == Specification("", Script("", 0))


@given(ATTEMPTS)
def test_an_offered_attempt_comes_back_as_it_was_sent(attempt: OfferedAttempt) -> None:
    assert wire.attempt_from(wire.attempt_message(attempt)) == attempt


def test_an_offered_attempt_says_how_many_it_stands_for() -> None:
    occurrence = Occurrence.of_schedule(UID, START)
    for coalesced in (Coalesced(second(1), 3), Coalesced(second(1), None), None):
        attempt = OfferedAttempt(
            occurrence.attempt(1).text, "job", 1, SPECIFICATION, START, manual=False, coalesced=coalesced
        )
        assert wire.attempt_from(wire.attempt_message(attempt)).coalesced == coalesced


@pytest.mark.parametrize("start_in_seconds", [-0.001, AHEAD_SECONDS + 0.001])
def test_an_offer_too_far_ahead_of_its_instant_is_refused(start_in_seconds: float) -> None:
    message = pb.Attempt(execution_id=EXECUTION, start_in=wire.duration(start_in_seconds))
    with pytest.raises(InvalidInput, match="start_in: "):
        wire.attempt_from(message)


@pytest.mark.parametrize("execution_id", ["", "x", f"{UID}:x:001"])
def test_an_offer_of_what_is_no_execution_is_refused(execution_id: str) -> None:
    with pytest.raises(InvalidInput, match="is not an execution id"):
        wire.attempt_from(pb.Attempt(execution_id=execution_id))


@pytest.mark.parametrize("result", OfferResult)
def test_an_answer_comes_back_as_it_was_sent(result: OfferResult) -> None:
    answer = OfferAnswer(result, "why")
    assert wire.answer_from(wire.answer_message(answer)) == answer


def test_an_answer_that_only_a_newer_node_knows_counts_as_unable() -> None:
    assert wire.answer_from(pb.OfferAnswer(result=99, reason="why")) == OfferAnswer(OfferResult.UNABLE, "why")


# Requests.


def test_what_only_a_newer_client_can_say_is_refused_and_not_left_out() -> None:
    newer = pb.Specification(schedule="@daily", script=pb.Script(sha256="a"))
    newer.MergeFromString(UNKNOWN_FIELD)
    with pytest.raises(InvalidInput, match="ask a node of a newer version"):
        wire.specification_asked(newer)
    newer = pb.Specification(schedule="@daily")
    newer.script.MergeFromString(UNKNOWN_FIELD)
    with pytest.raises(InvalidInput, match="specification: "):
        wire.specification_asked(newer)
    # A leader that is ahead of this worker has checked it; see FORMAT_VERSION for what must not be left out.
    assert wire.specification_from(newer) == Specification("@daily", Script("", 0))
    assert wire.specification_asked(wire.specification_message(SPECIFICATION)) == SPECIFICATION


def test_an_unknown_verdict_is_refused() -> None:
    with pytest.raises(InvalidInput, match="verdict: give succeeded, failed or retry"):
        wire_requests.verdict_from(pb.VERDICT_UNSPECIFIED)


def test_a_question_for_records_is_taken_whole() -> None:
    request = pb.ListAuditRequest(
        job="backup",
        who="ann",
        since=wire.timestamp(second(1)),
        until=wire.timestamp(second(2)),
    )
    assert wire_requests.audit_query_from(request) == AuditQuery(second(1), second(2), "backup", "ann")
    assert wire_requests.audit_query_from(pb.ListAuditRequest()) == AuditQuery()


def test_a_question_for_executions_is_taken_whole() -> None:
    request = pb.ListExecutionsRequest(
        job="backup",
        states=[pb.EXECUTION_STATE_SKIPPED, pb.EXECUTION_STATE_LOST, pb.EXECUTION_STATE_LOST],
        node_id="n1",
        scheduled_from=wire.timestamp(second(1)),
        scheduled_until=wire.timestamp(second(2)),
        manual=False,
        oldest_first=True,
    )
    assert wire_requests.execution_query_from(request) == ExecutionQuery(
        "backup", (State.LOST, SKIPPED), "n1", second(1), second(2), manual=False, oldest_first=True
    )
    assert wire_requests.execution_query_from(pb.ListExecutionsRequest()) == ExecutionQuery()


def test_a_question_for_jobs_is_taken_whole() -> None:
    request = pb.ListJobsRequest(
        name_prefix="b",
        labels={"zone": "north", "disk": "ssd"},
        states=[pb.JOB_STATE_PAUSED, pb.JOB_STATE_IDLE],
        last_states=[pb.EXECUTION_STATE_FAILED],
    )
    labels = (("disk", "ssd"), ("zone", "north"))
    states = (JobState.IDLE, JobState.PAUSED)
    assert wire_requests.job_query_from(request) == JobQuery("b", labels, states, (State.FAILED,))
    assert wire_requests.job_query_from(pb.ListJobsRequest()) == JobQuery()


@pytest.mark.parametrize("state", JobState)
def test_every_state_of_a_job_can_be_asked_for(state: JobState) -> None:
    request = pb.ListJobsRequest(states=[pb.JobState.Value(f"JOB_STATE_{state.name}")])
    assert wire_requests.job_query_from(request).states == (state,)


@pytest.mark.parametrize("prefix", ["~", "Report", "a/", "a" * 101, "a\ufff0"])
def test_a_prefix_that_no_name_begins_with_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidInput, match=r"name_prefix: .* begins no job's name"):
        wire_requests.job_query_from(pb.ListJobsRequest(name_prefix=prefix))


def test_what_a_filter_cannot_mean_is_refused_and_what_lies_beyond_all_schedules_is_cut() -> None:
    with pytest.raises(InvalidInput, match="states: 99 is nothing that this node knows"):
        wire_requests.execution_query_from(pb.ListExecutionsRequest(states=[99]))
    with pytest.raises(InvalidInput, match="last_states: 99 is nothing"):
        wire_requests.job_query_from(pb.ListJobsRequest(last_states=[99]))
    with pytest.raises(InvalidInput, match="states: 0 is nothing that this node knows; leave it out"):
        wire_requests.execution_query_from(pb.ListExecutionsRequest(states=[0]))
    far = pb.ListExecutionsRequest(
        scheduled_from=wire.timestamp(datetime(1970, 1, 2, tzinfo=UTC)),
        scheduled_until=wire.timestamp(datetime(9000, 1, 1, tzinfo=UTC)),
    )
    query = wire_requests.execution_query_from(far)
    assert query.scheduled_from == datetime(2000, 1, 1, tzinfo=UTC)
    assert query.scheduled_until == datetime(3000, 1, 1, tzinfo=UTC)


def test_a_bound_at_the_beginning_of_1970_is_one() -> None:
    epoch = wire.timestamp(datetime(1970, 1, 1, tzinfo=UTC))
    query = wire_requests.execution_query_from(pb.ListExecutionsRequest(scheduled_until=epoch))
    assert query.scheduled_until == datetime(2000, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], ["schedule", "timeout_seconds"]),
        (["grace", "labels", "grace"], ["grace_seconds", "labels"]),
        (["*"], [field.name for field in fields(Specification) if field.name != "unknown"]),
    ],
)
def test_a_mask_names_fields_of_the_model(paths: list[str], expected: list[str]) -> None:
    message = pb.Specification(schedule="@daily", timeout=wire.duration(1.0))
    assert sorted(wire_requests.mask_from(FieldMask(paths=paths), message)) == sorted(expected)


@pytest.mark.parametrize(
    ("paths", "wrong"),
    [(["x", "schedule"], "unknown: 'x'; name some of arguments, "), ([], "no field is named or set")],
)
def test_a_mask_that_names_nothing_known_is_refused(paths: list[str], wrong: str) -> None:
    with pytest.raises(InvalidInput, match=f"update_mask: {wrong}"):
        wire_requests.mask_from(FieldMask(paths=paths), pb.Specification())


def test_what_is_no_instant_is_refused() -> None:
    request = pb.ListAuditRequest()
    request.since.seconds = 10**15
    with pytest.raises(InvalidInput, match="since: is not an instant"):
        wire_requests.audit_query_from(request)
