"""The gRPC server of a node: both services, health and reflection on one port."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from dcron.api.access import AccessInterceptor
from dcron.api.audit import AuditInterceptor
from dcron.api.errors import ErrorInterceptor
from dcron.credentials import Credentials
from dcron.domain.errors import SetupError
from dcron.rpc import dcron_pb2, dcron_pb2_grpc
from dcron.services.clients.gate import Gate
from dcron.wire import CHANNEL_MESSAGE_BYTES

if TYPE_CHECKING:
    from dcron.certificates import CredentialWatch

__all__ = ["PUBLIC_SERVICE", "ApiServer"]

PUBLIC_SERVICE = dcron_pb2.DESCRIPTOR.services_by_name["Public"].full_name
INTERNAL_SERVICE = dcron_pb2.DESCRIPTOR.services_by_name["Internal"].full_name
MAX_CONCURRENT_CALLS = 1_000
"""Calls at once, followed logs among them; further ones are refused with RESOURCE_EXHAUSTED."""
MIN_PING_SECONDS = 5
"""Clients and nodes may ask for a sign of life this often; gRPC's own limit of minutes would cut them off."""
KEEPALIVE_SECONDS = 30
"""Period of asking a client that reads a stream for a sign of life."""

_OPTIONS = (
    # Two nodes on one port would each get some of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", CHANNEL_MESSAGE_BYTES),
    ("grpc.max_send_message_length", CHANNEL_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_SECONDS * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
)
CONNECTION_SECONDS = 3_600
"""Time for which a connection takes calls with TLS. Then the client makes another one, for which its
certificate is looked at anew; calls under way go on."""
_HEALTH_NAMES = ("", PUBLIC_SERVICE)


class ApiServer:
    """Serves at `listen` (host:port; port 0 for a free one). Not SERVING until told so.

    With `credentials` by TLS, to those who have a certificate of the CA, as far as their roles go.
    Every change is recorded in `trail`."""

    def __init__(
        self,
        listen: str,
        public: dcron_pb2_grpc.PublicServicer,
        internal: dcron_pb2_grpc.InternalServicer,
        gate: Gate,
        credentials: CredentialWatch | None = None,
    ) -> None:
        self._listen = listen
        self._gate = gate
        self._credentials = credentials
        self._public = public
        self._internal = internal
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._server: aio.Server | None = None

    async def start(self) -> int:
        """Listen, and return the port. SetupError when that is not possible, as when the port is in use."""
        server = aio.server(
            interceptors=[
                ErrorInterceptor(),
                *([AccessInterceptor(self._gate)] if self._credentials else []),
                AuditInterceptor(self._gate),
            ],
            options=_OPTIONS if self._credentials is None else (*_OPTIONS, _connection_age()),
            maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
        )
        dcron_pb2_grpc.add_PublicServicer_to_server(self._public, server)
        dcron_pb2_grpc.add_InternalServicer_to_server(self._internal, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(
            (PUBLIC_SERVICE, INTERNAL_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
        await self.set_serving(False)
        try:
            port = (
                server.add_secure_port(self._listen, _server_credentials(self._credentials))
                if self._credentials
                else server.add_insecure_port(self._listen)
            )
        except RuntimeError:
            raise SetupError(
                f"cannot listen on {self._listen}: the port is in use, or the address is not this machine's"
            ) from None
        await server.start()
        self._server = server
        return port

    async def set_serving(self, serving: bool) -> None:  # noqa: FBT001 - it is all there is to say
        """Tell health checks whether this node can do its work."""
        status = health_pb2.HealthCheckResponse
        for name in _HEALTH_NAMES:
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, give those under way this long, then end them."""
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)
        self._server = None


def _connection_age() -> tuple[str, int]:
    return "grpc.max_connection_age_ms", CONNECTION_SECONDS * 1000


def _server_credentials(watch: CredentialWatch) -> grpc.ServerCredentials:
    """Credentials that are looked at anew for each connection; nobody gets in without a certificate."""
    logged = copy_context()
    given = watch.current()

    def what_is_new() -> grpc.ServerCertificateConfiguration | None:
        # gRPC asks from threads of its own, which know nothing of what our log lines carry.
        nonlocal given
        present = logged.copy().run(watch.current)
        if present is given:
            return None
        given = present
        return _configuration(present)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given),
        what_is_new,  # type: ignore[arg-type]  # None means nothing, which the stubs do not know
        require_client_authentication=True,
    )


def _configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(credentials.key, credentials.certificate)], credentials.ca
    )
