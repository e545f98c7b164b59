"""Tells the gate who calls what by gRPC, and ends what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import grpc

from dcron.api.handlers import Context, Interceptor, guarded
from dcron.domain.access import ANONYMOUS, Caller, roles_of
from dcron.domain.errors import Forbidden
from dcron.rpc import dcron_pb2 as pb
from dcron.services.clients.gate import Gate

__all__ = ["HEALTH_PREFIX", "METHODS", "AccessInterceptor", "caller_of"]

HEALTH_PREFIX = "/grpc.health.v1.Health/"
"""Open to every certificate of the CA: whoever is refused later learns why."""

METHODS: Mapping[str, str] = {
    f"/{service.full_name}/{method.name}": method.name
    for service in pb.DESCRIPTOR.services_by_name.values()
    for method in service.methods
} | {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "ServerReflectionInfo"}
"""The name by which the gate knows each method."""


class AccessInterceptor(Interceptor):
    """Ends a call with PERMISSION_DENIED when the gate does not admit its caller."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """Put the check before the method."""
        if method.startswith(HEALTH_PREFIX):
            return handler  # type: ignore[no-any-return]  # as it came
        name = METHODS.get(method, method)

        async def admit(context: Context) -> None:
            try:
                self._gate.admit(caller_of(context), name)
            except Forbidden as error:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))

        return guarded(handler, admit)


def caller_of(context: Context) -> Caller:
    """Caller of a method, by the certificate that TLS has verified; ANONYMOUS where there is none."""
    address = _address(context.peer())
    certificates = list(context.auth_context().get("x509_pem_cert", ()))
    if not certificates:
        return Caller(ANONYMOUS, frozenset(), address)
    from dcron.certificates import identity_of

    identity = identity_of(certificates[0])
    return Caller(identity.name, roles_of(identity.units), address)


def _address(peer: str) -> str:
    """host:port of gRPC's `ipv4:host:port` and `ipv6:%5Bhost%5D:port`."""
    return unquote(peer.partition(":")[2])
