"""Pages of lists (AIP-158): how long one is, and the token that says where the next one begins.

A token is opaque to clients: the list and its filters as a digest, and a position that the list understands.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence

from dcron.domain.errors import InvalidInput

__all__ = ["Position", "page_size", "page_token", "position_of"]

Position = tuple[str, ...]
"""Position at which a list goes on: texts that only the list itself understands; empty for its beginning, or
its end."""

MAX_TOKEN_CHARACTERS = 1024
"""Characters of a token: a position names a few ids, and nobody's URL gets longer than they are."""
_DIGEST_BYTES = 9
_REFUSAL = "is not from an answer to this list with these filters; start again without it"


def page_size(asked: int, usual: int, most: int) -> int:
    """Size of a page: `usual` for 0, and never more than `most`."""
    if asked < 0:
        raise InvalidInput("page_size", f"{asked} is not valid; give 0 (for {usual}) to {most}")
    return min(asked or usual, most)


def page_token(query: object, position: Sequence[str]) -> str:
    """The token for what follows `position` in the list that `query` asks for; empty at the list's end.

    A query's `repr` has to tell it from all others: it is a frozen dataclass of plain values."""
    if not position:
        return ""
    content = json.dumps([_digest(query), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def position_of(query: object, token: str, parts: int) -> Position:
    """The position of `parts` texts in a token, empty without a token.

    InvalidInput where it is none of `query`'s."""
    if not token:
        return ()
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise InvalidInput("page_token", _REFUSAL)
    try:
        # Padding in excess is ignored.
        digest, *position = json.loads(base64.b64decode(f"{token}===", altchars=b"-_"))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise InvalidInput("page_token", _REFUSAL) from None
    whole = len(position) == parts and all(isinstance(part, str) and part.isascii() for part in position)
    if digest != _digest(query) or not whole:
        raise InvalidInput("page_token", _REFUSAL)
    return tuple(position)


def _digest(query: object) -> str:
    digest = hashlib.sha256(repr(query).encode()).digest()[:_DIGEST_BYTES]
    return base64.urlsafe_b64encode(digest).decode()
