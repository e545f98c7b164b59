"""Says in the leader's log which nodes fall silent and which executions come to need a person, once each."""

from __future__ import annotations

from collections.abc import Collection

import structlog

__all__ = ["Observer"]

MAX_SAID = 20
"""Lines about executions in one look."""

log = structlog.get_logger()


class Observer:
    """State at the last look."""

    def __init__(self) -> None:
        self._alive: frozenset[str] | None = None
        self._attention: frozenset[str] = frozenset()

    def observe(self, alive: frozenset[str], attention: Collection[str]) -> None:
        """Say what has changed: nodes that are alive, and executions that only a person can settle."""
        before = alive if self._alive is None else self._alive
        for node_id in sorted(before - alive):
            log.warning("node is silent, or has stopped", action="watch", seen=node_id)
        for node_id in sorted(alive - before):
            log.info("node is alive", action="watch", seen=node_id)
        for execution_id in sorted(frozenset(attention) - self._attention)[:MAX_SAID]:
            log.warning(
                "needs a person; see 'dcron cluster status'",
                action="attention",
                execution=execution_id,
            )
        self._alive, self._attention = alive, frozenset(attention)
