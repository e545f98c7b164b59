"""await_serving.py HOST:PORT SECONDS [FOLDER]: waits until a node's gRPC health check says SERVING.

FOLDER has the certificates of a node that speaks TLS. Runs with a release's Python.
"""

import sys
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

CALL_SECONDS = 2.0
PAUSE_SECONDS = 0.2


def connect(address: str, folder: str) -> grpc.Channel:
    """A channel to the node, by TLS where there is a folder of certificates."""
    options = (("grpc.enable_http_proxy", 0),)
    if not folder:
        return grpc.insecure_channel(address, options)
    ca, key, certificate = (
        Path(folder, name).read_bytes() for name in ("ca.pem", "key.pem", "certificate.pem")
    )
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate), options)


def ask(address: str, folder: str) -> str:
    """Why the node does not serve; empty when it does."""
    with connect(address, folder) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS
            )
        except grpc.RpcError as error:
            return error.details() or error.code().name
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "" if serving else "it answers, and waits for its stores"


def main(address: str, seconds: float, folder: str = "") -> str | None:
    """Why the node did not serve in time; None when it does."""
    until = time.monotonic() + seconds
    while trouble := ask(address, folder):
        if time.monotonic() > until:
            return f"{address} did not serve within {seconds:g} s: {trouble}; see 'journalctl -u dcron'"
        time.sleep(PAUSE_SECONDS)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), *sys.argv[3:]))
