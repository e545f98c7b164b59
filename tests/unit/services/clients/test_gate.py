"""The gate lets in whom its table says, and no change is made without a record. It knows no transport."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dcron.domain.access import Caller, Role
from dcron.domain.audit import Change
from dcron.domain.errors import Forbidden, NotFound, StoreUnreachable
from dcron.rpc import dcron_pb2 as pb
from dcron.services.clients.gate import RULES, Gate

REFLECTION = "ServerReflectionInfo"
ALICE = Caller("alice", frozenset({Role.VIEWER}), "192.0.2.1:5000")
PAUSE = [Change("PauseJob", "report")]


class Trail:
    """Writes down what it is told, with the calls in between; full once it has been told to be."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.full = False

    async def request(self, caller: Caller, changes: Sequence[Change]) -> list[str]:
        if self.full:
            raise StoreUnreachable("away")
        self.said.append((caller.name, [change.subject for change in changes]))
        return [f"id-{number}" for number in range(len(changes))]

    async def results(self, ids: Sequence[str], results: Sequence[str]) -> None:
        self.said.append(dict(zip(ids, results, strict=True)))


@pytest.fixture
def trail() -> Trail:
    return Trail()


def methods(service: str) -> set[str]:
    return set(pb.DESCRIPTOR.services_by_name[service].methods_by_name)


# The table.


def test_every_method_of_the_proto_has_a_rule_and_the_table_has_no_other() -> None:
    assert set(RULES) == methods("Public") | methods("Internal") | {REFLECTION}


def test_no_two_services_have_a_method_of_one_name() -> None:
    assert not methods("Public") & methods("Internal")


def test_what_nodes_ask_of_each_other_is_for_nodes_alone_and_nothing_else_is() -> None:
    assert {method for method, rule in RULES.items() if rule.least is Role.NODE} == methods("Internal")


def test_a_viewer_changes_nothing() -> None:
    reading = ("Get", "List", "Read", "Next", "Wait")
    for name in methods("Public"):
        for_viewers = name.startswith(reading) and name != "ListAudit"
        assert (RULES[name].least is Role.VIEWER) is for_viewers, name


def test_every_change_is_recorded() -> None:
    """Uploads change nothing until a job names the script; the record of changes is only read."""
    others = {"PrepareUpload", "UploadScript", "ListAudit"}
    assert {name for name, rule in RULES.items() if rule.recorded} == {
        name for name in methods("Public") if RULES[name].least is not Role.VIEWER
    } - others


def test_the_page_for_people_says_what_the_table_does() -> None:
    page = (Path(__file__).parents[4] / "docs/security.md").read_text()
    for role in Role:
        [row] = re.findall(rf"^\| {role.value} \| (.*?) \|", page, re.MULTILINE)
        told = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+|\bOffer\b|\bCancel\b", row))
        held = {method for method, rule in RULES.items() if rule.least is role}
        assert told == held - {REFLECTION}, role


# Who may.


def test_a_caller_with_the_role_is_let_in_and_nothing_is_said_of_it(trail: Trail) -> None:
    with capture_logs() as lines:
        Gate(trail).admit(ALICE, "ListJobs")
    assert not lines


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("PauseJob", "needs role operator; the certificate of alice has viewer"),
        ("Offer", "needs role node; the certificate of alice has viewer"),
        ("/other.Service/ListJobs", "/other.Service/ListJobs is open to nobody"),
    ],
)
def test_any_other_caller_is_refused_and_the_log_says_who_it_was(
    trail: Trail, method: str, reason: str
) -> None:
    with capture_logs() as lines, pytest.raises(Forbidden, match=f"^{re.escape(reason)}$"):
        Gate(trail).admit(ALICE, method)
    [line] = lines
    assert (line["action"], line["method"]) == ("access", method)
    assert (line["who"], line["where"], line["error"]) == ("alice", "192.0.2.1:5000", reason)


# What is recorded.


async def test_a_change_is_recorded_before_it_is_made_and_its_result_after(trail: Trail) -> None:
    async def call() -> str:
        trail.said.append("called")
        return "answer"

    assert await Gate(trail).recorded(ALICE, PAUSE, call) == "answer"
    assert trail.said == [("alice", ["report"]), "called", {"id-0": "OK"}]


@pytest.mark.parametrize(
    ("error", "result"), [(NotFound("no job"), "NOT_FOUND"), (ValueError("a defect"), "INTERNAL")]
)
async def test_what_a_call_raises_is_the_result_of_all_its_changes_and_goes_on(
    trail: Trail, error: Exception, result: str
) -> None:
    async def call() -> None:
        raise error

    with pytest.raises(type(error)):
        await Gate(trail).recorded(ALICE, [*PAUSE, *PAUSE], call)
    assert trail.said[-1] == {"id-0": result, "id-1": result}


async def test_each_change_of_a_call_may_have_a_result_of_its_own(trail: Trail) -> None:
    async def call() -> list[str]:
        return ["OK", "ALREADY_EXISTS"]

    await Gate(trail).recorded(ALICE, [*PAUSE, *PAUSE], call, list)
    assert trail.said[-1] == {"id-0": "OK", "id-1": "ALREADY_EXISTS"}


async def test_a_change_that_cannot_be_recorded_is_not_made(trail: Trail) -> None:
    async def call() -> None:
        trail.said.append("called")

    trail.full = True
    with pytest.raises(StoreUnreachable):
        await Gate(trail).recorded(ALICE, PAUSE, call)
    assert not trail.said
