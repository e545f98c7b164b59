"""await_serving.py HOST:PORT SECONDS: waits until a node's gRPC health check says SERVING.

Runs with the Python of a release, which has what it imports.
"""

import sys
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

CALL_SECONDS = 2.0
PAUSE_SECONDS = 0.2


def ask(address: str) -> str:
    """Why the node does not serve; empty when it does."""
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS
            )
        except grpc.RpcError as error:
            return error.details() or error.code().name
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "" if serving else "it answers, and waits for its stores"


def main(address: str, seconds: float) -> str | None:
    until = time.monotonic() + seconds
    while trouble := ask(address):
        if time.monotonic() > until:
            return f"{address} did not serve within {seconds:g} s: {trouble}; see 'journalctl -u dcron'"
        time.sleep(PAUSE_SECONDS)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
