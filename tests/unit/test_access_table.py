"""The table of roles: every method is in it, and nothing else."""

from __future__ import annotations

from dcron.api.access import LEAST_ROLE
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
    reading = ("Get", "List", "Read", "Next")
    for method in methods("Public"):
        name = method.rpartition("/")[2]
        assert (LEAST_ROLE[method] is Role.VIEWER) is name.startswith(reading), method
