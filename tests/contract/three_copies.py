"""A document store of three copies, real or simulated, and what is tried on both of them.

A trial ends with what could be observed, in a few words, so that what happens on a real cluster can be
compared with what the simulation makes happen. A copy may be "away": nobody reaches it, and all know; or
"hung": it takes requests and does nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from dcron.domain.errors import StoreUnreachable
from dcron.ports import JOBS, Document, DocumentStore, WriteResult
from dcron.services.shared.certainty import certainly
from tests.simulation.history import History
from tests.simulation.links import Link
from tests.simulation.loop import VirtualLoop
from tests.simulation.store import Cluster
from tests.simulation.store_client import StoreClient, StoreWeather

__all__ = [
    "BACK_ALONE",
    "COMES_BACK",
    "TRIALS",
    "SimulatedCopies",
    "ThreeCopies",
    "Trial",
    "simulated_outcomes",
]

LAST = 2
"""The copy that is away or hung."""
POLLS = 40
DOCUMENTS = 12


class ThreeCopies(Protocol):
    """The store under trial."""

    def through(self, copy: int) -> DocumentStore:
        """The store as its copy number 0, 1 or 2 answers."""

    async def take_away(self, copy: int) -> None:
        """End a copy; the others know as soon as this returns, or soon after."""

    async def bring_back(self, copy: int) -> None:
        """Start it again with what it had."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Something to try, many times, under a condition of the last copy: "well", "away" or "hung"."""

    act: Callable[[ThreeCopies, str, Sequence[int]], Awaitable[str]]
    condition: str

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.act.__name__} {self.condition}"

    async def outcome(self, copies: ThreeCopies, identifier: str) -> str:
        """Try it once, with a document that nobody has used."""
        answering = [0, 1] if self.condition != "well" else [0, 1, LAST]
        return await self.act(copies, identifier, answering)


# What is tried.


async def creations_at_once(copies: ThreeCopies, identifier: str, answering: Sequence[int]) -> str:
    """One document is created through all copies at the same time."""
    return await _race(copies, identifier, answering, None)


async def updates_at_once(copies: ThreeCopies, identifier: str, answering: Sequence[int]) -> str:
    """One revision is updated through all copies at the same time."""
    revision = await _sure(copies, Document(identifier, {"by": "nobody"}))
    return await _race(copies, identifier, answering, revision)


async def creations_over_a_deletion(copies: ThreeCopies, identifier: str, answering: Sequence[int]) -> str:
    """A deleted document is created anew through all copies at the same time."""
    revision = await _sure(copies, Document(identifier, {"by": "nobody"}))
    await _sure(copies, Document(identifier, {}, revision, deleted=True))
    return await _race(copies, identifier, answering, None)


async def updates_of_branches(copies: ThreeCopies, identifier: str, answering: Sequence[int]) -> str:
    """Each branch that creations at the same time left is updated."""
    await _race(copies, identifier, answering, None)
    leaves = await _read(copies, answering[0], identifier)
    if leaves is None or len(leaves) < 2:
        return "no branches"
    answers = await asyncio.gather(
        *(
            _write(copies, number, Document(identifier, {"by": f"{number}"}, leaf.revision))
            for number, leaf in zip(answering, leaves, strict=False)
        )
    )
    return " ".join(sorted(answers))


async def writes_onto_what_is_not_there(
    copies: ThreeCopies, identifier: str, answering: Sequence[int]
) -> str:
    """Updates of a revision that never was, of an older one, of no document, and of a deletion."""
    never = f"1-{'f' * 32}"
    first = await _sure(copies, Document(identifier, {"by": "nobody"}))
    onto_unknown = await _write(copies, answering[0], Document(identifier, {"by": "a"}, never))
    second = await _sure(copies, Document(identifier, {"by": "b"}, first))
    onto_older = await _write(copies, answering[0], Document(identifier, {"by": "c"}, first))
    onto_nothing = await _write(copies, answering[0], Document(f"{identifier}-none", {"by": "d"}, never))
    deletion = await _sure(copies, Document(identifier, {}, second, deleted=True))
    onto_deletion = await _write(copies, answering[0], Document(identifier, {"by": "e"}, deletion))
    return f"{onto_unknown} {onto_older} {onto_nothing} {onto_deletion}"


async def a_listing_at_once(copies: ThreeCopies, identifier: str, answering: Sequence[int]) -> str:
    """A document is looked for in a listing as soon as it is certain."""
    await _sure(copies, Document(identifier, {"next_at": identifier}))
    found = await copies.through(answering[-1]).range(JOBS, identifier, f"{identifier}~", limit=5)
    rows = await copies.through(answering[-1]).find(
        JOBS, "next_at", start=identifier, end=f"{identifier}~", limit=5
    )
    return f"range {'shows' if found else 'lacks'} it, index {'shows' if rows else 'lacks'} it"


async def a_feed_through_all(copies: ThreeCopies, identifier: str, answering: Sequence[int]) -> str:
    """Documents are written one after the other, and followed through one copy after the other."""
    since = (await copies.through(answering[0]).changes(JOBS, None, wait_seconds=0.0)).since
    names = [f"{identifier}-{number:02}" for number in range(DOCUMENTS)]
    for name in names:
        await _sure(copies, Document(name, {"by": "nobody"}))
    told: list[str] = []
    for poll in range(POLLS):
        if set(names) <= set(told):
            break
        through = copies.through(answering[poll % len(answering)])
        batch = await through.changes(JOBS, since, wait_seconds=0.2, limit=5)
        since = batch.since
        told += [document.id for document in batch.documents if document.id in names]
    missing = "misses some" if set(names) - set(told) else "tells all"
    ordered = "in order" if list(dict.fromkeys(told)) == names else "out of order"
    repeated = "repeats" if len(told) > len(set(told)) else "each once"
    return f"{missing}, {ordered}, {repeated}"


async def a_copy_that_comes_back(copies: ThreeCopies, identifier: str, answering: Sequence[int]) -> str:
    """What was written while a copy was away is read and listed through it as soon as it is there."""
    await _sure(copies, Document(f"{identifier}-before", {"by": "nobody"}))
    await copies.take_away(LAST)
    written = [f"{identifier}-{number:02}" for number in range(DOCUMENTS)]
    names = [name for name in written if await _write(copies, 0, Document(name, {"by": "nobody"})) == "done"]
    await copies.bring_back(LAST)
    back = copies.through(LAST)
    lists = [await back.range(JOBS, identifier, f"{identifier}~", limit=100) for _ in range(5)]
    leaves = await back.read(JOBS, names)
    listing = "lacks some" if any(len(each) <= len(names) for each in lists) else "shows all"
    return f"a listing {listing}, a read {'finds all' if all(leaves) else 'misses some'}"


async def an_absence_that_one_copy_tells(
    copies: ThreeCopies, identifier: str, answering: Sequence[int]
) -> str:
    """A document that was written while a copy was away is looked for through that copy: by a reading, and
    between two confirmations of an older one; first while the others are away, then with them."""
    anchor = Document(
        f"{identifier}-claim", {"by": "nobody"}, await _sure(copies, _named(identifier, "claim"))
    )
    await copies.take_away(LAST)
    await _sure(copies, _named(identifier, "outcome"))
    for number in answering[:LAST]:
        await copies.take_away(number)
    await copies.bring_back(LAST)
    alone = await _look(copies.through(LAST), anchor, f"{identifier}-outcome")
    for number in answering[:LAST]:
        await copies.bring_back(number)
    return f"alone {alone}; together {await _look(copies.through(LAST), anchor, f'{identifier}-outcome')}"


BACK_ALONE = Trial(an_absence_that_one_copy_tells, "well")
COMES_BACK = Trial(a_copy_that_comes_back, "well")
TRIALS = (
    BACK_ALONE,
    COMES_BACK,
    *(
        Trial(act, condition)
        for act in (creations_at_once, updates_at_once, creations_over_a_deletion)
        for condition in ("well", "away", "hung")
    ),
    *(Trial(updates_of_branches, condition) for condition in ("away", "hung")),
    *(Trial(writes_onto_what_is_not_there, condition) for condition in ("well", "away")),
    *(
        Trial(act, condition)
        for act in (a_listing_at_once, a_feed_through_all)
        for condition in ("well", "away")
    ),
)


async def _race(copies: ThreeCopies, identifier: str, answering: Sequence[int], revision: str | None) -> str:
    """What each writer hears, and whose body is read directly after."""
    answers = await asyncio.gather(
        *(_write(copies, number, Document(identifier, {"by": f"{number}"}, revision)) for number in answering)
    )
    leaves = await _read(copies, answering[0], identifier)
    return f"{' '.join(sorted(answers))}; {_whose(leaves, answers, answering)}"


def _whose(leaves: Sequence[Document] | None, answers: Sequence[str], answering: Sequence[int]) -> str:
    if leaves is None:
        return "cannot be read"
    if not leaves:
        return "reads nothing"
    read = [leaf.body["by"] for leaf in leaves]
    winners = [f"{number}" for number, answer in zip(answering, answers, strict=True) if answer == "done"]
    others = "; with branches" if len(leaves) > 1 else ""
    if not winners:
        return f"reads {'the old' if read[0] == 'nobody' else 'somebody'}{others}"
    return f"reads {'the winner' if read[0] in winners else 'a loser'}{others}"


async def _write(copies: ThreeCopies, number: int, document: Document) -> str:
    try:
        [result] = await copies.through(number).write(JOBS, [document])
    except StoreUnreachable:
        return "unreachable"
    return result.kind.value


async def _read(copies: ThreeCopies, number: int, identifier: str) -> tuple[Document, ...] | None:
    try:
        [leaves] = await copies.through(number).read(JOBS, [identifier])
    except StoreUnreachable:
        return None
    return leaves


def _named(identifier: str, what: str) -> Document:
    return Document(f"{identifier}-{what}", {"by": "nobody"})


async def _look(store: DocumentStore, anchor: Document, identifier: str) -> str:
    """What a reading says of a document, and whether that is certain."""
    [leaves] = await store.read(JOBS, [identifier])
    found = await certainly(store, JOBS, [anchor], lambda: store.read(JOBS, [identifier]))
    certain = "uncertain" if found is None else f"certainly {'there' if found[0] else 'missing'}"
    return f"{'there' if leaves else 'missing'}, {certain}"


async def _sure(copies: ThreeCopies, document: Document) -> str:
    """Write something that nobody else writes; its revision."""
    result: WriteResult
    [result] = await copies.through(0).write(JOBS, [document])
    assert result.done and result.revision is not None
    return result.revision


# The simulation.


class SimulatedCopies:
    """The simulated cluster, without weather."""

    def __init__(self, seed: int) -> None:
        self.loop = VirtualLoop()
        history, random = History(), Random(seed)
        self.cluster = Cluster(self.loop, random, history)
        self._clients = [
            StoreClient(
                self.loop,
                self.cluster,
                StoreWeather(),
                Link(self.loop, f"node{number}"),
                random,
                history,
                number,
            )
            for number in range(len(self.cluster.copies))
        ]

    def through(self, copy: int) -> DocumentStore:
        """See `ThreeCopies`."""
        return self._clients[copy]

    async def take_away(self, copy: int) -> None:
        """See `ThreeCopies`."""
        self.cluster.copies[copy].up = False

    def close(self) -> None:
        """End what is still under way."""
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left))
        self.loop.close()

    async def bring_back(self, copy: int) -> None:
        """See `ThreeCopies`."""
        self.cluster.copies[copy].up = True


def simulated_outcomes(trial: Trial, rounds: int) -> set[str]:
    """All that is observed in the simulation."""
    found = set()
    for seed in range(rounds):
        copies = SimulatedCopies(seed)
        copies.cluster.copies[LAST].up = trial.condition != "away"
        copies.cluster.copies[LAST].hung = trial.condition == "hung"
        try:
            found.add(copies.loop.run_until_complete(trial.outcome(copies, "job")))
        finally:
            copies.close()
    return found
