"""Finding the log of an execution: in the object store, or on the node that ran it, or both in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from dcron.domain.errors import DcronError, NodeUnreachable, NotFound, ObjectsUnreachable
from dcron.domain.model import LogObject
from dcron.domain.views import ExecutionView
from dcron.ports import NodeClient, ObjectStore

__all__ = ["LogReader"]

SEARCH_ROUNDS = 2
"""Searches of both places: a log moves from the node to the object store while we look."""

log = structlog.get_logger()


class LogReader:
    """Reads logs from wherever they are at the time."""

    def __init__(
        self,
        objects: ObjectStore,
        nodes: NodeClient,
        address_of: Callable[[str], Awaitable[str | None]],
    ) -> None:
        self._objects = objects
        self._nodes = nodes
        self._address_of = address_of

    async def read(
        self, view: ExecutionView, look_again: Callable[[], Awaitable[ExecutionView]], *, follow: bool
    ) -> AsyncIterator[bytes]:
        """The log in chunks; `look_again` reads the execution anew when its worker no longer holds it.

        NotFound, NodeUnreachable or ObjectsUnreachable say where the log ought to be."""
        offset = 0
        if view.outcome is None:
            try:
                async for chunk in self._from_node(view, offset, follow=follow):
                    offset += len(chunk)
                    yield chunk
                return
            except NotFound:
                view = await look_again()
                if view.outcome is None:
                    raise
        async for chunk in self._kept(view, offset):
            yield chunk

    async def _kept(self, view: ExecutionView, offset: int) -> AsyncIterator[bytes]:
        """The log of an execution that has ended, from `offset`."""
        kept = view.outcome.log if view.outcome else None
        if kept is None:
            return
        places: tuple[Callable[[int], AsyncIterator[bytes]], ...] = (
            lambda start: self._from_objects(kept, start),
            lambda start: self._from_node(view, start, follow=False),
        )
        failures: list[DcronError] = []
        for _ in range(SEARCH_ROUNDS):
            failures = []
            for from_place in places:
                try:
                    async for chunk in from_place(offset):
                        offset += len(chunk)
                        yield chunk
                    return
                except (NotFound, ObjectsUnreachable, NodeUnreachable) as error:
                    failures.append(error)
                    log.debug("log not here", action="read_log", execution=view.id, error=str(error))
            if not isinstance(failures[0], NotFound):
                break
        raise _nowhere(view, *failures)

    async def _from_objects(self, kept: LogObject, offset: int) -> AsyncIterator[bytes]:
        if offset < kept.size_bytes:
            async for chunk in self._objects.read(kept.key, offset=offset):
                yield chunk

    async def _from_node(self, view: ExecutionView, offset: int, *, follow: bool) -> AsyncIterator[bytes]:
        node_id = view.claim.node_id
        address = await self._address_of(node_id)
        if address is None:
            raise NodeUnreachable(f"node {node_id}, which ran {view.id}, has stopped")
        async for chunk in self._nodes.follow_log(address, view.id, offset, follow=follow):
            yield chunk


def _nowhere(view: ExecutionView, from_objects: DcronError, from_node: DcronError) -> DcronError:
    """Error for a log that cannot be read; it names what has to come back first."""
    node_id = view.claim.node_id
    if isinstance(from_objects, ObjectsUnreachable):
        return ObjectsUnreachable(f"log of {view.id} cannot be read: {from_objects}; {from_node}")
    if isinstance(from_node, NodeUnreachable):
        return NodeUnreachable(
            f"log of {view.id} is not in the object store yet and node {node_id}, which holds it, "
            "is out of reach"
        )
    return NotFound(f"log of {view.id} is neither in the object store nor on node {node_id} any more")
