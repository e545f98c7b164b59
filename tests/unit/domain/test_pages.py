"""Tokens of pages: what was not given out is refused as that, whatever it looks like."""

from __future__ import annotations

import base64
import sys

import pytest

from dcron.domain.errors import InvalidInput
from dcron.domain.pages import MAX_TOKEN_CHARACTERS, page_token, position_of

QUERY = ("things", "of", "one", "kind")


def test_a_token_gives_back_its_position() -> None:
    assert position_of(QUERY, page_token(QUERY, ("a", "b")), 2) == ("a", "b")


def test_a_token_longer_than_any_that_is_given_out_is_refused() -> None:
    forged = page_token(QUERY, ("a" * MAX_TOKEN_CHARACTERS,))
    with pytest.raises(InvalidInput, match="page_token"):
        position_of(QUERY, forged, 1)


def test_a_token_of_nested_lists_is_refused() -> None:
    nested = "[" * (MAX_TOKEN_CHARACTERS // 2)
    limit = sys.getrecursionlimit()
    # As deep as calls are when a client is served.
    sys.setrecursionlimit(MAX_TOKEN_CHARACTERS // 4)
    try:
        with pytest.raises(InvalidInput, match="page_token"):
            position_of(QUERY, base64.urlsafe_b64encode(nested.encode()).decode().rstrip("="), 1)
    finally:
        sys.setrecursionlimit(limit)
