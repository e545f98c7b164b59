"""Goes through the pages of a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from dcron.cli.failures import CommandFailed
from dcron.cli.output import print_note

__all__ = ["MAX_ENTRIES", "collect"]

MAX_ENTRIES = 1_000_000
"""Entries that one command shows at most."""
PAGE_ENTRIES = 1_000
"""Entries that a node is asked for at once."""
MAX_PAGES = 10_000
"""Pages that one command asks for; a node that goes round in circles cannot keep us for ever."""

_Entry = TypeVar("_Entry")


def collect(ask: Callable[[int, str], tuple[Sequence[_Entry], str]], limit: int) -> tuple[list[_Entry], str]:
    """The first `limit` entries of a list, and the token of what follows; empty where nothing does.

    `ask` gives a page by its size and token, and the token of the next one. A page may be short, or empty,
    while others follow it. CommandFailed where a page leads to itself; a note where MAX_PAGES are through."""
    found: list[_Entry] = []
    token = ""
    for _ in range(MAX_PAGES):
        asked = token
        entries, token = ask(min(limit - len(found), PAGE_ENTRIES), asked)
        found.extend(entries)
        if not token or len(found) >= limit:
            return found, token
        if token == asked:
            raise CommandFailed(
                "the node gave the same page token twice, so that its list never ends; "
                "upgrade it, or ask another with --server"
            )
    print_note(f"stopped after {MAX_PAGES} pages; more may follow: narrow the list by its filters")
    return found, token
