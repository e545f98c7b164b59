"""Connections to other nodes, by TLS where a node has a certificate."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from grpc import aio

from dcron.credentials import Credentials

__all__ = ["open_channel"]


def open_channel(
    address: str, credentials: Credentials | None, options: Sequence[tuple[str, int]]
) -> aio.Channel:
    """A channel to host:port; with credentials it presents them, and demands that the other's certificate
    is of our CA and names the host."""
    if credentials is None:
        return aio.insecure_channel(address, options=options)
    presented = grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.certificate)
    return aio.secure_channel(address, presented, options=options)
