"""Stacked bars as SVG: enough for phases of a boot, and no library."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

WIDTH, LEFT, BAR, GAP, TOP = 900, 190, 34, 22, 60
# Okabe and Ito's colours, told apart by everybody; https://jfly.uni-koeln.de/color/
COLOURS = ("#999999", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#F0E442", "#0072B2")


def stacked(bars: Mapping[str, Mapping[str, float]], title: str) -> str:
    """One horizontal bar per key of `bars`, cut into its parts in their order; parts have the same names in all."""
    names = list(next(iter(bars.values())))
    scale = (WIDTH - LEFT - 70) / max(sum(parts.values()) for parts in bars.values())
    rows, y = [_text(LEFT, 24, title, size=16)], TOP
    for bar, parts in bars.items():
        rows.append(_text(LEFT - 10, y + BAR / 2 + 5, bar, anchor="end"))
        x: float = LEFT
        for colour, seconds in zip(COLOURS, (parts[name] for name in names), strict=False):
            rows.append(f'<rect x="{x:.1f}" y="{y}" width="{seconds * scale:.1f}" height="{BAR}" fill="{colour}"/>')
            x += seconds * scale
        rows.append(_text(x + 6, y + BAR / 2 + 5, f"{sum(parts.values()):.1f} s"))
        y += BAR + GAP
    x, y = LEFT, y + 6
    for colour, name in zip(COLOURS, names, strict=False):
        width = 28 + 7.2 * len(name)
        if x + width > WIDTH:
            x, y = LEFT, y + 24
        rows += [f'<rect x="{x:.1f}" y="{y}" width="14" height="14" fill="{colour}"/>', _text(x + 19, y + 12, name, size=12)]
        x += width + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 30}" font-family="sans-serif">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(rows) + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 13) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
