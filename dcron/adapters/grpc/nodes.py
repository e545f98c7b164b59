"""Talking to other nodes by gRPC."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import grpc
from grpc import aio

from dcron.adapters.grpc.channel import open_channel
from dcron.credentials import Credentials
from dcron.domain.errors import NodeUnreachable, NotFound
from dcron.domain.offers import ClaimReference, KnownClaims, OfferAnswer, OfferedAttempt
from dcron.rpc import dcron_pb2 as pb
from dcron.rpc import dcron_pb2_grpc
from dcron.wire import CHANNEL_MESSAGE_BYTES, answer_from, attempt_message

if TYPE_CHECKING:
    from dcron.certificates import CredentialWatch

__all__ = ["OFFER_SECONDS", "SILENT_CONNECTION_SECONDS", "GrpcNodeClient"]

OFFER_SECONDS = 4.0
"""Deadline of an offer."""
KEEPALIVE_SECONDS = 10.0
KEEPALIVE_TIMEOUT_SECONDS = 5.0
SILENT_CONNECTION_SECONDS = KEEPALIVE_SECONDS + KEEPALIVE_TIMEOUT_SECONDS
"""A connection on which nothing came for so long is given up: what was sent on it comes no later."""
CALL_SECONDS = 3.0
"""Deadline of every call but an offer; of a log that is followed, for the worker's first sign."""
MAX_CHANNELS = 256
"""Nodes to which connections are kept; the one used longest ago is closed for a further one."""
CLOSE_GRACE_SECONDS = 5.0

_OPTIONS = (
    # Nodes reach each other directly, whatever the environment says of proxies.
    ("grpc.enable_http_proxy", 0),
    # Not even gRPC itself may send a call twice.
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", CHANNEL_MESSAGE_BYTES),
    ("grpc.max_send_message_length", CHANNEL_MESSAGE_BYTES),
    # How a followed log learns that its node is gone.
    ("grpc.keepalive_time_ms", int(KEEPALIVE_SECONDS * 1000)),
    ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_SECONDS * 1000)),
    # A node that comes back is to be tried within about its lease, not after minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class _Connection:
    """One that is kept, and what it was made with."""

    channel: aio.Channel
    credentials: Credentials | None


class GrpcNodeClient:
    """`NodeClient` over one kept connection per address.

    With `credentials` by TLS: a node is believed when its certificate has the host of its address."""

    def __init__(self, credentials: CredentialWatch | None = None) -> None:
        self._credentials = credentials
        self._connections: OrderedDict[str, _Connection] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    async def offer(
        self,
        address: str,
        node_id: str,
        term: int,
        number: int,
        leader_id: str,
        attempts: Sequence[OfferedAttempt],
    ) -> list[OfferAnswer]:
        """See `NodeClient.offer`."""
        request = pb.OfferRequest(
            term=term,
            number=number,
            leader_id=leader_id,
            node_id=node_id,
            attempts=[attempt_message(attempt) for attempt in attempts],
        )
        response = await _answer(address, self._stub(address).Offer(request, timeout=OFFER_SECONDS))
        if len(response.answers) != len(attempts):
            raise NodeUnreachable(
                f"node at {address} gave {len(response.answers)} answers to {len(attempts)} attempts"
            )
        return [answer_from(answer) for answer in response.answers]

    async def cancel(self, address: str, execution_id: str) -> bool:
        """See `NodeClient.cancel`."""
        request = pb.InternalCancelRequest(execution_id=execution_id)
        return (await _answer(address, self._stub(address).Cancel(request, timeout=CALL_SECONDS))).found

    async def known_claims(self, address: str, node_id: str, claims: Sequence[ClaimReference]) -> KnownClaims:
        """See `NodeClient.known_claims`."""
        request = pb.CompareClaimsRequest(
            node_id=node_id,
            claims=[
                pb.ClaimReference(execution_id=claim.execution_id, token=claim.token) for claim in claims
            ],
        )
        response = await _answer(address, self._stub(address).CompareClaims(request, timeout=CALL_SECONDS))
        return KnownClaims(frozenset(response.known_tokens), frozenset(response.delivered_tokens))

    async def announce_resignation(self, address: str, term: int) -> None:
        """See `NodeClient.announce_resignation`."""
        request = pb.AnnounceResignationRequest(term=term)
        await _answer(address, self._stub(address).AnnounceResignation(request, timeout=CALL_SECONDS))

    async def follow_log(
        self, address: str, execution_id: str, offset: int, *, follow: bool
    ) -> AsyncIterator[bytes]:
        """See `NodeClient.follow_log`."""
        request = pb.FollowLogRequest(execution_id=execution_id, offset=offset, follow=follow)
        call = self._stub(address).FollowLog(request)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await call.initial_metadata()
            # A script may be silent for hours; a log that is not followed may not.
            async for chunk in call if follow else _brisk(call):
                yield chunk.data
        except aio.AioRpcError as error:
            raise _error(address, error) from error
        except TimeoutError as error:
            raise NodeUnreachable(f"node at {address} sent nothing for {CALL_SECONDS:g} s") from error
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close all connections; calls under way end."""
        connections = list(self._connections.values())
        self._connections.clear()
        await asyncio.gather(*(each.channel.close(None) for each in connections), *self._closing)

    def _stub(self, address: str) -> dcron_pb2_grpc.InternalAsyncStub:
        credentials = self._credentials.current() if self._credentials else None
        kept = self._connections.get(address)
        if kept is None or kept.credentials is not credentials:
            if kept is not None:
                self._part_with(kept)
            kept = _Connection(open_channel(address, credentials, _OPTIONS), credentials)
            self._connections[address] = kept
        self._connections.move_to_end(address)
        if len(self._connections) > MAX_CHANNELS:
            self._part_with(self._connections.popitem(last=False)[1])
        return dcron_pb2_grpc.InternalStub(kept.channel)

    def _part_with(self, connection: _Connection) -> None:
        """Close it once its calls have ended, or after CLOSE_GRACE_SECONDS."""
        closing = asyncio.create_task(connection.channel.close(CLOSE_GRACE_SECONDS))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def _answer(address: str, call: Awaitable[_Answer]) -> _Answer:
    try:
        return await call
    except aio.AioRpcError as error:
        raise _error(address, error) from error


async def _brisk(
    call: aio.UnaryStreamCall[pb.FollowLogRequest, pb.FollowLogResponse],
) -> AsyncIterator[pb.FollowLogResponse]:
    """Pass messages on; TimeoutError when the next one does not come in time."""
    while True:
        async with asyncio.timeout(CALL_SECONDS):
            message = await call.read()
        if not isinstance(message, pb.FollowLogResponse):  # gRPC's mark for the end
            return
        yield message


def _error(address: str, error: aio.AioRpcError) -> NotFound | NodeUnreachable:
    """NOT_FOUND is an answer; anything else means that there was none to rely on."""
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return NotFound(error.details() or "not found")
    return NodeUnreachable(f"node at {address}: {_reason(error)}")


def _reason(error: aio.AioRpcError) -> str:
    """Reason for a missing answer, without gRPC's own words where ours are shorter."""
    details = error.details() or ""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time"
    if error.code() is grpc.StatusCode.UNAVAILABLE and "Connection refused" in details:
        return "connection refused"
    return f"{error.code().name}: {details}"
