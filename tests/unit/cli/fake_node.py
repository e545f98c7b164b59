"""A real gRPC server on loopback whose answers a test writes down."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dcron.credentials import CertificateFiles
from dcron.rpc import dcron_pb2 as pb
from dcron.rpc import dcron_pb2_grpc

Handler = Callable[[Any, grpc.ServicerContext], Any]
METHODS = tuple(pb.DESCRIPTOR.services_by_name["Public"].methods_by_name)


class _Health(health_pb2_grpc.HealthServicer):
    def Check(self, request: Any, context: grpc.ServicerContext) -> health_pb2.HealthCheckResponse:  # noqa: N802
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


@dataclass
class FakeNode:
    """A node whose methods answer what `on` says, and anything else with UNIMPLEMENTED."""

    calls: list[tuple[str, Any]] = field(default_factory=list)
    address: str = ""
    _handlers: dict[str, Handler] = field(default_factory=dict)
    _server: Any = None

    def start(self, tls: CertificateFiles | None = None) -> None:
        servicer = type("Servicer", (dcron_pb2_grpc.PublicServicer,), {m: self._method(m) for m in METHODS})
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        dcron_pb2_grpc.add_PublicServicer_to_server(servicer(), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(_Health(), self._server)
        self.address = f"127.0.0.1:{_listen(self._server, tls)}"
        self._server.start()

    def stop(self) -> None:
        """End all calls at once, as a crash does."""
        self._server.stop(None).wait()

    def on(self, method: str, answer: Any) -> None:
        """Let a method answer a message, or what a function of (request, context) makes."""
        assert method in METHODS
        self._handlers[method] = answer if callable(answer) else lambda request, context: answer

    def asked(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]

    def _method(self, name: str) -> Any:
        def answer(_servicer: Any, request: Any, context: grpc.ServicerContext) -> Any:
            taken = list(request) if name == "UploadScript" else request
            self.calls.append((name, taken))
            handler = self._handlers.get(name)
            if handler is None:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the test expects no {name}")
            return handler(taken, context)

        return answer


def _listen(server: grpc.Server, tls: CertificateFiles | None) -> int:
    if tls is None:
        return server.add_insecure_port("127.0.0.1:0")
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    credentials = grpc.ssl_server_credentials([pair], tls.ca.read_bytes(), require_client_auth=True)
    return server.add_secure_port("127.0.0.1:0", credentials)


def aborting(code: grpc.StatusCode, details: str) -> Handler:
    return lambda request, context: context.abort(code, details)


def instant(text: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromJsonString(text)
    return stamp


class Done(NamedTuple):
    exit_code: int
    out: str
    err: str
    seconds: float
