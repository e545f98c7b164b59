"""Roles and what they allow, as the certificate of a caller names them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

__all__ = ["ANONYMOUS", "Caller", "Role", "refusal", "roles_of"]


class Role(Enum):
    """Right that a certificate gives. Of the three for clients each allows what those before it do; NODE
    allows what nodes ask of each other, and nothing else."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    NODE = "node"


_UNITS = {f"dcron-{role.value}": role for role in Role}
"""The organizational unit in a certificate's subject that gives each role."""
_CLIENT_RANKS = {Role.VIEWER: 1, Role.OPERATOR: 2, Role.ADMIN: 3}


@dataclass(frozen=True, slots=True)
class Caller:
    """Caller of a method. `name` is the common name of the certificate; `address` is host:port."""

    name: str
    roles: frozenset[Role]
    address: str = ""


ANONYMOUS = "anonymous"
"""The name of all callers where there is no TLS."""


def roles_of(units: Iterable[str]) -> frozenset[Role]:
    """The roles that organizational units give; others mean nothing to dcron."""
    return frozenset(_UNITS[unit] for unit in units if unit in _UNITS)


def refusal(caller: Caller, least: Role) -> str:
    """Reason why a caller may not do what takes at least a role, in words; empty when it may."""
    if least is Role.NODE:
        allowed = Role.NODE in caller.roles
    else:
        rank = max((_CLIENT_RANKS.get(role, 0) for role in caller.roles), default=0)
        allowed = rank >= _CLIENT_RANKS[least]
    if allowed:
        return ""
    held = ", ".join(sorted(role.value for role in caller.roles)) or "no role"
    return f"needs role {least.value}; the certificate of {caller.name} has {held}"
