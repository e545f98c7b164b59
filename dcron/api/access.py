"""Who may call what: one table for all methods of a node, and the interceptor that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc
import structlog

from dcron.api.handlers import Context, Interceptor, guarded
from dcron.domain.access import ANONYMOUS, Caller, Role, refusal, roles_of

__all__ = ["HEALTH_PREFIX", "LEAST_ROLE", "AccessInterceptor", "caller_of"]

HEALTH_PREFIX = "/grpc.health.v1.Health/"
"""Open to every certificate of the CA: whoever is refused later learns why."""

_PUBLIC = "/dcron.v1.Public/"
_INTERNAL = "/dcron.v1.Internal/"

LEAST_ROLE: Mapping[str, Role] = {
    f"{_PUBLIC}PrepareUpload": Role.OPERATOR,
    f"{_PUBLIC}UploadScript": Role.OPERATOR,
    f"{_PUBLIC}GetScript": Role.VIEWER,
    f"{_PUBLIC}CreateJob": Role.OPERATOR,
    f"{_PUBLIC}CreateJobs": Role.OPERATOR,
    f"{_PUBLIC}UpdateJob": Role.OPERATOR,
    f"{_PUBLIC}DeleteJob": Role.OPERATOR,
    f"{_PUBLIC}GetJob": Role.VIEWER,
    f"{_PUBLIC}ListJobs": Role.VIEWER,
    f"{_PUBLIC}GetJobRevision": Role.VIEWER,
    f"{_PUBLIC}ListJobRevisions": Role.VIEWER,
    f"{_PUBLIC}PauseJob": Role.OPERATOR,
    f"{_PUBLIC}ResumeJob": Role.OPERATOR,
    f"{_PUBLIC}RunJob": Role.OPERATOR,
    f"{_PUBLIC}NextOccurrences": Role.VIEWER,
    f"{_PUBLIC}ListExecutions": Role.VIEWER,
    f"{_PUBLIC}GetExecution": Role.VIEWER,
    f"{_PUBLIC}WaitExecution": Role.VIEWER,
    f"{_PUBLIC}ReadLog": Role.VIEWER,
    f"{_PUBLIC}CancelExecution": Role.OPERATOR,
    f"{_PUBLIC}ResolveExecution": Role.OPERATOR,
    f"{_PUBLIC}ListNodes": Role.VIEWER,
    f"{_PUBLIC}DrainNode": Role.ADMIN,
    f"{_PUBLIC}UndrainNode": Role.ADMIN,
    f"{_PUBLIC}ForgetNode": Role.ADMIN,
    f"{_PUBLIC}GetClusterStatus": Role.VIEWER,
    f"{_PUBLIC}FreezeCluster": Role.ADMIN,
    f"{_PUBLIC}ThawCluster": Role.ADMIN,
    f"{_PUBLIC}ListAudit": Role.OPERATOR,
    f"{_INTERNAL}Offer": Role.NODE,
    f"{_INTERNAL}Cancel": Role.NODE,
    f"{_INTERNAL}CompareClaims": Role.NODE,
    f"{_INTERNAL}AnnounceResignation": Role.NODE,
    f"{_INTERNAL}FollowLog": Role.NODE,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Role.VIEWER,
}
"""The least role for each method; one that is not here, nobody may call."""

log = structlog.get_logger()


class AccessInterceptor(Interceptor):
    """Ends a call with PERMISSION_DENIED when the caller's certificate does not have the role for it."""

    def wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """Put the check before the method."""
        if method.startswith(HEALTH_PREFIX):
            return handler  # type: ignore[no-any-return]  # as it came
        return guarded(handler, partial(_admit, method))


async def _admit(method: str, context: Context) -> None:
    least = LEAST_ROLE.get(method)
    caller = caller_of(context)
    reason = refusal(caller, least) if least else f"{method} is open to nobody"
    if reason:
        log.warning(
            "call refused",
            action="access",
            method=method,
            who=caller.name,
            where=caller.address,
            error=reason,
        )
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)


def caller_of(context: Context) -> Caller:
    """Whoever makes a call: by the certificate that TLS has verified; ANONYMOUS where there is none."""
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
