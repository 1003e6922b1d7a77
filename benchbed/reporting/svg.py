"""Small drawings as SVG text: scales, axes and marks. Colours come from the page's style sheet and follow its theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True)
class Scale:
    """From values to places: linear, or logarithmic for positive values.

    Examples
    --------
    >>> Scale(0, 10, 100, 200)(5)
    150.0
    >>> Scale(1, 100, 0, 10, logarithmic=True)(10)
    5.0
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    @classmethod
    def around(
        cls, values: Sequence[float], start: float, end: float, *, logarithmic: bool = False, margin: float = 0.06
    ) -> Scale:
        """A scale that shows all finite values with some room at both ends."""
        finite = [value for value in values if math.isfinite(value) and (value > 0 or not logarithmic)] or [
            1.0 if logarithmic else 0.0
        ]
        low, high = min(finite), max(finite)
        if logarithmic:
            room = max((math.log10(high) - math.log10(low)) * margin, 0.08)
            return cls(low / 10**room, high * 10**room, start, end, True)
        room = (high - low) * margin or abs(high) * margin or 1.0
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        """The place of a value."""
        low, high, at = (
            (math.log10(x) for x in (self.low, self.high, value)) if self.logarithmic else (self.low, self.high, value)
        )
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values inside the scale, about so many."""
        if not self.logarithmic:
            return round_steps(self.low, self.high, about)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for digits in ((1,), (1, 3), (1, 2, 5)):
            found = [d * 10.0**e for e in range(first, last + 1) for d in digits if self.low <= d * 10.0**e <= self.high]
            if len(found) >= 3:
                return found
        return round_steps(self.low, self.high, about)


def round_steps(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two values.

    Examples
    --------
    >>> round_steps(0.013, 0.11, 4)
    [0.02, 0.04, 0.06, 0.08, 0.1]
    """
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((s * power for s in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / raw)))
    digits = max(0, -math.floor(math.log10(step)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, digits) for n in range(first, last + 1)]


def short(value: float) -> str:
    """A tick's text.

    Examples
    --------
    >>> short(0.02), short(1200), short(3_000_000), short(5.0)
    ('0.02', '1.2k', '3M', '5')
    """
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.4g}"


@dataclass
class Drawing:
    """An SVG picture of fixed coordinates that grows and shrinks with the page.

    Parameters
    ----------
    width, height
        Of the coordinates.
    title
        What a screen reader says.
    """

    width: float
    height: float
    title: str
    kind: str = "figure"
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line; ``style`` is a class of the style sheet."""
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>')

    def text(self, x: float, y: float, words: str, style: str = "", anchor: str = "start", turn: float = 0) -> None:
        """Words, escaped."""
        turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}"{turned}>{escape(words)}</text>'
        )

    def path(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """A line through points."""
        if points:
            way = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            self.parts.append(f'<path d="M{way}" class="{style}"/>')

    def circle(self, x: float, y: float, radius: float, style: str, tip: str = "") -> None:
        """A dot, with words that a pointer brings up."""
        inside = f"><title>{escape(tip)}</title></circle>" if tip else "/>"
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{style}"{inside}')

    def diamond(self, x: float, y: float, radius: float, style: str, tip: str = "") -> None:
        """A square on its corner."""
        inside = f"><title>{escape(tip)}</title></path>" if tip else "/>"
        r = radius
        self.parts.append(f'<path d="M{x:.1f} {y - r:.1f}l{r} {r}l{-r} {r}l{-r} {-r}z" class="{style}"{inside}')

    def open_group(self, style: str, series: int | None = None) -> None:
        """Start a group; ``series`` lets the legend light it up."""
        self.parts.append(f'<g class="{style}"' + (f' data-series="{series}">' if series is not None else ">"))

    def close_group(self) -> None:
        """End the group."""
        self.parts.append("</g>")

    def axes(self, x: Scale, y: Scale, x_name: str, y_name: str, *, x_ticks: Sequence[float] | None = None) -> None:
        """Grid lines, tick texts and names of both axes."""
        bottom, left = y.start, x.start
        for tick in y.ticks():
            self.line(left, y(tick), x.end, y(tick), "grid")
            self.text(left - 8, y(tick) + 4, short(tick), "tick", "end")
        for tick in x.ticks() if x_ticks is None else x_ticks:
            self.line(x(tick), bottom, x(tick), bottom + 4, "axis")
            self.text(x(tick), bottom + 19, short(tick), "tick", "middle")
        self.line(left, bottom, x.end, bottom, "axis")
        self.text(x.end, bottom + 38, x_name, "name", "end")
        self.text(left - 8, y.end - 12, y_name, "name", "start")

    def __str__(self) -> str:
        box = f"0 0 {self.width:g} {self.height:g}"
        head = f'<svg class="{self.kind}" viewBox="{box}" role="img" aria-label="{escape(self.title)}">'
        return head + "".join(self.parts) + "</svg>"
