"""Names that clients give to manual runs, and the occurrences that they stand for."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from dcron.domain.errors import InvalidInput, StoreUnreachable
from dcron.domain.ids import ULID_RANDOMNESS_BYTES, is_ulid, new_ulid, ulid_time
from dcron.domain.validation import check_request_id
from dcron.ports import Document, DocumentStore, WriteKind, executions_database

__all__ = ["RunRequests"]

MEMORY = timedelta(hours=24)
"""How long a text names the same run at least, and how far a ULID's time may be from this node's clock."""


class RunRequests:
    """Keys of manual runs by the client's `request_id`.

    A ULID is its own key. Any other text gets one at the first asking: of that time, so that a job's ids sort
    by time, and with a digest of the text in place of chance, so that the job document knows it again. A
    document beside the month's executions keeps it, which goes when they go."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    async def key_of(self, uid: str, request_id: str, now: datetime) -> str:
        """The key of a job's run; the same for the same `request_id` for MEMORY at least."""
        check_request_id(request_id)
        if is_ulid(request_id):
            _check_age(request_id, now)
            return request_id
        digest = hashlib.sha256(f"{uid}\0{request_id}".encode()).digest()
        identifier = f"request:{uid}:{digest.hex()}"
        for month in dict.fromkeys(map(executions_database, (now - MEMORY, now))):
            known = await self._known(month, identifier)
            if known:
                return known
        return await self._keep(identifier, new_ulid(now, digest[:ULID_RANDOMNESS_BYTES]), now)

    async def _keep(self, identifier: str, key: str, now: datetime) -> str:
        """Keep a key, or find the one that another asking has kept at the same time."""
        month = executions_database(now)
        [result] = await self._store.write(month, [Document(identifier, {"kind": "request", "key": key})])
        if result.done:
            return key
        if result.kind is WriteKind.REJECTED:
            raise InvalidInput("request_id", f"cannot be stored: {result.reason}")
        known = await self._known(month, identifier)
        if not known:
            raise StoreUnreachable("the store does not confirm writes at present; nothing was asked for")
        return known

    async def _known(self, month: str, identifier: str) -> str:
        """The key that is kept, the first one where a split store has kept two; empty where there is none."""
        [leaves] = await self._store.read(month, [identifier])
        return min((leaf.body["key"] for leaf in leaves), default="")


def _check_age(request_id: str, now: datetime) -> None:
    made_at = ulid_time(request_id)
    if abs(made_at - now) > MEMORY:
        raise InvalidInput(
            "request_id",
            f"was made at {made_at:%Y-%m-%d %H:%M} UTC, but it is {now:%Y-%m-%d %H:%M} UTC here; set the "
            "clocks right, or ask with a new one",
        )
