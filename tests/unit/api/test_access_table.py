"""The table of roles: every method is in it, and nothing else; docs/security.md says the same."""

from __future__ import annotations

import re
from pathlib import Path

from dcron.api.access import LEAST_ROLE
from dcron.api.audit import CHANGES
from dcron.domain.access import Role
from dcron.rpc import dcron_pb2 as pb

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


def methods(service):
    return {f"/dcron.v1.{service}/{name}" for name in pb.DESCRIPTOR.services_by_name[service].methods_by_name}


def test_every_method_of_the_proto_has_a_role_and_the_table_has_no_other():
    assert set(LEAST_ROLE) == methods("Public") | methods("Internal") | {REFLECTION}


def test_what_nodes_ask_of_each_other_is_for_nodes_alone_and_nothing_else_is():
    assert {method for method, role in LEAST_ROLE.items() if role is Role.NODE} == methods("Internal")


def test_a_viewer_changes_nothing():
    reading = ("Get", "List", "Read", "Next", "Wait")
    for method in methods("Public"):
        name = method.rpartition("/")[2]
        for_viewers = name.startswith(reading) and name != "ListAudit"
        assert (LEAST_ROLE[method] is Role.VIEWER) is for_viewers, method


def test_the_page_for_people_says_what_the_table_does():
    page = (Path(__file__).parents[3] / "docs/security.md").read_text()
    for role in Role:
        [row] = re.findall(rf"^\| {role.value} \| (.*?) \|", page, re.MULTILINE)
        told = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+|\bOffer\b|\bCancel\b", row))
        held = {method.rpartition("/")[2] for method, least in LEAST_ROLE.items() if least is role}
        assert told == held - {"ServerReflectionInfo"}, role


def test_every_change_is_recorded():
    """Uploads change nothing until a job names the script; the record of changes is only read."""
    others = {"PrepareUpload", "UploadScript", "ListAudit"}
    assert {method.rpartition("/")[2] for method in CHANGES} == {
        method.rpartition("/")[2] for method in methods("Public") if LEAST_ROLE[method] is not Role.VIEWER
    } - others
