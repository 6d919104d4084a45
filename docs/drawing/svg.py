"""Elements of SVG."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle, in pixels."""

    x: float
    y: float
    width: float
    height: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the point at the shares *x* of the width, from the left, and *y* of the height, from below."""
        return self.x + self.width * x, self.y + self.height * (1 - y)


def element(name: str, content: str = "", **attributes: str | float) -> str:
    """Return an element. Numbers get one digit; ``_`` in a name stands for ``-``."""
    words = [
        f'{key.replace("_", "-")}="{f"{value:.1f}" if isinstance(value, float) else escape(str(value))}"'
        for key, value in attributes.items()
    ]
    return f"<{' '.join([name, *words])}>{content}</{name}>"


def text(
    x: float, y: float, words: str, *, size: int = 11, fill: str = "#ccccdc", anchor: str = "start"
) -> str:
    """Return a text; *y* is its base line."""
    return element("text", escape(words), x=x, y=y, font_size=size, fill=fill, text_anchor=anchor)


def line(points: Iterable[tuple[float, float]], stroke: str, width: float = 1) -> str:
    """Return a line through *points*."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("polyline", points=places, fill="none", stroke=stroke, stroke_width=width)


def rectangle(box: Box, fill: str, opacity: float = 1, **attributes: str | float) -> str:
    """Return a filled rectangle."""
    return element("rect", "", **box._asdict(), fill=fill, opacity=f"{opacity:.2f}", **attributes)
