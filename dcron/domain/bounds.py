"""Bounds of a number, said where its field is declared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass
from typing import Any

__all__ = ["Bounds", "bounds_of", "within"]

_KEY = "bounds"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number may be; `remark` goes into the error beside it."""

    least: float
    most: float
    remark: str = ""

    def allow(self, value: float) -> bool:
        """Whether a number is within them. NaN and the infinities never are."""
        return math.isfinite(value) and self.least <= value <= self.most


def within(least: float, most: float, remark: str = "") -> Mapping[str, Bounds]:
    """The metadata of a dataclass field that holds a number."""
    return {_KEY: Bounds(least, most, remark)}


def bounds_of(declared: Field[Any]) -> Bounds | None:
    """The bounds of a dataclass field; None where it has none."""
    return declared.metadata.get(_KEY)
