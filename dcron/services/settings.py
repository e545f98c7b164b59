"""Reading what holds for the whole cluster."""

from __future__ import annotations

from collections.abc import Sequence

from dcron.domain.documents import INITIAL_SETTINGS, SETTINGS_ID, settings_of
from dcron.domain.model import Settings
from dcron.ports import CLUSTER, Document, DocumentStore

__all__ = ["choose_settings", "read_settings"]


async def read_settings(store: DocumentStore) -> Settings:
    """The settings as a quorum has them; the initial ones where none are stored yet."""
    [leaves] = await store.read(CLUSTER, [SETTINGS_ID])
    return choose_settings(leaves)


def choose_settings(leaves: Sequence[Document]) -> Settings:
    """One of the branches that a split store left: the newest, and the frozen one of equals."""
    if not leaves:
        return INITIAL_SETTINGS
    each = [settings_of(leaf.body) for leaf in leaves]
    return max(each, key=lambda settings: (settings.sequence, settings.frozen))
