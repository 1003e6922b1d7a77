"""The intervals of claims as one picture that stands alone: a page of text shows it as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from benchbed.sweep.planted_claims import Claims, Finding

EXPECTED = {"gain": "a gain", "no_gain": "no gain", "none": "no difference"}
VERDICT_COLOURS = {"confirmed": "#1a7f4b", "refuted": "#b3261e", "undecided": "#6b6b76"}
PLOT, LEFT, LETTER, LINE = 490.0, 250.0, 7.6, 44.0
"""Widths of the plot, of the names at least, and of a letter of these; height of a claim."""


def picture(claims: Claims, found: Sequence[Finding]) -> str:
    """Each claim's interval, the differences of the single shops, and the margin, as shares of the claim's scale."""
    shares = [
        100 * value / f.scale
        for f in found
        for value in (*f.estimate.each, f.estimate.low, f.estimate.high, f.margin, -f.margin)
        if math.isfinite(value)
    ]
    low, high = min(shares), max(shares)
    left = max(LEFT, 12 + LETTER * max(len(f.claim.name) for f in found))
    wide = left + PLOT + 20
    room = 0.05 * (high - low)
    low, high, height = low - room, high + room, 40 + LINE * len(found) + 34

    def x(share: float) -> float:
        return left + (share - low) / (high - low) * PLOT

    def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
        return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'

    step = next(s for s in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if (high - low) / s <= 10 or s == 1000)
    ticks = [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {height:g}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13" aria-label="Differences with their intervals">',
        f'<rect width="{wide:g}" height="{height:g}" fill="#ffffff"/>',
    ]
    bottom = height - 34
    for tick in ticks:
        parts.append(line(x(tick), 24, x(tick), bottom, "#e4e4ea", 1))
        parts.append(f'<text x="{x(tick):.1f}" y="{bottom + 17:.1f}" text-anchor="middle" fill="#55555f">{tick:+g} %</text>')
    parts.append(line(x(0), 20, x(0), bottom, "#33333b", 1.2))
    for place, f in enumerate(found):
        y = 40 + LINE * (place + 0.5)
        colour, scale = VERDICT_COLOURS[f.verdict], 100 / f.scale
        width = x(f.margin * scale) - x(-f.margin * scale)
        box = f'x="{x(-f.margin * scale):.1f}" y="{y - 14:.1f}" width="{width:.1f}" height="28"'
        parts.append(f'<rect {box} fill="#f1ecd9" opacity="0.7"/>')
        parts.append(f'<text x="12" y="{y - 3:.1f}" fill="#1b1b20" font-weight="600">{escape(f.claim.name)}</text>')
        said = f"expected {EXPECTED[f.claim.expected]}: {f.verdict}"
        parts.append(f'<text x="12" y="{y + 14:.1f}" fill="{colour}">{escape(said)}</text>')
        if math.isfinite(f.estimate.low):
            parts.append(line(x(f.estimate.low * scale), y, x(f.estimate.high * scale), y, colour, 3))
        for value in f.estimate.each:
            parts.append(f'<circle cx="{x(value * scale):.1f}" cy="{y:.1f}" r="3" fill="#ffffff" stroke="{colour}"/>')
        parts.append(f'<circle cx="{x(f.estimate.mean * scale):.1f}" cy="{y:.1f}" r="5.5" fill="{colour}"/>')
    words = f"difference of {claims.metric}, as a share of the scale row; small dots are shops, the pale band is the margin"
    parts.append(f'<text x="{wide - 20:g}" y="{height - 3:g}" text-anchor="end" fill="#55555f" font-size="11">{words}</text>')
    return "".join(parts) + "</svg>\n"
