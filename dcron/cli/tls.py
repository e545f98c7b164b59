"""Our identity to the nodes, and reasons for failures of TLS, of which gRPC says little more than "closed".

Takes a while to import, so `dcron.cli.client` does that only where there is TLS."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dcron.certificates import read_credentials
from dcron.cli.failures import CommandFailed, ExitCode
from dcron.cli.targets import Target
from dcron.credentials import CertificateFiles, Credentials
from dcron.domain.errors import SetupError

__all__ = ["ClientTls", "client_tls", "tls_trouble"]

LOOK_SECONDS = 2.0
_EXPIRED, _NOT_YET_VALID = 10, 9
_OTHER_NAME = frozenset({62, 64})
_OTHER_CA = frozenset({2, 7, 18, 19, 20, 21})
"""OpenSSL's numbers for what is wrong with a certificate."""


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Our identity to the nodes, and the files that hold it."""

    files: CertificateFiles
    credentials: Credentials = field(repr=False)


def client_tls(target: Target) -> ClientTls | None:
    """Identity that a target names, read from its files; CommandFailed where they cannot be used."""
    if not (target.ca and target.cert and target.key):
        return None
    files = CertificateFiles(certificate=target.cert, key=target.key, ca=target.ca)
    try:
        return ClientTls(files, read_credentials(files))
    except SetupError as error:
        raise CommandFailed(str(error), ExitCode.USAGE) from None


def tls_trouble(server: str, tls: ClientTls | None) -> str:
    """Fault of TLS between us and host:port, with its remedy; empty when it is something else."""
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), LOOK_SECONDS) as connection:
            return _with_tls(connection, host, tls) if tls else _without_tls(connection)
    except OSError:
        return ""


def _without_tls(connection: socket.socket) -> str:
    context = ssl.create_default_context()
    # Nothing is told to whoever answers: this asks only whether it speaks TLS.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        context.wrap_socket(connection).close()
    except OSError:
        return ""
    return "it demands TLS: give --ca, --cert and --key, or a context that has them"


def _with_tls(connection: socket.socket, host: str, tls: ClientTls) -> str:
    context = ssl.create_default_context(cadata=tls.credentials.ca.decode("ascii", "replace"))
    context.load_cert_chain(tls.files.certificate, tls.files.key)
    context.set_alpn_protocols(["h2"])
    try:
        secured = context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        return _about_its_certificate(error, host, tls)
    except ssl.SSLError:
        return "it has no TLS: leave out --ca, --cert and --key, and DCRON_CA, DCRON_CERT and DCRON_KEY"
    with secured:
        return _about_ours(secured, tls)


def _about_its_certificate(error: ssl.SSLCertVerificationError, host: str, tls: ClientTls) -> str:
    if error.verify_code == _EXPIRED:
        return "its certificate has expired: renew it on that node"
    if error.verify_code == _NOT_YET_VALID:
        return "its certificate is not valid yet: compare the clocks"
    if error.verify_code in _OTHER_NAME:
        return f"its certificate does not name {host}: use a name or address that it does"
    if error.verify_code in _OTHER_CA:
        return f"its certificate is not of the CA in {tls.files.ca}"
    return f"its certificate is not accepted: {error.verify_message}"


def _about_ours(secured: ssl.SSLSocket, tls: ClientTls) -> str:
    """In TLS 1.3 a server says only after the handshake whether it takes the client's certificate."""
    try:
        welcome = secured.recv(1)
    except TimeoutError:
        return ""
    except OSError:
        welcome = b""
    if welcome:
        return ""
    identity = tls.credentials.identity
    own = f"the certificate of {identity.name} in {tls.files.certificate}"
    if identity.not_after < datetime.now(UTC):
        return f"{own} has expired on {identity.not_after:%Y-%m-%d}: renew it"
    if identity.not_before > datetime.now(UTC):
        return f"{own} is not valid before {identity.not_before:%Y-%m-%d %H:%M}Z: compare the clocks"
    return f"it does not accept {own}: is it of the CA that the nodes know?"
