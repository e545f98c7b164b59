"""A certificate, its key and the CA of its peers, as `dcron.certificates` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

__all__ = ["CertificateFiles", "Credentials", "Identity"]


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where they are, in PEM: our certificate (with those between it and its CA, if any), its key without
    a passphrase, and the certificates of the CAs whose word we take for others."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class Identity:
    """What a certificate says of its holder: the common name and organizational units of its subject, and the
    host names and addresses that it is for."""

    name: str
    units: tuple[str, ...]
    hosts: tuple[str, ...]
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the files hold, checked to belong together."""

    certificate: bytes
    key: bytes = field(repr=False)
    ca: bytes
    identity: Identity
