"""Reads certificates and keys from their files, which may be replaced while dcron runs.

`cryptography` takes some 10 MiB: this is imported only where there is TLS."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from threading import Lock

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from dcron.credentials import CertificateFiles, Credentials, Identity
from dcron.domain.errors import SetupError

__all__ = [
    "CredentialWatch",
    "identity_of",
    "is_of_ca",
    "read_credentials",
]

MAX_FILE_BYTES = 1024 * 1024
"""Many times what a chain of certificates takes."""
MAX_IDENTITIES = 256
"""Parsed certificates of callers to cache."""

log = structlog.get_logger()

_Signature = tuple[tuple[int, int, int], ...]


class CredentialWatch:
    """The credentials in the files as they are now. For many threads."""

    def __init__(self, files: CertificateFiles) -> None:
        """Raises SetupError where the files cannot be used."""
        self._files = files
        self._lock = Lock()
        self._trouble = ""
        self._signature = _signature(files)
        self._credentials = read_credentials(files)

    def current(self) -> Credentials:
        """Read again what has been replaced. Files that cannot be used, as while they are written, are told
        of once and change nothing. The same object is returned until there is something new."""
        with self._lock:
            try:
                self._read_what_is_new()
            except SetupError as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    log.warning(
                        "keeping the certificates read before", action="certificates", error=self._trouble
                    )
            else:
                self._trouble = ""
            return self._credentials

    def _read_what_is_new(self) -> None:
        # Before the files are read: what is replaced meanwhile is then read again.
        signature = _signature(self._files)
        if signature == self._signature:
            return
        self._credentials = read_credentials(self._files)
        self._signature = signature
        identity = self._credentials.identity
        log.info(
            "took up new certificates",
            action="certificates",
            name=identity.name,
            not_after=identity.not_after.isoformat(),
        )


def read_credentials(files: CertificateFiles) -> Credentials:
    """Credentials in the files. SetupError says which file cannot be used and why, and never quotes it."""
    certificate, key, ca = (_read(path) for path in (files.certificate, files.key, files.ca))
    first = _certificates(files.certificate, certificate)[0]
    _certificates(files.ca, ca)
    if _der(_usable_key(files.key, key).public_key()) != _der(first.public_key()):
        raise SetupError(f"key {files.key} does not belong to certificate {files.certificate}")
    return Credentials(certificate, key, ca, identity_of(certificate))


@lru_cache(MAX_IDENTITIES)
def identity_of(certificate: bytes) -> Identity:
    """Holder of a certificate (PEM; of the first, where there are several). ValueError when it is none."""
    parsed = x509.load_pem_x509_certificate(certificate)
    names = _texts(parsed.subject, NameOID.COMMON_NAME)
    return Identity(
        name=names[0] if names else "(no common name)",
        units=_texts(parsed.subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
        hosts=_hosts(parsed),
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
    )


def _texts(subject: x509.Name, kind: x509.ObjectIdentifier) -> tuple[str, ...]:
    values = [attribute.value for attribute in subject.get_attributes_for_oid(kind)]
    return tuple(value for value in values if isinstance(value, str))


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def is_of_ca(credentials: Credentials) -> bool:
    """Whether the certificate, or the last of those that come with it, was issued by a CA that we know."""
    chain = x509.load_pem_x509_certificates(credentials.certificate)
    return any(
        _issued_by(chain[-1], authority) for authority in x509.load_pem_x509_certificates(credentials.ca)
    )


def _issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _signature(files: CertificateFiles) -> _Signature:
    """Changes whenever one of the files is replaced or written."""
    found = []
    for path in (files.certificate, files.key, files.ca):
        try:
            status = path.stat()
        except OSError as error:
            raise _unreadable(path, error) from error
        found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(content) > MAX_FILE_BYTES:
        raise SetupError(f"{path} has more than {MAX_FILE_BYTES} bytes, and is no certificate or key")
    return content


def _unreadable(path: Path, error: OSError) -> SetupError:
    return SetupError(f"{path} cannot be read: {error.strerror}")


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(content)
        for certificate in found:
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise SetupError(f"{path} holds no certificate in PEM, or one that cannot be read") from None
    return found


def _usable_key(path: Path, content: bytes) -> RSAPrivateKey | EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(content, None)
    except TypeError:
        raise SetupError(f"key {path} has a passphrase; dcron needs it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        # Without the cause, whose words may come from what is in the file.
        raise SetupError(f"{path} holds no private key in PEM") from None
    if isinstance(key, RSAPrivateKey):
        return key
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1 | SECP384R1):
        return key
    raise SetupError(f"key {path} is of a kind that gRPC does not take; make one of RSA, P-256 or P-384")


def _der(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
