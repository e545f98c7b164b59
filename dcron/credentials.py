"""A certificate, its key and the CA of its peers, as `dcron.certificates` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

__all__ = ["CertificateFiles", "Credentials", "Identity"]


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Files in PEM: our certificate (with those between it and its CA, if any), its key without a passphrase,
    and the certificates of the CAs that vouch for others."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class Identity:
    """Holder that a certificate names: common name and organizational units of its subject, and the host
    names and addresses that it is for."""

    name: str
    units: tuple[str, ...]
    hosts: tuple[str, ...]
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Credentials:
    """Content of the files, checked to belong together."""

    certificate: bytes
    key: bytes = field(repr=False)
    ca: bytes
    identity: Identity
