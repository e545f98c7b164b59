"""Reading what holds for the whole cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from dcron.domain.documents import INITIAL_SETTINGS, SETTINGS_ID, settings_of
from dcron.domain.model import Settings
from dcron.ports import CLUSTER, Document, DocumentStore

__all__ = ["merge_settings", "read_settings", "settings_in"]

_NEVER = datetime.min.replace(tzinfo=UTC)


async def read_settings(store: DocumentStore) -> Settings:
    """The settings as a quorum has them; the initial ones where none are stored yet."""
    [leaves] = await store.read(CLUSTER, [SETTINGS_ID])
    return settings_in(leaves)


def settings_in(leaves: Sequence[Document]) -> Settings:
    """The settings of a document's leaves; the initial ones where there are none."""
    return merge_settings([settings_of(leaf.body) for leaf in leaves]) if leaves else INITIAL_SETTINGS


def merge_settings(leaves: Sequence[Settings]) -> Settings:
    """One out of the branches that a split store left: the last word counts, of two at once the frozen one; a
    floor that was raised stays raised.

    By the instant: what was said to a copy that was cut off is not known to who says something later."""
    newest = max(
        leaves, key=lambda settings: (settings.said_at or _NEVER, settings.sequence, settings.frozen)
    )
    return replace(newest, floor=max(settings.floor for settings in leaves))
