"""Executions are shown as the documents have them, and logs are found wherever they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.domain import changes
from dcron.domain.documents import verdict_id
from dcron.domain.errors import (
    FailedPrecondition,
    InvalidInput,
    NodeUnreachable,
    NotFound,
    ObjectsUnreachable,
    StoreUnreachable,
)
from dcron.domain.job_documents import job_body
from dcron.domain.model import Claim, LogObject, State, VerdictKind
from dcron.domain.nodes import LeaderReport, Waiting
from dcron.domain.views import execution_view
from dcron.ports import JOBS, Document, WriteKind
from dcron.services.clients import executions as module
from dcron.services.clients.answering import LONG_AGO
from dcron.services.clients.executions import Executions
from tests.doubles import FakeNodes, ManualClock
from tests.unit.services.clients.execution_samples import NAME, OTHER_UID, UID, claim_at, outcome_for, put
from tests.unit.services.doubles import SPECIFICATION, START, FakeDirectory, SplitStore


@pytest.fixture
async def store() -> SplitStore:
    store = SplitStore()
    await store.prepare()
    for name, uid in ((NAME, UID), ("other", OTHER_UID)):
        job = changes.create(name, uid, SPECIFICATION, START, paused=False)
        await store.write(JOBS, [Document(name, job_body(job))])
    return store


@pytest.fixture
def objects() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def nodes() -> FakeNodes:
    return FakeNodes()


@pytest.fixture
def directory() -> FakeDirectory:
    return FakeDirectory()


@pytest.fixture
def history(
    store: SplitStore, objects: MemoryObjectStore, nodes: FakeNodes, directory: FakeDirectory
) -> Executions:
    return Executions(store, objects, nodes, ManualClock(START), directory)


async def text_of(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def chunk_of(text: bytes) -> AsyncIterator[bytes]:
    yield text


class TestAssembling:
    def test_an_execution_without_outcome_runs(self) -> None:
        claim = claim_at(START)
        view = execution_view([claim], {}, None)
        assert view.state is State.RUNNING
        assert view.open_claims == (claim,)

    def test_the_outcome_of_a_started_script_is_the_true_one(self) -> None:
        first, second = claim_at(START, mark="t1"), replace(claim_at(START, mark="t2"), node_id="n3")
        outcomes = {
            "t1": outcome_for(first, State.NOT_STARTED),
            "t2": outcome_for(second, State.FAILED),
        }
        view = execution_view([first, second], outcomes, None)
        assert (view.state, view.claim) == (State.FAILED, second)

    def test_not_started_holds_only_once_every_claimant_says_so(self) -> None:
        first, second = claim_at(START, mark="t1"), claim_at(START, mark="t2")
        outcomes = {"t1": outcome_for(first, State.NOT_STARTED)}
        view = execution_view([first, second], outcomes, None)
        assert (view.state, view.claim, view.open_claims) == (State.RUNNING, second, (second,))
        outcomes["t2"] = outcome_for(second, State.NOT_STARTED)
        assert execution_view([first, second], outcomes, None).state is State.NOT_STARTED

    @pytest.mark.parametrize("order", [("t1", "t2"), ("t2", "t1")])
    def test_a_claimant_that_lost_its_claim_does_not_hide_one_that_ran_or_runs(
        self, order: tuple[str, str]
    ) -> None:
        claims = [claim_at(START, mark=mark) for mark in order]
        lost, ran = sorted(claims, key=lambda claim: claim.token)
        outcomes = {"t1": outcome_for(lost, State.LOST)}
        view = execution_view(claims, outcomes, None)
        assert (view.state, view.claim) == (State.RUNNING, ran)
        outcomes |= {"t2": outcome_for(ran, State.NOT_STARTED)}
        assert execution_view(claims, outcomes, None).state is State.LOST
        outcomes |= {"t2": outcome_for(ran, State.SUCCEEDED)}
        view = execution_view(claims, outcomes, None)
        assert (view.state, view.claim) == (State.SUCCEEDED, ran)

    def test_there_is_no_execution_without_a_claim(self) -> None:
        assert execution_view([], {}, None) is None


class TestOne:
    async def test_one_that_needs_a_person_says_so(
        self, history: Executions, store: SplitStore, directory: FakeDirectory
    ) -> None:
        claim = claim_at(START)
        await put(store, claim)
        assert not (await history.get(claim.execution_id)).needs_attention
        directory.said = LeaderReport(attention=(claim.execution_id,))
        assert (await history.get(claim.execution_id)).needs_attention

    async def test_one_that_waits_is_not_found_with_the_reason(
        self, history: Executions, directory: FakeDirectory
    ) -> None:
        identifier = claim_at(START).execution_id
        directory.said = LeaderReport(waiting=(Waiting(NAME, identifier, "all slots are taken"),))
        with pytest.raises(NotFound, match="has not started: all slots are taken"):
            await history.get(identifier)

    @pytest.mark.parametrize("identifier", ["", "nonsense", "a:b:c", f"{UID}:20260302T120030Z:001"])
    async def test_an_unknown_one_is_not_found(self, history: Executions, identifier: str) -> None:
        with pytest.raises(NotFound):
            await history.get(identifier)


class TestLogs:
    LOG = b"line 1\nline 2\n"

    async def ended(self, store: SplitStore, *, with_log: bool = True) -> Claim:
        claim = claim_at(START)
        log = LogObject("logs/x", len(self.LOG)) if with_log else None
        await put(store, claim, outcome_for(claim, State.SUCCEEDED, log=log))
        return claim

    async def test_a_kept_log_is_read_from_the_object_store(
        self, history: Executions, store: SplitStore, objects: MemoryObjectStore, nodes: FakeNodes
    ) -> None:
        claim = await self.ended(store)
        nodes.reachable = False
        await objects.put_stream("logs/x", chunk_of(self.LOG), max_bytes=100)
        assert await text_of(history.read_log(claim.execution_id, follow=True)) == self.LOG

    async def test_a_log_that_is_not_kept_yet_is_read_from_its_node(
        self, history: Executions, store: SplitStore, nodes: FakeNodes
    ) -> None:
        claim = await self.ended(store)
        nodes.logs[claim.execution_id] = self.LOG
        assert await text_of(history.read_log(claim.execution_id, follow=False)) == self.LOG

    async def test_an_object_store_that_breaks_off_is_gone_on_from_by_the_node(
        self, store: SplitStore, nodes: FakeNodes, directory: FakeDirectory
    ) -> None:
        class Breaking(MemoryObjectStore):
            async def read(self, key: str, *, offset: int = 0) -> AsyncIterator[bytes]:
                yield TestLogs.LOG[:5]
                raise ObjectsUnreachable("broke off")

        claim = await self.ended(store)
        nodes.logs[claim.execution_id] = self.LOG
        history = Executions(store, Breaking(), nodes, ManualClock(START), directory)
        assert await text_of(history.read_log(claim.execution_id, follow=False)) == self.LOG

    async def test_a_log_that_cannot_be_had_says_where_it_is(
        self, history: Executions, store: SplitStore, nodes: FakeNodes
    ) -> None:
        claim = await self.ended(store)
        nodes.reachable = False
        with pytest.raises(NodeUnreachable, match="not in the object store yet and node n2, which holds it"):
            await text_of(history.read_log(claim.execution_id, follow=False))
        nodes.reachable = True
        with pytest.raises(NotFound, match="neither in the object store nor on node n2"):
            await text_of(history.read_log(claim.execution_id, follow=False))

    async def test_a_log_that_moves_while_it_is_looked_for_is_found(
        self, history: Executions, store: SplitStore, objects: MemoryObjectStore, nodes: FakeNodes
    ) -> None:
        claim = await self.ended(store)

        async def upload() -> None:
            await objects.put_stream("logs/x", chunk_of(self.LOG), max_bytes=100)

        nodes.before_answer = upload
        assert await text_of(history.read_log(claim.execution_id, follow=False)) == self.LOG

    async def test_a_running_one_is_followed_on_its_node(
        self, history: Executions, store: SplitStore, nodes: FakeNodes
    ) -> None:
        claim = claim_at(START)
        await put(store, claim)
        nodes.logs[claim.execution_id] = self.LOG
        assert await text_of(history.read_log(claim.execution_id, follow=True)) == self.LOG

    async def test_one_that_ends_while_it_is_looked_for_is_read_from_the_object_store(
        self, history: Executions, store: SplitStore, objects: MemoryObjectStore, nodes: FakeNodes
    ) -> None:
        claim = claim_at(START)
        await put(store, claim)

        async def end() -> None:
            nodes.before_answer = None
            await objects.put_stream("logs/x", chunk_of(self.LOG), max_bytes=100)
            log = LogObject("logs/x", len(self.LOG))
            await put(store, outcome_for(claim, State.SUCCEEDED, log=log))

        nodes.before_answer = end
        assert await text_of(history.read_log(claim.execution_id, follow=True)) == self.LOG

    async def test_one_that_printed_nothing_has_an_empty_log(
        self, history: Executions, store: SplitStore
    ) -> None:
        claim = await self.ended(store, with_log=False)
        assert await text_of(history.read_log(claim.execution_id, follow=False)) == b""


class TestCancelling:
    async def test_its_worker_is_asked(
        self, history: Executions, store: SplitStore, nodes: FakeNodes
    ) -> None:
        claim = claim_at(START)
        await put(store, claim)
        nodes.running.add(claim.execution_id)
        assert await history.cancel(claim.execution_id) == "n2"

    async def test_what_has_ended_cannot_be_cancelled(self, history: Executions, store: SplitStore) -> None:
        claim = claim_at(START)
        await put(store, claim, outcome_for(claim, State.FAILED))
        with pytest.raises(FailedPrecondition, match="has ended already: failed"):
            await history.cancel(claim.execution_id)

    async def test_what_just_ended_on_its_worker_is_told_so(
        self, history: Executions, store: SplitStore
    ) -> None:
        claim = claim_at(START)
        await put(store, claim)
        with pytest.raises(FailedPrecondition, match="its outcome is on its way"):
            await history.cancel(claim.execution_id)

    async def test_a_worker_out_of_reach_suggests_resolving(
        self, history: Executions, store: SplitStore, nodes: FakeNodes
    ) -> None:
        claim = claim_at(START)
        await put(store, claim)
        nodes.reachable = False
        with pytest.raises(FailedPrecondition, match=f"dcron execution resolve {claim.execution_id}"):
            await history.cancel(claim.execution_id)


class TestResolving:
    @pytest.fixture(autouse=True)
    def no_waiting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "AHEAD_SECONDS", 0.0)

    async def test_a_verdict_waits_until_what_was_claimed_ahead_of_its_instant_has_started(
        self, history: Executions, store: SplitStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "AHEAD_SECONDS", 1.0)
        long_ago, claim = claim_at(START - 2 * LONG_AGO), claim_at(START + timedelta(seconds=1))
        await put(store, long_ago, claim)
        resolving = asyncio.create_task(
            history.resolve(claim.execution_id, VerdictKind.FAILED, "operator", "disk died")
        )
        async with asyncio.timeout(0.8):
            await history.resolve(long_ago.execution_id, VerdictKind.FAILED, "operator", "disk died")
        assert (await history.get(claim.execution_id)).verdict is None
        assert (await resolving).verdict is not None

    async def test_nothing_is_resolved_by_what_a_copy_alone_does_not_know(
        self, history: Executions, store: SplitStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claim = claim_at(START)
        await put(store, claim)

        async def alone(_: str, documents: Sequence[Document]) -> list[bool]:
            return [False] * len(documents)

        with monkeypatch.context() as patch:
            patch.setattr(store, "confirm", alone)
            with pytest.raises(StoreUnreachable, match=f"{claim.execution_id} is not resolved"):
                await history.resolve(claim.execution_id, VerdictKind.RETRY, "operator", "")
        assert (await history.get(claim.execution_id)).verdict is None

    async def test_an_outcome_that_is_read_only_with_the_last_look_is_not_overruled(
        self, history: Executions, store: SplitStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claim = claim_at(START)
        await put(store, claim)
        confirm = store.confirm

        async def others_are_back(database: str, documents: Sequence[Document]) -> list[bool]:
            monkeypatch.setattr(store, "confirm", confirm)
            await put(store, outcome_for(claim, State.SUCCEEDED))
            return [True] * len(documents)

        monkeypatch.setattr(store, "confirm", others_are_back)
        with pytest.raises(FailedPrecondition, match="has ended already: succeeded"):
            await history.resolve(claim.execution_id, VerdictKind.RETRY, "operator", "")

    async def test_a_verdict_is_stored_once_and_saying_it_again_is_no_error(
        self, history: Executions, store: SplitStore
    ) -> None:
        claim = claim_at(START)
        await put(store, claim)
        for _ in range(2):
            view = await history.resolve(claim.execution_id, VerdictKind.FAILED, "operator", "disk died")
            assert (view.verdict.kind, view.state) == (VerdictKind.FAILED, State.RUNNING)
        with pytest.raises(FailedPrecondition, match="already resolved as failed by operator"):
            await history.resolve(claim.execution_id, VerdictKind.RETRY, "operator", "disk died")

    async def test_a_true_outcome_needs_no_verdict(self, history: Executions, store: SplitStore) -> None:
        claim = claim_at(START)
        await put(store, claim, outcome_for(claim, State.SUCCEEDED))
        with pytest.raises(FailedPrecondition, match="succeeded"):
            await history.resolve(claim.execution_id, VerdictKind.RETRY, "operator", "")

    async def test_an_unsure_verdict_is_read_again(self, history: Executions, store: SplitStore) -> None:
        claim = claim_at(START)
        await put(store, claim)
        store.faults[verdict_id(claim.execution_id)] = [WriteKind.UNSURE]
        view = await history.resolve(claim.execution_id, VerdictKind.RETRY, "operator", "")
        assert view.verdict.kind is VerdictKind.RETRY

    async def test_a_verdict_that_nobody_can_read_is_not_answered_as_stored(
        self, history: Executions, store: SplitStore
    ) -> None:
        claim = claim_at(START)
        await put(store, claim)
        store.faults[verdict_id(claim.execution_id)] = [WriteKind.LOST] * 100
        with pytest.raises(StoreUnreachable, match="may or may not"):
            await history.resolve(claim.execution_id, VerdictKind.RETRY, "operator", "")

    @pytest.mark.parametrize(
        ("by", "reason", "field"), [("", "", "by"), ("a\x1b[2J", "", "by"), ("a", "x" * 501, "reason")]
    )
    async def test_words_that_cannot_be_shown_are_refused(
        self, history: Executions, store: SplitStore, by: str, reason: str, field: str
    ) -> None:
        claim = claim_at(START)
        await put(store, claim)
        with pytest.raises(InvalidInput) as caught:
            await history.resolve(claim.execution_id, VerdictKind.RETRY, by, reason)
        assert caught.value.field == field

    async def test_what_waits_for_a_worker_cannot_be_resolved_and_the_answer_says_what_to_do(
        self, history: Executions, directory: FakeDirectory
    ) -> None:
        claim = claim_at(START)
        waiting = Waiting(claim.job, claim.execution_id, "no live node takes executions")
        directory.said = LeaderReport(waiting=(waiting,))
        with pytest.raises(FailedPrecondition, match=r"no live node takes executions.*dcron job update"):
            await history.resolve(claim.execution_id, VerdictKind.FAILED, "operator", "")

    async def test_a_late_true_outcome_is_shown_beside_the_verdict(
        self, history: Executions, store: SplitStore
    ) -> None:
        claim = claim_at(START)
        await put(store, claim)
        await history.resolve(claim.execution_id, VerdictKind.FAILED, "operator", "disk died")
        await put(store, outcome_for(claim, State.SUCCEEDED))
        view = await history.get(claim.execution_id)
        assert (view.state, view.verdict.kind) == (State.SUCCEEDED, VerdictKind.FAILED)
        assert await history.resolve(claim.execution_id, VerdictKind.FAILED, "operator", "disk died") == view
