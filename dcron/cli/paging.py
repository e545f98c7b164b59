"""Goes through the pages of a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["MAX_ENTRIES", "collect"]

MAX_ENTRIES = 1_000_000
"""Entries that one command shows at most."""
PAGE_ENTRIES = 1_000
"""Entries that a node is asked for at once."""
MAX_PAGES = 10_000
"""Pages that one command asks for; a node that repeats its answers cannot keep us for ever."""

_Entry = TypeVar("_Entry")


def collect(ask: Callable[[int, str], tuple[Sequence[_Entry], str]], limit: int) -> tuple[list[_Entry], str]:
    """The first `limit` entries of a list, and the token of what follows; empty where nothing does.

    `ask` gives a page by its size and token, and the token of the next one. A page may be short, or empty,
    while others follow it."""
    found: list[_Entry] = []
    token = ""
    for _ in range(MAX_PAGES):
        entries, token = ask(min(limit - len(found), PAGE_ENTRIES), token)
        found.extend(entries)
        if not token or len(found) >= limit:
            break
    return found, token
