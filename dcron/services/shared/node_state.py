"""What this node has learnt of the cluster and both its roles act on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from dcron.domain.documents import INITIAL_SETTINGS

__all__ = ["LocalState"]


@dataclass(slots=True)
class LocalState:
    """The elector writes it at each renewal; the worker obeys it."""

    newest_term: int = 0
    draining: bool = False
    floor: datetime = field(default=INITIAL_SETTINGS.floor)

    def saw_term(self, term: int) -> None:
        """A term exists: offers of older ones are refused from now on."""
        self.newest_term = max(self.newest_term, term)
