"""Roles: what a certificate's organizational units allow."""

from __future__ import annotations

import pytest

from dcron.domain.access import Caller, Role, refusal, roles_of

CLIENT_ROLES = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)


def caller(*units):
    return Caller("alice", roles_of(units))


def test_an_organizational_unit_names_a_role_and_others_mean_nothing():
    assert roles_of(["dcron-viewer", "dcron-node", "sales", "admin", "DCRON-ADMIN", ""]) == {
        Role.VIEWER,
        Role.NODE,
    }


@pytest.mark.parametrize("held", CLIENT_ROLES)
@pytest.mark.parametrize("least", CLIENT_ROLES)
def test_a_client_role_allows_what_those_before_it_do(held, least):
    allowed = CLIENT_ROLES.index(held) >= CLIENT_ROLES.index(least)
    assert (refusal(caller(f"dcron-{held.value}"), least) == "") is allowed


@pytest.mark.parametrize("least", CLIENT_ROLES)
def test_a_node_is_no_client(least):
    assert refusal(caller("dcron-node"), least)


@pytest.mark.parametrize("held", CLIENT_ROLES)
def test_no_client_is_a_node(held):
    assert refusal(caller(f"dcron-{held.value}"), Role.NODE)


def test_a_node_may_do_what_nodes_do():
    assert refusal(caller("dcron-node"), Role.NODE) == ""


def test_a_certificate_with_two_roles_may_do_both():
    both = caller("dcron-node", "dcron-viewer")
    assert refusal(both, Role.NODE) == refusal(both, Role.VIEWER) == ""


def test_a_refusal_names_the_role_and_the_caller():
    assert refusal(caller("dcron-viewer"), Role.OPERATOR) == (
        "needs role operator; the certificate of alice has viewer"
    )
    assert refusal(caller("sales"), Role.VIEWER) == (
        "needs role viewer; the certificate of alice has no role"
    )
