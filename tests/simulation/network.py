"""What nodes ask of each other, over a network that drops, delays and repeats it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import Context
from random import Random
from typing import TYPE_CHECKING, TypeVar

from dcron.domain.errors import DcronError, NodeUnreachable
from dcron.domain.offers import ClaimReference, KnownClaims, OfferAnswer, OfferedAttempt
from tests.simulation.history import History, Offered, OfferReached
from tests.simulation.loop import VirtualLoop

if TYPE_CHECKING:
    from tests.simulation.machine import Machine, Served

__all__ = ["Network", "NodeConnections"]

OFFER_SECONDS = 4.0
CALL_SECONDS = 3.0
"""The deadlines of the gRPC adapter."""
TRAVEL_SECONDS = (0.0002, 0.003)
REFUSAL_SECONDS = 0.001
REPEATED_SECONDS = 15.0

_Answer = TypeVar("_Answer")


class Network:
    """What is between the nodes. `cuts` are the pairs (from, to) that nothing passes."""

    def __init__(self, loop: VirtualLoop, random: Random, history: History) -> None:
        self.loop = loop
        self.history = history
        self.machines: dict[str, Machine] = {}
        self.cuts: set[tuple[str, str]] = set()
        self.lost = 0.0
        self.repeated = 0.0
        self.slow_seconds = 0.0
        self._random = random

    def clear(self) -> None:
        """Let all be well from now on."""
        self.cuts.clear()
        self.lost = self.repeated = self.slow_seconds = 0.0

    def passes(self, sender: str, receiver: str) -> bool:
        """Whether this message arrives."""
        return (sender, receiver) not in self.cuts and self._random.random() >= self.lost

    def is_repeated(self) -> bool:
        """Whether this message arrives twice."""
        return self._random.random() < self.repeated

    def lateness(self) -> float:
        """How long after the first the second copy of a message arrives."""
        return self._random.uniform(0, REPEATED_SECONDS)

    async def travel(self) -> None:
        """Let a message take its time."""
        seconds = self._random.uniform(*TRAVEL_SECONDS)
        if self.slow_seconds:
            seconds += self._random.uniform(0, self.slow_seconds)
        await asyncio.sleep(seconds)


class NodeConnections:
    """The `NodeClient` of one node; addresses are node ids."""

    def __init__(self, network: Network, node_id: str) -> None:
        self._network = network
        self._node_id = node_id

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
        wanted = tuple(attempts)

        async def ask(served: Served) -> list[OfferAnswer]:
            self._network.history.add(OfferReached(self._network.loop.time(), address, term))
            newest = served.newest_term
            served.newest_term = max(newest, term)
            answers = await served.worker.offer(node_id, term, number, leader_id, wanted)
            said = tuple(
                (each.execution_id, answer.result.value) for each, answer in zip(wanted, answers, strict=True)
            )
            now = self._network.loop.time()
            self._network.history.add(Offered(now, address, served.incarnation, term, newest, said))
            return answers

        return await self._call(address, ask, OFFER_SECONDS)

    async def cancel(self, address: str, execution_id: str) -> bool:
        """See `NodeClient.cancel`."""
        return await self._call(address, lambda served: served.worker.cancel(execution_id), CALL_SECONDS)

    async def known_claims(self, address: str, node_id: str, claims: Sequence[ClaimReference]) -> KnownClaims:
        """See `NodeClient.known_claims`."""
        wanted = tuple(claims)
        return await self._call(
            address, lambda served: served.worker.known_claims(node_id, wanted), CALL_SECONDS
        )

    async def follow_log(
        self, address: str, execution_id: str, offset: int, *, follow: bool
    ) -> AsyncIterator[bytes]:
        """Nobody follows a log in the simulation."""
        raise NodeUnreachable(f"logs of {execution_id} are not followed here")
        yield b""

    async def announce_resignation(self, address: str, term: int) -> None:
        """See `NodeClient.announce_resignation`."""
        await self._call(address, lambda served: served.elector.resignation(term), CALL_SECONDS)

    async def close(self) -> None:
        """Nothing is held open."""

    async def _call(
        self, address: str, ask: Callable[[Served], Awaitable[_Answer]], seconds: float
    ) -> _Answer:
        loop = self._network.loop
        answer: asyncio.Future[_Answer] = loop.create_future()
        loop.create_task(self._deliver(address, ask, answer), context=Context())
        if self._network.is_repeated():
            loop.create_task(self._repeat(address, ask, answer), context=Context())
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError as error:
            raise NodeUnreachable(f"node at {address} gave no answer in time") from error

    async def _repeat(
        self, address: str, ask: Callable[[Served], Awaitable[_Answer]], answer: asyncio.Future[_Answer]
    ) -> None:
        """Deliver a request once more, perhaps when another leader has taken over; but a connection, and what
        is on its way in it, ends with the process at its other end."""
        reached = self._network.machines[address].served
        await asyncio.sleep(self._network.lateness())
        if self._network.machines[address].served is reached:
            await self._deliver(address, ask, answer)

    async def _deliver(
        self, address: str, ask: Callable[[Served], Awaitable[_Answer]], answer: asyncio.Future[_Answer]
    ) -> None:
        """Carry a request there, have it answered in the other node, and carry the answer back."""
        network = self._network
        await network.travel()
        if not network.passes(self._node_id, address):
            return
        served = network.machines[address].served
        if served is None:
            await asyncio.sleep(REFUSAL_SECONDS)
            self._give(answer, None, NodeUnreachable(f"{address} refuses the connection"))
            return
        result, error = await served.call(ask)
        await network.travel()
        if network.passes(address, self._node_id):
            unreachable = NodeUnreachable(f"{address} failed: {error}") if error else None
            self._give(answer, result, unreachable)

    @staticmethod
    def _give(answer: asyncio.Future[_Answer], result: _Answer | None, error: DcronError | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)
            answer.exception()  # nobody may be there any more to look at it
