"""Line plots as SVG text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from tests.bench.figures import Curve

__all__ = ["draw"]

WIDTH: Final = 760
HEIGHT: Final = 430
LEFT: Final = 70
RIGHT: Final = 40
TOP: Final = 20
AXIS_HEIGHT: Final = 65
LEGEND_LINE: Final = 20
TICKS: Final = 6
MOST_POINTS: Final = 200
"""Of one line: more would not be seen."""
# Told apart by people who see colours differently, too (Okabe and Ito), and by their dashes in print.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9", "#999999")
_DASHES: Final = ("", "7 3", "2 3", "9 3 2 3")


@dataclass(frozen=True, slots=True)
class _Axis:
    """From a value to its place along `length` pixels."""

    top: float
    step: float
    length: float

    def at(self, value: float) -> float:
        return value / self.top * self.length

    def ticks(self) -> Iterator[float]:
        for number in range(round(self.top / self.step) + 1):
            yield number * self.step


def draw(curves: Sequence[Curve]) -> str:
    """One plot of curves that share their axes, both from 0."""
    legend_height = LEGEND_LINE * len(curves)
    bottom = HEIGHT - AXIS_HEIGHT
    x_axis = _axis(max(x for curve in curves for x, _ in curve.points), WIDTH - LEFT - RIGHT)
    y_axis = _axis(max(y for curve in curves for _, y in curve.points), bottom - TOP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + legend_height}">',
        '<g font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *_grid(curves[0], x_axis, y_axis, bottom),
    ]
    for number, curve in enumerate(curves):
        lines += _line(number, curve, x_axis, y_axis, bottom)
    return "\n".join([*lines, "</g>", "</svg>", ""])


def _axis(largest: float, length: float) -> _Axis:
    """Round steps, about TICKS of them, until the largest value is covered."""
    rough = (largest or 1.0) / TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = magnitude * next(factor for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    return _Axis(step * math.ceil((largest or 1.0) / step), step, length)


def _grid(curve: Curve, x_axis: _Axis, y_axis: _Axis, bottom: float) -> Iterator[str]:
    right = WIDTH - RIGHT
    for value in y_axis.ticks():
        y = bottom - y_axis.at(value)
        yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,g}</text>'
    for value in x_axis.ticks():
        x = LEFT + x_axis.at(value)
        yield f'<path d="M{x:.1f} {bottom}v5" stroke="#000000"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{value:,g}</text>'
    yield f'<path d="M{LEFT} {TOP}V{bottom}H{right}" stroke="#000000" fill="none"/>'
    yield f'<text x="{(LEFT + right) / 2}" y="{bottom + 40}" text-anchor="middle">{escape(curve.x)}</text>'
    middle = (TOP + bottom) / 2
    yield (
        f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">'
        f"{escape(curve.y)}</text>"
    )


def _line(number: int, curve: Curve, x_axis: _Axis, y_axis: _Axis, bottom: float) -> Iterator[str]:
    style = (
        f'stroke="{_COLOURS[number % len(_COLOURS)]}" stroke-width="2" fill="none"'
        f' stroke-dasharray="{_DASHES[number % len(_DASHES)]}"'
    )
    points = " ".join(
        f"{LEFT + x_axis.at(x):.1f},{bottom - y_axis.at(y):.1f}" for x, y in _thinned(curve.points)
    )
    yield f'<polyline points="{points}" {style}/>'
    y = HEIGHT + number * LEGEND_LINE
    yield f'<path d="M{LEFT} {y}h40" {style}/>'
    yield f'<text x="{LEFT + 50}" y="{y + 4}">{escape(curve.label)}</text>'


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most MOST_POINTS of them and the last one."""
    step = -(-len(points) // MOST_POINTS)
    return [*points[:-1:step], points[-1]]
