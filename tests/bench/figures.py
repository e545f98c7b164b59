"""What a benchmark says: figures over several runs, each beside its yardsticks and its targets."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Bound", "Curve", "Figure", "Measured", "Results", "percentile"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One quantity, a value for each run."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def minimum(self) -> float:
        return min(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def maximum(self) -> float:
        return max(self.values)


@dataclass(frozen=True, slots=True)
class Bound:
    """A target: `words` say where `limit` comes from.

    The median of the runs has to keep it, or with `every` each value: where they are nodes, say."""

    words: str
    limit: float
    at_most: bool = True
    every: bool = False

    def holds(self, measured: Measured) -> bool:
        if self.at_most:
            return (measured.maximum if self.every else measured.median) <= self.limit
        return (measured.minimum if self.every else measured.median) >= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    scenario: str
    store: str
    measured: Measured
    yardsticks: tuple[Measured, ...] = ()
    targets: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot; `x` and `y` name the axes, which all curves of a plot share."""

    plot: str
    label: str
    x: str
    y: str
    points: tuple[tuple[float, float], ...]


@dataclass(slots=True)
class Results:
    """What scenarios have found so far; what one found before it failed stays."""

    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]
