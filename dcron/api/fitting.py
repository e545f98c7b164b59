"""Pages that end early by their size: clients of gRPC take messages of 4 MiB unless told otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import accumulate
from typing import TypeVar

from google.protobuf.message import Message

__all__ = ["MAX_ANSWER_BYTES", "fitting"]

MAX_ANSWER_BYTES = 3 * 1024 * 1024
"""Size of the entries of one page; it has one entry at least, whatever its size."""

_Entry = TypeVar("_Entry", bound=Message)


async def fitting(
    ask: Callable[[int], Awaitable[tuple[Iterable[_Entry], str]]], asked: int
) -> tuple[Sequence[_Entry], str]:
    """The entries of a page that fit into one answer, and the token of what follows.

    `ask` gives a page by its size, `asked` at first. One that is too large is asked for again, shorter:
    the list alone knows the token of an earlier end."""
    while True:
        found, token = await ask(asked)
        entries = list(found)
        count = sum(size <= MAX_ANSWER_BYTES for size in accumulate(each.ByteSize() for each in entries))
        if count == len(entries) or len(entries) == 1:
            return entries, token
        # Each round is shorter than the one before, down to one entry.
        asked = max(1, count)
