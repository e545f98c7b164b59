"""Whether a dcron node answers at an address."""

from __future__ import annotations

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dcron.adapters.grpc.channel import open_channel
from dcron.credentials import Credentials

__all__ = ["ask_health"]

ANSWER_SECONDS = 3.0


async def ask_health(address: str, credentials: Credentials | None = None) -> str:
    """Reason why the node at host:port does not serve, in words; empty when it does."""
    async with open_channel(address, credentials, (("grpc.enable_http_proxy", 0),)) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=ANSWER_SECONDS
            )
        except aio.AioRpcError as error:
            return _words(error)
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "" if serving else "it answers, and waits for its stores"


def _words(error: aio.AioRpcError) -> str:
    details = error.details() or error.code().name
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time"
    if "Connection refused" in details:
        return "connection refused"
    if details.startswith("DNS resolution failed"):
        return "unknown host"
    return details
