"""Names that clients give to manual runs, and the occurrences that they stand for."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from dcron.domain.errors import InvalidInput, StoreUnreachable
from dcron.domain.ids import ULID_RANDOMNESS_BYTES, is_ulid, new_ulid, ulid_time
from dcron.domain.validation import check_request_id
from dcron.ports import Document, DocumentStore, WriteKind, executions_database
from dcron.services.shared.certainty import certainly

__all__ = ["RunRequests"]

MEMORY = timedelta(hours=24)
"""How long a text names the same run at least, and how far a ULID's time may be from this node's clock."""
TURN_MARGIN = timedelta(minutes=5)
"""Time before and after the turn of a month in which a text is kept with both: clocks differ by less."""


class RunRequests:
    """Keys of manual runs by the client's `request_id`.

    A ULID is its own key. Any other text gets one at the first asking: of that time, so that a job's ids sort
    by time, and with a digest of the text in place of chance. A document beside the month's executions keeps
    it, which goes when they go. It is looked for in the months of the last 24 hours: a text is remembered for
    MEMORY at least, and for a month and a day at most.

    Keys come with the one to use first. A store that was split may have kept several for one text."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    async def known(self, uid: str, request_id: str, now: datetime) -> tuple[str, ...]:
        """The keys that a request has already; none when it has not been made, as far as a reading tells."""
        check_request_id(request_id)
        if is_ulid(request_id):
            _check_age(request_id, now)
            return (request_id,)
        return _keys((await self._find(_identifier(uid, request_id), now))[1])

    async def keep(self, uid: str, request_id: str, now: datetime) -> tuple[str, ...]:
        """The keys of a request, with a new one where it had none, as a quorum is certain to keep them.

        StoreUnreachable where none does: the other side of a split store may keep another one."""
        if is_ulid(request_id):
            return (request_id,)
        identifier = _identifier(uid, request_id)
        found_in, leaves = await self._find(identifier, now)
        digest = _digest(uid, request_id)[:ULID_RANDOMNESS_BYTES]
        keys = _keys(leaves) or (new_ulid(now, digest),)
        # Near a month's turn nodes differ in the month: each keeps the earlier one's key in the later one.
        months = _months(now - TURN_MARGIN, now + TURN_MARGIN)
        if found_in and found_in not in months:
            months = [found_in]
        for month in months:
            keys = await self._keep(month, identifier, keys)
        return keys

    async def _keep(self, month: str, identifier: str, keys: tuple[str, ...]) -> tuple[str, ...]:
        """Keep the first key with a month, or find what is kept there; certain of a quorum either way."""
        leaves = await self._leaves(month, identifier)
        if not leaves:
            document = Document(identifier, {"kind": "request", "key": keys[0]})
            [result] = await self._store.write(month, [document])
            if result.done:
                return keys
            if result.kind is WriteKind.REJECTED:
                raise InvalidInput("request_id", f"cannot be stored: {result.reason}")
            leaves = await self._leaves(month, identifier)
        found = await certainly(self._store, month, leaves, lambda: self._leaves(month, identifier))
        if found is None or _keys(found) != _keys(leaves):
            raise StoreUnreachable("the store does not confirm writes at present; nothing was asked for")
        return _keys(found)

    async def _find(self, identifier: str, now: datetime) -> tuple[str, tuple[Document, ...]]:
        """The latest month that has the document, and its leaves there; ("", ()) where none has."""
        for month in reversed(_months(now - MEMORY, now, now + TURN_MARGIN)):
            if leaves := await self._leaves(month, identifier):
                return month, leaves
        return "", ()

    async def _leaves(self, month: str, identifier: str) -> tuple[Document, ...]:
        [leaves] = await self._store.read(month, [identifier])
        return leaves


def _digest(uid: str, request_id: str) -> bytes:
    return hashlib.sha256(f"{uid}\0{request_id}".encode()).digest()


def _identifier(uid: str, request_id: str) -> str:
    return f"request:{uid}:{_digest(uid, request_id).hex()}"


def _months(*instants: datetime) -> list[str]:
    """The databases of the instants' months, ascending, each once."""
    return sorted(set(map(executions_database, instants)))


def _keys(leaves: tuple[Document, ...]) -> tuple[str, ...]:
    return tuple(sorted({leaf.body["key"] for leaf in leaves}))


def _check_age(request_id: str, now: datetime) -> None:
    made_at = ulid_time(request_id)
    if abs(made_at - now) > MEMORY:
        raise InvalidInput(
            "request_id",
            f"was made at {made_at:%Y-%m-%d %H:%M} UTC, but it is {now:%Y-%m-%d %H:%M} UTC here; set the "
            "clocks right, or ask with a new one",
        )
