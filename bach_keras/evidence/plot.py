"""Small plots as SVG inside the page, so that they take its colours, by day and by night, and its fonts.

A plot is as wide as the narrowest screen, so its letters keep their size there; a page puts several side by side.
"""

import itertools
import math
from dataclasses import dataclass

from datasets.escape import for_html

WIDTH, HEIGHT = 320, 230
_RIGHT, _TOP, _BOTTOM = 18, 10, 42  # half of the last number of an axis lies beyond it
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Axis:
    """A range of numbers and its title."""

    title: str
    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, title: str, values, log: bool = False) -> "Axis":
        """Return an axis that shows all these finite numbers, between round ones."""
        low, high = min(values), max(values)
        if log:
            return cls(title, low / 1.2, high * 1.2, log=True)
        step = _step(high - low or abs(high) or 1.0)
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        return cls(title, low, high if high > low else low + step)

    def share(self, value: float) -> float:
        """Return where a number lies, from 0 to 1; what lies beyond the axis is put at its end."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self) -> list[tuple[float, str]]:
        """Return round numbers along the axis and how each is written."""
        if not self.log:
            step = _step(self.high - self.low)
            digits = max(0, -math.floor(math.log10(step) + 1e-9))
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            return [(count * step, f"{count * step:.{digits}f}") for count in range(first, last + 1)]
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        stride = max(1, (last - first) // 5)
        places = [(power, 10.0**power) for power in range(first, last + 1, stride)]
        decades = [
            (value, "10" + str(power).translate(_SUPERSCRIPT))
            for power, value in places
            if self.low <= value <= self.high
        ]
        if len(decades) > 2:
            return decades
        rounds = [m * 10.0**power for power, m in itertools.product(range(first, last + 1), (1, 2, 5))]
        return [(value, f"{value:g}") for value in rounds if self.low <= value <= self.high]


def _step(span: float) -> float:
    """Return the round step that makes four to eight of a span."""
    power = 10.0 ** math.floor(math.log10(span / 4))
    return next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 8)


class Plot:
    """One panel with two axes; ``series`` is a class of the page's style: one, two, three or grey."""

    def __init__(self, x: Axis, y: Axis, height: int = HEIGHT, left: int | None = None):
        self.x, self.y = x, y
        self.height = height
        # The title of the y axis is left of its numbers, and these are as long as they are.
        self.left = left or 32 + round(7.2 * max(len(text) for _, text in y.ticks()))
        self._marks = []

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point lies in the picture."""
        across = self.left + self.x.share(x) * (WIDTH - _RIGHT - self.left)
        down = _TOP + (1 - self.y.share(y)) * (self.height - _BOTTOM - _TOP)
        return round(across, 1), round(down, 1)

    def line(self, points, series: str) -> None:
        """Draw a line; ``series`` may add ``dashed`` or ``faint``."""
        places = " ".join(f"{x:g},{y:g}" for x, y in (self.place(*point) for point in points))
        self._marks.append(f'<polyline class="line {series}" points="{places}"/>')

    def dots(self, points, series: str, radius: float = 3.5) -> None:
        """Draw dots; ``series`` may add ``hollow``. A point may bring a radius of its own as its third number."""
        for x, y, *own in points:
            across, down = self.place(x, y)
            self._marks.append(
                f'<circle class="dot {series}" cx="{across:g}" cy="{down:g}" r="{(own or [radius])[0]:.3g}"/>'
            )

    def diamonds(self, points, series: str) -> None:
        """Draw hollow diamonds."""
        for across, down in (self.place(*point) for point in points):
            corners = f"M{across:g} {down - 5:g}l5 5l-5 5l-5 -5z"
            self._marks.append(f'<path class="hollow {series}" d="{corners}"/>')

    def bars(self, points, series: str, width: float) -> None:
        """Draw upright bars from the bottom of the plot."""
        for x, y in points:
            (left, top), (right, _) = self.place(x - width / 2, y), self.place(x + width / 2, y)
            bottom = self.place(x, self.y.low)[1]
            size = f'width="{right - left:.1f}" height="{bottom - top:.1f}"'
            self._marks.append(f'<rect class="bar {series}" x="{left:g}" y="{top:g}" {size}/>')

    def upright(self, x: float, series: str) -> None:
        """Mark a place on the x axis from the bottom to the top."""
        self.line([(x, self.y.low), (x, self.y.high)], f"dashed {series}")

    def svg(self, label: str, rows: dict[float, str] | None = None) -> str:
        """Return the picture; ``label`` says in words what it shows, ``rows`` name places on the y axis."""
        left, right, top, bottom = self.left, WIDTH - _RIGHT, _TOP, self.height - _BOTTOM
        parts = []
        for value, text in self.x.ticks():
            across = self.place(value, self.y.low)[0]
            parts.append(f'<path class="grid" d="M{across:g} {top}V{bottom}"/>')
            parts.append(f'<text class="tick" text-anchor="middle" x="{across:g}" y="{bottom + 15}">{text}</text>')
        for value, text in self.y.ticks() if rows is None else rows.items():
            down = self.place(self.x.low, value)[1]
            parts.append(f'<path class="grid" d="M{left} {down:g}H{right}"/>')
            name = "tick" if rows is None else "row"
            parts.append(
                f'<text class="{name}" text-anchor="end" x="{left - 7}" y="{down + 4:g}">{for_html(text)}</text>'
            )
        parts.append(f'<path class="axis" d="M{left} {top}V{bottom}H{right}"/>')
        middle = (left + right) / 2
        parts.append(f'<text text-anchor="middle" x="{middle:g}" y="{bottom + 34}">{for_html(self.x.title)}</text>')
        if self.y.title:
            down = (top + bottom) / 2
            turned = f'x="12" y="{down:g}" transform="rotate(-90 12 {down:g})"'
            parts.append(f'<text text-anchor="middle" {turned}>{for_html(self.y.title)}</text>')
        box = f'viewBox="0 0 {WIDTH} {self.height}"'
        return f'<svg role="img" aria-label="{for_html(label)}" {box}>{"".join(parts + self._marks)}</svg>'


def legend(entries: dict[str, str]) -> str:
    """Return what the marks of a plot mean: words -> ``line`` or ``dot`` or ``diamond`` and the series."""
    lines = []
    for words, mark in entries.items():
        shape, series = mark.split(" ", 1)
        drawn = {
            "line": f'<path class="line {series}" d="M1 6H25"/>',
            "dot": f'<circle class="dot {series}" cx="13" cy="6" r="4"/>',
            "diamond": f'<path class="hollow {series}" d="M13 1l5 5l-5 5l-5 -5z"/>',
        }[shape]
        lines.append(f'<li><svg aria-hidden="true" viewBox="0 0 26 12">{drawn}</svg>{for_html(words)}</li>')
    return f'<ul class="legend">{"".join(lines)}</ul>'
