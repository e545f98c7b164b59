"""What only a newer version knows survives whatever an older one does to a document.

Bodies are made newer by hand, as JSON: an unknown member in every object but the free maps of a user, an
unknown word wherever a word of an enumeration stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcron.domain import changes, documents, job_documents
from dcron.domain.errors import DcronError, NotUnderstood
from dcron.domain.model import Active, Job, ManualRun, Occurrence, Skip, SkipReason
from dcron.domain.planning import Moment, step
from dcron.domain.records import Body, Unrecognized
from dcron.services.clients.cluster import DRAIN_FORM, Drain, drained
from dcron.services.shared.cluster_settings import merge_settings
from tests.doubles import START, UID, request_id, sample_job
from tests.unit.domain import document_samples as samples

NEWER = "of_a_newer_version"
FREE_MAPS = {"environment", "labels"}
WORDS = {"state", "reason", "verdict"}
LATER = START + timedelta(hours=1)


def newer(value: Any, mark: str = "x") -> Any:
    """A body as a newer version writes it."""
    if isinstance(value, list):
        return [newer(each, mark) for each in value]
    if not isinstance(value, dict):
        return value
    members = {
        key: member if key in FREE_MAPS else mark if key in WORDS else newer(member, mark)
        for key, member in value.items()
    }
    if "state_at" in members:
        members["state_at"] = f"{mark} {members['finished_at']}"
    return {**members, NEWER: {"mark": mark}}


def marks(value: Any) -> int:
    """How many unknown members a body has."""
    if isinstance(value, list):
        return sum(map(marks, value))
    if not isinstance(value, dict):
        return 0
    return (NEWER in value) + sum(marks(member) for key, member in value.items() if key != NEWER)


def stored(body: Body) -> Body:
    return json.loads(json.dumps(body))


def rewritten_job(body: Body) -> Body:
    return job_documents.job_body(job_documents.job_of("job", body))


REWRITES: dict[str, tuple[st.SearchStrategy[Body], Callable[[Body], Body]]] = {
    "job": (samples.JOBS.map(job_documents.job_body), rewritten_job),
    "specification": (
        samples.SPECIFICATIONS.map(job_documents.specification_body),
        lambda body: job_documents.specification_body(job_documents.specification_of(body)),
    ),
    "claim": (
        samples.CLAIMS.map(documents.claim_body),
        lambda body: documents.claim_body(documents.claim_of("id", body)),
    ),
    "outcome": (
        samples.OUTCOMES.map(documents.outcome_body),
        lambda body: documents.outcome_body(documents.outcome_of(body)),
    ),
    "verdict": (
        samples.VERDICTS.map(documents.verdict_body),
        lambda body: documents.verdict_body(documents.verdict_of(body)),
    ),
    "skip": (
        samples.SKIPS.map(documents.skip_body),
        lambda body: documents.skip_body(documents.skip_of(body)),
    ),
    "settings": (
        samples.SETTINGS.map(documents.settings_body),
        lambda body: documents.settings_body(documents.settings_of(body)),
    ),
}


@pytest.mark.parametrize("kind", REWRITES)
@given(data=st.data())
def test_what_is_read_and_written_again_is_as_it_was(kind: str, data: st.DataObject) -> None:
    bodies, rewrite = REWRITES[kind]
    body = stored(newer(data.draw(bodies)))
    assert marks(body) >= 1
    assert stored(rewrite(body)) == body


def test_a_field_of_a_manual_run_survives_and_one_without_stays_a_text() -> None:
    job = sample_job(waiting=(ManualRun(request_id(1)), ManualRun(request_id(2), unknown={NEWER: 1})))
    body = stored(job_documents.job_body(job))
    assert body["place"]["waiting"] == [request_id(1), {"request_id": request_id(2), NEWER: 1}]
    assert job_documents.job_of(job.name, body) == job


def newer_job(**place: Any) -> Job:
    job = sample_job(**place)
    return job_documents.job_of(job.name, stored(newer(job_documents.job_body(job))))


def an_active() -> Active:
    return Active(Occurrence.of_schedule(UID, START), 1, 1, START)


def _stepped(job: Job) -> Job:
    moment = Moment(LATER, 2, documents.INITIAL_SETTINGS)
    decision = step(job, moment, None)
    return decision.job if decision else job


EVENTS: dict[str, Callable[[Job], Job]] = {
    "change of the schedule": lambda job: changes.change(
        job, replace(job.specification, schedule="*/7 * * * *"), LATER
    ),
    "change of a label": lambda job: changes.change(
        job, replace(job.specification, labels={"zone": "north"}), LATER
    ),
    "pause": lambda job: changes.pause(job, LATER),
    "resume": lambda job: changes.resume(changes.pause(job, START), LATER),
    "request of a run": lambda job: changes.request_run(job, request_id(3)),
    "step of the leader": _stepped,
    "merge with an older leaf": lambda job: changes.merge([job, sample_job()]),
    "merge with an older leaf that is ahead": lambda job: changes.merge(
        [sample_job(sequence=9, next_at=LATER, active=job.place.active and an_active()), job]
    ),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("at_work", [False, True])
def test_whatever_happens_to_a_job_keeps_what_a_newer_version_wrote(event: str, at_work: bool) -> None:
    job = newer_job(next_at=START, active=an_active() if at_work else None)
    after = job_documents.job_body(EVENTS[event](job))
    assert after[NEWER] == after["place"][NEWER] == {"mark": "x"}
    assert after["specification"][NEWER] == {"mark": "x"}
    if at_work:
        assert after["place"]["active"][NEWER] == {"mark": "x"}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(samples.JOBS, min_size=2, max_size=3), st.data())
def test_merged_leaves_have_the_unknown_fields_of_each(leaves: list[Job], data: st.DataObject) -> None:
    marked = [
        replace(leaf, unknown={f"job{number}": 1}, place=replace(leaf.place, unknown={f"place{number}": 1}))
        for number, leaf in enumerate(leaves)
    ]
    confirmed = data.draw(st.sampled_from([None, *marked]))
    try:
        merged = changes.merge(marked, confirmed)
    except DcronError:  # what is drawn is no schedule
        return
    assert set(merged.unknown) == {f"job{number}" for number in range(len(leaves))}
    assert set(merged.place.unknown) == {f"place{number}" for number in range(len(leaves))}
    newest = max(marked, key=lambda job: job.revision)
    assert merged.specification == newest.specification


@given(st.lists(samples.SETTINGS, min_size=1, max_size=3))
def test_merged_settings_have_the_unknown_fields_of_each(leaves: list[Any]) -> None:
    marked = [replace(leaf, unknown={str(number): 1}) for number, leaf in enumerate(leaves)]
    assert set(merge_settings(marked).unknown) == {str(number) for number in range(len(leaves))}


@pytest.mark.parametrize("draining", [True, False])
def test_a_drain_keeps_what_a_newer_version_wrote(draining: bool) -> None:
    body = stored(newer(DRAIN_FORM.encode(Drain(draining=False, at=START))))
    drain = DRAIN_FORM.decode("drain:a", body)
    after = drained(drain, LATER, draining=draining)
    assert after == replace(drain, draining=draining, at=LATER if draining else START)
    assert DRAIN_FORM.encode(after)[NEWER] == {"mark": "x"}
    merged = DRAIN_FORM.merge([drain, Drain(draining=True, at=LATER)])
    assert (merged.draining, merged.unknown) == (True, drain.unknown)


def test_of_a_run_that_waits_and_is_active_the_one_with_more_to_say_is_kept() -> None:
    run = ManualRun(request_id(1), unknown={NEWER: 1})
    active = Active(Occurrence.of_request(UID, request_id(1)), 1, 1, START)
    at_work = sample_job(active=active)
    merged = changes.merge([sample_job(sequence=5, term=3, waiting=(run,)), at_work])
    assert merged.place.waiting == (run,)


def test_skips_of_an_unknown_reason_are_told_apart_and_kept() -> None:
    skip = Skip(UID, START, START, Unrecognized("held"), 1)
    other = replace(skip, reason=SkipReason.PAUSED)
    merged = changes.merge([sample_job(skips=(skip,)), sample_job(skips=(other, skip))])
    assert set(merged.place.skips) == {skip, other}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: {**body, "place": []},
        lambda body: {**body, "place": {**body["place"], "active": ["x"]}},
        lambda body: {**body, "specification": None},
        lambda body: {**body, "uid": "x"},
        lambda body: {**body, "created_at": 3},
        lambda body: {key: value for key, value in body.items() if key != "revision"},
    ],
)
def test_a_job_that_makes_no_sense_is_said_to_be_of_a_newer_version(spoil: Callable[[Body], Body]) -> None:
    body = spoil(stored(job_documents.job_body(sample_job())))
    with pytest.raises(NotUnderstood, match=r"'job'.* newer version .*upgrade"):
        job_documents.job_of("job", body)
