"""Facts that this node has learnt of the cluster; both its roles act on them."""

from __future__ import annotations

from datetime import datetime

from dcron.domain.documents import INITIAL_SETTINGS

__all__ = ["LocalState"]


class LocalState:
    """The elector writes it at each renewal; the worker obeys it."""

    def __init__(self) -> None:
        self.draining = False
        self._newest_term = 0
        self._floor = INITIAL_SETTINGS.floor

    @property
    def newest_term(self) -> int:
        """The newest term that is known to exist; it never falls."""
        return self._newest_term

    @property
    def floor(self) -> datetime:
        """Nothing due before this is claimed. It never falls: one copy of the store, which answers alone, may
        not know yet that it was raised."""
        return self._floor

    def saw_term(self, term: int) -> None:
        """A term exists: offers of older ones are refused from now on."""
        self._newest_term = max(self._newest_term, term)

    def saw_floor(self, floor: datetime) -> None:
        """The retention floor is at least here."""
        self._floor = max(self._floor, floor)
