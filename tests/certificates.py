"""Real certificates, made in a moment, in files as dcron takes them."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dcron.credentials import CertificateFiles

DAY = timedelta(days=1)


class Authority:
    """A CA whose certificates are written below `folder`."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key, timedelta(days=365)).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.file = folder / "ca.pem"
        self.file.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))

    def issue(
        self,
        name: str,
        *units: str,
        hosts: Sequence[str] = ("127.0.0.1", "localhost"),
        lasts: timedelta = 60 * DAY,
        into: CertificateFiles | None = None,
        key: PrivateKeyTypes | None = None,
    ) -> CertificateFiles:
        """A certificate for a subject; `into` replaces the files of an earlier one, each at once."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        attributes += [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units]
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = self._builder(x509.Name(attributes), key, lasts)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
            )
        files = into or CertificateFiles(
            self._folder / f"{name}.pem", self._folder / f"{name}-key.pem", self.file
        )
        write_whole(files.key, _key_pem(key))
        write_whole(files.certificate, _pem(builder.sign(self._key, hashes.SHA256())))
        return files

    def _builder(self, subject: x509.Name, key: PrivateKeyTypes, lasts: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + lasts)
        )


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file, as tools that renew certificates do."""
    part = path.with_suffix(".part")
    part.touch(0o600)
    part.write_bytes(content)
    part.replace(path)


def node_environment(files: CertificateFiles) -> dict[str, str]:
    return {
        "DCRON_TLS_CERTIFICATE": os.fspath(files.certificate),
        "DCRON_TLS_KEY": os.fspath(files.key),
        "DCRON_TLS_CA": os.fspath(files.ca),
    }


def client_environment(files: CertificateFiles) -> dict[str, str]:
    return {
        "DCRON_CERT": os.fspath(files.certificate),
        "DCRON_KEY": os.fspath(files.key),
        "DCRON_CA": os.fspath(files.ca),
    }


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
