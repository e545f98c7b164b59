"""After a restart, a claim counts as kept by a quorum only when the store says so of this very claim."""

from __future__ import annotations

import pytest

from dcron.domain.documents import claim_body
from dcron.ports import Document
from dcron.services.worker import claim_confirmer
from dcron.services.worker.claim_confirmer import TRIES, ClaimConfirmer
from tests.doubles import sample_claim
from tests.service_doubles import MONTH, FaultyStore, an_attempt

ID = an_attempt(0).execution_id
OTHER = an_attempt(1).execution_id


class ConfirmingStore(FaultyStore):
    """Confirms only from the `sure_from`-th asking on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, ...]] = []
        self.sure_from = 1

    async def confirm(self, database, documents):
        self.asked.append(tuple(document.id for document in documents))
        return [len(self.asked) >= self.sure_from for _ in documents]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(claim_confirmer, "TRY_AGAIN_SECONDS", 0.0)


@pytest.fixture
def store() -> ConfirmingStore:
    return ConfirmingStore()


async def put(store: ConfirmingStore, *claims) -> None:
    await store.write(MONTH, [Document(claim.execution_id, claim_body(claim)) for claim in claims])


async def test_what_a_quorum_has_is_named_and_what_never_arrived_is_not(store):
    claims = [sample_claim(ID, "arrived"), sample_claim(OTHER, "never")]
    await put(store, claims[0])
    assert await ClaimConfirmer(store).confirm(claims) == {"arrived"}
    assert store.asked == [(ID,)]


async def test_the_claim_of_somebody_else_is_not_taken_for_ones_own(store):
    await put(store, sample_claim(ID, "rival", node_id="b"))
    assert await ClaimConfirmer(store).confirm([sample_claim(ID, "own")]) == frozenset()
    assert store.asked == []


async def test_a_claim_on_a_losing_branch_is_confirmed_as_well(store):
    own, rival = sample_claim(ID, "own"), sample_claim(ID, "rival", node_id="b")
    store.branches[ID] = [
        Document(ID, claim_body(rival), "1-b"),
        Document(ID, claim_body(own), "1-a"),
    ]
    assert await ClaimConfirmer(store).confirm([own]) == {"own"}


async def test_a_claim_that_was_changed_by_hand_is_not_confirmed_and_others_are(store):
    """The store would refuse to confirm it, and all that is asked for along with it."""
    claims = [sample_claim(ID, "changed"), sample_claim(OTHER, "own")]
    await put(store, *claims)
    [[leaf]] = await store.read(MONTH, [ID])
    await store.write(MONTH, [Document(ID, claim_body(claims[0]), leaf.revision)])
    assert await ClaimConfirmer(store).confirm(claims) == {"own"}
    assert set(store.asked) == {(OTHER,)}


async def test_a_spoilt_claim_of_a_rival_keeps_nobody_from_confirming_ones_own(store):
    own = sample_claim(ID, "own")
    store.branches[ID] = [Document(ID, {"kind": "claim"}, "1-b"), Document(ID, claim_body(own), "1-a")]
    assert await ClaimConfirmer(store).confirm([own]) == {"own"}


async def test_a_doubtful_answer_is_asked_for_again_and_only_so_often(store):
    await put(store, sample_claim(ID, "own"))
    store.sure_from = TRIES
    assert await ClaimConfirmer(store).confirm([sample_claim(ID, "own")]) == {"own"}
    store.asked, store.sure_from = [], TRIES + 1
    assert await ClaimConfirmer(store).confirm([sample_claim(ID, "own")]) == frozenset()
    assert len(store.asked) == TRIES


async def test_while_the_store_is_away_nothing_is_certain(store):
    await put(store, sample_claim(ID, "own"))
    store.unreachable = True
    assert await ClaimConfirmer(store).confirm([sample_claim(ID, "own")]) == frozenset()


async def test_without_claims_nobody_is_asked(store):
    store.unreachable = True
    assert await ClaimConfirmer(store).confirm([]) == frozenset()
