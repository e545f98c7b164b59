"""Writing off claims that this node's spool has lost, once it is certain that they have no outcome."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from dcron.domain.documents import claim_of
from dcron.domain.errors import SpoolFull, StoreUnreachable
from dcron.domain.execution_id import ExecutionId
from dcron.domain.model import Claim
from dcron.domain.offers import ClaimReference
from dcron.ports import DocumentStore, executions_database
from dcron.services.shared.certainty import certainly
from dcron.services.worker.executor import Executor

__all__ = ["WriteOffs"]

log = structlog.get_logger()


class WriteOffs:
    """The claims that are being written off. They are neither held here nor known to be delivered."""

    def __init__(self, node_id: str, store: DocumentStore, executor: Executor) -> None:
        self._node_id = node_id
        self._store = store
        self._executor = executor
        self._under_way: set[str] = set()

    async def write_off(self, references: Iterable[ClaimReference]) -> None:
        """Give lost claims their outcome. What cannot be written off now comes again with the leader's next
        question."""
        wanted = [each for each in references if each.token not in self._under_way]
        self._under_way.update(each.token for each in wanted)
        try:
            for reference in wanted:
                await self._write_off_or_say_why(reference)
        except (StoreUnreachable, SpoolFull) as error:
            log.warning("cannot write off", action="write_off", error=str(error))
        finally:
            self._under_way.difference_update(each.token for each in wanted)

    async def _write_off_or_say_why(self, reference: ClaimReference) -> None:
        try:
            await self._write_off(reference)
        except (StoreUnreachable, SpoolFull):
            raise
        except Exception:
            # Its own fault, a spoilt document say: those behind it have none.
            log.exception("cannot write off", action="write_off", execution=reference.execution_id)

    async def _write_off(self, reference: ClaimReference) -> None:
        claim = await self._claim_without_end(reference)
        if claim is not None:
            await self._executor.write_off(claim, "the node's spool has lost it")
            log.warning("writes off a claim", action="write_off", execution=claim.execution_id)

    async def _claim_without_end(self, reference: ClaimReference) -> Claim | None:
        """The claim, if a quorum knows it and no outcome of it; None also where that is not certain."""
        identifier = ExecutionId.parse_or_none(reference.execution_id)
        if identifier is None:
            return None
        database = executions_database(identifier.instant)
        [leaves] = await self._store.read(database, [reference.execution_id])
        own = [
            leaf
            for leaf in leaves
            if (leaf.body["token"], leaf.body["node"]) == (reference.token, self._node_id)
        ]
        outcome_id = f"{reference.execution_id}:{reference.token}"
        found = await certainly(self._store, database, own, lambda: self._store.read(database, [outcome_id]))
        return claim_of(reference.execution_id, own[0].body) if found == [()] else None
