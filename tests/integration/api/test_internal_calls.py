"""What nodes ask of each other, by real gRPC."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from dcron.domain.errors import NodeUnreachable, NotFound
from dcron.domain.model import Coalesced, Specification
from dcron.domain.model import Script as ScriptValue
from dcron.domain.offers import MAX_OFFER, ClaimReference, KnownClaims, OfferedAttempt, OfferResult
from tests.integration.api.served_node import DIGEST, NOW, Node


class TestInternal:
    ATTEMPT = OfferedAttempt(
        "01KJQ6QPSGV6T0RF17PAD5PWR0:20260302T120000Z:001",
        "report",
        3,
        Specification("@daily", ScriptValue(DIGEST, 5, "x"), labels={"a": "b"}),
        NOW,
        manual=True,
        coalesced=Coalesced(NOW, None),
    )

    async def test_an_offer_arrives_whole_and_is_answered_in_order(self, node: Node) -> None:
        attempts = [
            self.ATTEMPT,
            replace(self.ATTEMPT, coalesced=Coalesced(NOW, 4)),
            replace(self.ATTEMPT, coalesced=None, start_in_seconds=1.5),
        ]
        answers = await node.client.offer(node.address, "n1", 4, 7, "n9", attempts)
        assert node.worker.offered == attempts
        assert [answer.result for answer in answers] == [
            OfferResult.ACCEPTED,
            OfferResult.BUSY,
            OfferResult.BUSY,
        ]
        assert answers[1].reason == "all slots are taken"

    async def test_the_largest_offer_fits_into_a_message(self, node: Node) -> None:
        large = replace(self.ATTEMPT.specification, arguments=("x" * 65_000,))
        attempts = [replace(self.ATTEMPT, specification=large)] * MAX_OFFER
        assert len(await node.client.offer(node.address, "n1", 4, 7, "n9", attempts)) == MAX_OFFER
        with pytest.raises(NodeUnreachable, match="at most 500"):
            await node.client.offer(node.address, "n1", 4, 7, "n9", [self.ATTEMPT] * (MAX_OFFER + 1))

    @pytest.mark.parametrize("seconds", [-0.1, 2.1, 1e10])
    async def test_an_instant_that_is_not_about_to_come_is_refused(self, node: Node, seconds: float) -> None:
        with pytest.raises(NodeUnreachable, match=r"start_in: .* is not valid; give 0 to 2"):
            await node.client.offer(
                node.address, "n1", 4, 7, "n9", [replace(self.ATTEMPT, start_in_seconds=seconds)]
            )
        assert not node.worker.offered

    async def test_a_worker_is_asked_to_cancel_and_what_it_holds(self, node: Node) -> None:
        node.worker.running.add("e1")
        assert await node.client.cancel(node.address, "e1")
        assert not await node.client.cancel(node.address, "e2")
        node.worker.delivered = frozenset({"t3"})
        claims = [ClaimReference(f"e{number}", f"t{number}") for number in (1, 2, 3)]
        answer = await node.client.known_claims(node.address, "n1", claims)
        assert answer == KnownClaims(frozenset({"t1", "t3"}), frozenset({"t3"}))

    async def test_a_resignation_is_heard(self, node: Node) -> None:
        await node.client.announce_resignation(node.address, 4)
        assert node.elector.heard == [4]

    async def test_a_log_is_read_from_an_offset_and_not_found_is_told(self, node: Node) -> None:
        node.worker.logs["e1"] = b"0123456789"
        chunks = node.client.follow_log(node.address, "e1", 4, follow=False)
        assert [chunk async for chunk in chunks] == [b"456789"]
        with pytest.raises(NotFound, match="not in the spool"):
            await anext(node.client.follow_log(node.address, "e2", 0, follow=False))

    async def test_a_node_that_is_not_there_is_unreachable(self, node: Node) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{bound.getsockname()[1]}"
            with pytest.raises(NodeUnreachable, match=address):
                await node.client.cancel(address, "e1")
            with pytest.raises(NodeUnreachable, match=address):
                await anext(node.client.follow_log(address, "e1", 0, follow=True))

    async def test_a_node_that_does_not_answer_is_unreachable_in_time(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("dcron.adapters.grpc.nodes.OFFER_SECONDS", 0.2)
        node.worker.slow = True
        with pytest.raises(NodeUnreachable, match="no answer in time"):
            await node.client.offer(node.address, "n1", 4, 7, "n9", [self.ATTEMPT])

    async def test_a_node_that_is_silent_in_mid_log_is_unreachable_in_time(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def hangs(*_: object, follow: bool) -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.Event().wait()

        monkeypatch.setattr("dcron.adapters.grpc.nodes.CALL_SECONDS", 0.3)
        monkeypatch.setattr(node.worker, "follow_log", hangs)
        chunks = node.client.follow_log(node.address, "e1", 0, follow=False)
        assert await anext(chunks) == b"first"
        with pytest.raises(NodeUnreachable, match="sent nothing"):
            await anext(chunks)

    async def test_connections_are_bounded(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dcron.adapters.grpc.nodes.MAX_CHANNELS", 1)
        port = node.address.rsplit(":", 1)[1]
        for address in (node.address, f"localhost:{port}", node.address):
            assert not await node.client.cancel(address, "e1")
        assert list(node.client._connections) == [node.address]
