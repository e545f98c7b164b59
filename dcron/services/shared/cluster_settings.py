"""Reading what holds for the whole cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from dcron.domain.documents import FORMAT_VERSION, INITIAL_SETTINGS, SETTINGS_ID, settings_of
from dcron.domain.errors import SetupError
from dcron.domain.model import ClusterSettings
from dcron.domain.records import all_unknown
from dcron.ports import CLUSTER, Document, DocumentStore

__all__ = ["KnownSettings", "check_format", "merge_settings", "read_settings", "settings_in"]

_NEVER = datetime.min.replace(tzinfo=UTC)


async def read_settings(store: DocumentStore) -> ClusterSettings:
    """The settings as a quorum has them; the initial ones where none are stored yet."""
    [leaves] = await store.read(CLUSTER, [SETTINGS_ID])
    return settings_in(leaves)


def check_format(settings: ClusterSettings, version: str) -> None:
    """Raise SetupError when the stored data are of a newer format than this dcron, of `version`, knows."""
    if settings.format_version > FORMAT_VERSION:
        raise SetupError(
            f"the stored data have format {settings.format_version}, this dcron {version} "
            f"knows {FORMAT_VERSION}: upgrade this node"
        )


class KnownSettings:
    """The settings as they were last read, for who goes by them again and again.

    While most copies of the store are away, one answers alone, and it may have missed the last word. What was
    read once is not taken back for an earlier state."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self.latest = INITIAL_SETTINGS

    async def read(self) -> ClusterSettings:
        """The latest settings that are known, or stored. Raises StoreUnreachable."""
        [leaves] = await self._store.read(CLUSTER, [SETTINGS_ID])
        self.take(leaves)
        return self.latest

    def take(self, leaves: Sequence[Document]) -> None:
        """Take in what was just read."""
        found = settings_in(leaves)
        if not _is_earlier(found, self.latest):
            self.latest = found


def _is_earlier(one: ClusterSettings, other: ClusterSettings) -> bool:
    """Whether a state came before another one, by both ways to tell: clocks differ, and branches have
    sequences of their own."""
    return one.sequence < other.sequence and (one.said_at or _NEVER) < (other.said_at or _NEVER)


def settings_in(leaves: Sequence[Document]) -> ClusterSettings:
    """The settings of a document's leaves; the initial ones where there are none."""
    return merge_settings([settings_of(leaf.body) for leaf in leaves]) if leaves else INITIAL_SETTINGS


def merge_settings(leaves: Sequence[ClusterSettings]) -> ClusterSettings:
    """One out of the branches that a split store left: the last word counts, of two at once the frozen one; a
    floor that was raised stays raised; a freeze ended when it was first said to.

    By the instant: what was said to a copy that was cut off is not known to who says something later."""
    newest = max(
        leaves, key=lambda settings: (settings.said_at or _NEVER, settings.sequence, settings.frozen)
    )
    ends = [each.thawed_at for each in leaves if each.thawed_at and each.frozen_at == newest.frozen_at]
    return replace(
        newest,
        floor=max(settings.floor for settings in leaves),
        # Whoever did not know of the end may have said it again later.
        thawed_at=min(ends) if newest.thawed_at else None,
        unknown=all_unknown([*leaves, newest]),
    )
