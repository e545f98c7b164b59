"""Service for other nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from grpc import aio

from dcron.domain.errors import InvalidInput
from dcron.domain.offers import MAX_OFFER, ClaimReference, KnownClaims, OfferAnswer, OfferedAttempt
from dcron.rpc import dcron_pb2 as pb
from dcron.rpc import dcron_pb2_grpc
from dcron.wire import answer_message, attempt_from

__all__ = ["MAX_CLAIM_REFERENCES", "Internal", "ResignationListener", "Worker"]

MAX_CLAIM_REFERENCES = 1_000
"""Claims in one question."""

_Context = aio.ServicerContext[Any, Any]


class Worker(Protocol):
    """This node in its script-running role."""

    async def offer(
        self, node_id: str, term: int, number: int, leader_id: str, attempts: Sequence[OfferedAttempt]
    ) -> list[OfferAnswer]:
        """One answer for each attempt, in order."""

    async def cancel(self, execution_id: str) -> bool:
        """Stop a script; False when it does not run here."""

    async def known_claims(self, node_id: str, claims: Sequence[ClaimReference]) -> KnownClaims:
        """Which of the claims it holds or has delivered; it writes the others off as lost."""

    def follow_log(self, execution_id: str, offset: int, *, follow: bool) -> AsyncIterator[bytes]:
        """The log of an attempt from the spool; NotFound when it is not there (any more)."""


class ResignationListener(Protocol):
    """This node's elector."""

    async def resignation(self, term: int) -> None:
        """Hear that a term has no leader any more."""


class Internal(dcron_pb2_grpc.InternalServicer):
    """The `Internal` service: converts, checks bounds, and hands over to worker and elector."""

    def __init__(self, worker: Worker, elector: ResignationListener) -> None:
        self._worker = worker
        self._elector = elector

    async def Offer(self, request: pb.OfferRequest, context: _Context) -> pb.OfferResponse:
        """See proto/dcron.proto."""
        if len(request.attempts) > MAX_OFFER:
            raise InvalidInput(
                "attempts", f"there are {len(request.attempts)}, at most {MAX_OFFER} are taken"
            )
        attempts = [attempt_from(attempt) for attempt in request.attempts]
        answers = await self._worker.offer(
            request.node_id, request.term, request.number, request.leader_id, attempts
        )
        return pb.OfferResponse(answers=[answer_message(answer) for answer in answers])

    async def Cancel(self, request: pb.InternalCancelRequest, context: _Context) -> pb.InternalCancelResponse:
        """See proto/dcron.proto."""
        return pb.InternalCancelResponse(found=await self._worker.cancel(request.execution_id))

    async def CompareClaims(
        self, request: pb.CompareClaimsRequest, context: _Context
    ) -> pb.CompareClaimsResponse:
        """See proto/dcron.proto."""
        if len(request.claims) > MAX_CLAIM_REFERENCES:
            raise InvalidInput(
                "claims", f"there are {len(request.claims)}, at most {MAX_CLAIM_REFERENCES} are taken"
            )
        claims = [ClaimReference(claim.execution_id, claim.token) for claim in request.claims]
        answer = await self._worker.known_claims(request.node_id, claims)
        return pb.CompareClaimsResponse(
            known_tokens=sorted(answer.known), delivered_tokens=sorted(answer.delivered)
        )

    async def AnnounceResignation(
        self, request: pb.AnnounceResignationRequest, context: _Context
    ) -> pb.AnnounceResignationResponse:
        """See proto/dcron.proto."""
        await self._elector.resignation(request.term)
        return pb.AnnounceResignationResponse()

    async def FollowLog(
        self, request: pb.FollowLogRequest, context: _Context
    ) -> AsyncIterator[pb.FollowLogResponse]:
        """See proto/dcron.proto."""
        if request.offset < 0:
            raise InvalidInput("offset", f"{request.offset} is not valid; give 0 or more")
        # A script may print nothing for hours: this tells the asking node that it is heard.
        await context.send_initial_metadata(())
        chunks = self._worker.follow_log(request.execution_id, request.offset, follow=request.follow)
        async for chunk in chunks:
            yield pb.FollowLogResponse(data=chunk)
