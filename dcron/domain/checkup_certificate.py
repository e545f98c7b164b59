"""Judgements of `dcron doctor` on a node's certificate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from dcron.domain.access import Role, roles_of
from dcron.domain.checkup import Finding, Level

__all__ = ["CertificateFacts", "judge_certificate"]

RENEWAL_AHEAD = timedelta(days=30)
_CHECK = "certificate"


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """A node's certificate, which belongs to its key."""

    name: str
    units: tuple[str, ...]
    hosts: tuple[str, ...]
    """Names and addresses that it is for."""
    not_before: datetime
    not_after: datetime
    of_ca: bool
    """Whether it is, as far as can be told, of a CA that this node knows."""
    key_open_to_all: bool
    """Whether every user of the machine may read the key."""


def judge_certificate(facts: CertificateFacts, advertise: str, now: datetime) -> list[Finding]:
    """Whether other nodes will believe it, and for how long."""
    findings = list(_troubles(facts, advertise, now))
    if not findings:
        message = f"{facts.name}, valid until {facts.not_after:%Y-%m-%d}"
        findings = [Finding(_CHECK, Level.OK, message)]
    return findings


def _troubles(facts: CertificateFacts, advertise: str, now: datetime) -> Iterator[Finding]:
    host = advertise.rpartition(":")[0].strip("[]")
    until = f"{facts.not_after:%Y-%m-%d}"
    if facts.not_after <= now:
        yield Finding(_CHECK, Level.FAILED, f"{facts.name} has expired on {until}", "renew it")
    elif facts.not_after <= now + RENEWAL_AHEAD:
        remedy = "renew it; a running node takes up the new one by itself"
        yield Finding(_CHECK, Level.WARNING, f"{facts.name} expires on {until}", remedy)
    if facts.not_before > now:
        message = f"{facts.name} is not valid before {facts.not_before:%Y-%m-%d %H:%M}Z"
        yield Finding(_CHECK, Level.FAILED, message, "compare the clocks of this machine and the CA's")
    if Role.NODE not in roles_of(facts.units):
        message = f"{facts.name} is no node's: its subject names no organizational unit dcron-node"
        yield Finding(_CHECK, Level.FAILED, message, "issue one with OU=dcron-node")
    if not facts.of_ca:
        message = f"{facts.name} is of no CA in tls_ca"
        remedy = "put its CA, and with it that of the other nodes, into tls_ca"
        yield Finding(_CHECK, Level.FAILED, message, remedy)
    if host not in facts.hosts and not _by_wildcard(host, facts.hosts):
        message = f"{facts.name} does not name {host}, at which other nodes reach this one"
        remedy = "issue one that does, as subject alternative name, or change advertise"
        yield Finding(_CHECK, Level.FAILED, message, remedy)
    if facts.key_open_to_all:
        message = "every user of this machine may read the key"
        yield Finding(_CHECK, Level.WARNING, message, "set its mode to 0600, or 0640 with dcron's group")


def _by_wildcard(host: str, hosts: tuple[str, ...]) -> bool:
    return f"*.{host.partition('.')[2]}" in hosts
