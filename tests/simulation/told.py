"""Errors in one line."""

from __future__ import annotations

import traceback
from pathlib import Path

__all__ = ["told"]

PLACES = 4


def told(error: BaseException) -> str:
    """The first error in a group of errors and where it came from, for whoever has to find the defect."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    places = traceback.extract_tb(error.__traceback__)[-PLACES:]
    return f"{error!r} at " + " < ".join(
        f"{Path(place.filename).name}:{place.lineno}" for place in reversed(places)
    )
