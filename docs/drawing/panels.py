"""Draws the panels of a Grafana dashboard as SVG, from what Prometheus answers to their queries."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from .svg import Box, element, line, rectangle, text
from .units import written

COLUMN, ROW, GAP = 50, 38, 8
"""Pixels of the dashboard's grid, which has 24 columns."""
HEADER, FOOTER = 40, 30

COLORS: Final = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffa6b0")
NAMED: Final = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}
GRAY: Final = "#9a9aab"
EDGE: Final = "#2c2f36"
LEGEND: Final = 4
"""Series that a legend names; the others are counted."""


class Series(NamedTuple):
    """The values of a series by time. A value may be NaN."""

    name: str
    points: list[tuple[float, float]]

    @property
    def numbers(self) -> list[float]:
        """The values that are numbers."""
        return [value for _, value in self.points if math.isfinite(value)]


def series(legend: str, answers: Iterable[dict[str, Any]]) -> list[Series]:
    """Return the series of a range query's answer, named as *legend* says."""
    found = []
    for answer in answers:
        labels: dict[str, str] = answer["metric"]
        name = legend
        for label in re.findall(r"{{(\w+)}}", legend):
            name = name.replace(f"{{{{{label}}}}}", labels.get(label, ""))
        found.append(
            Series(" ".join(name.split()), [(float(time), float(value)) for time, value in answer["values"]])
        )
    return sorted(found)


def dashboard(document: dict[str, Any], found: dict[str, list[Series]], note: str) -> str:
    """Return the picture of a dashboard. *found* has the series of each panel, by title."""
    panels = document["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    width, height = 24 * COLUMN + GAP, HEADER + rows * ROW + FOOTER
    parts = [rectangle(Box(0, 0, width, height), "#111217"), text(GAP, 26, document["title"], size=18)]
    for panel in panels:
        parts += _panel(panel, found.get(panel["title"], []))
    parts.append(text(GAP, height - 10, note, fill=GRAY))
    return element(
        "svg",
        "\n".join(["", *parts, ""]),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        font_family="Inter, Helvetica, Arial, sans-serif",
    )


def _panel(panel: dict[str, Any], found: list[Series]) -> Iterator[str]:
    grid = panel["gridPos"]
    left, top = grid["x"] * COLUMN + GAP, HEADER + grid["y"] * ROW
    if panel["type"] == "row":
        yield text(left, top + 24, f"▾ {panel['title']}", size=14)
        return
    box = Box(left, top, grid["w"] * COLUMN - GAP, grid["h"] * ROW - GAP)
    yield rectangle(box, "#181b1f", rx=3, stroke=EDGE)
    yield text(left + 8, top + 18, panel["title"], size=12)
    inner = Box(left + 8, top + 28, box.width - 16, box.height - 36)
    if any(each.numbers for each in found):
        yield from _DRAWN[panel["type"]](inner, panel.get("fieldConfig", {}).get("defaults", {}), found)
    else:
        yield text(*inner.at(0.5, 0.5), "No data", anchor="middle")


def _stat(box: Box, config: dict[str, Any], found: list[Series]) -> Iterator[str]:
    value = found[0].numbers[-1]
    reached = [
        step for step in config["thresholds"]["steps"] if step["value"] is None or value >= step["value"]
    ]
    color = NAMED[reached[-1]["color"]]
    low = Box(box.x, box.y + box.height * 0.6, box.width, box.height * 0.4)
    yield from _lines(low, found[:1], [color], _top(found[:1]))
    place = box.at(0.5, 0.55)
    yield text(*place, written(value, config["unit"]), size=28, fill=color, anchor="middle")


def _graph(box: Box, config: dict[str, Any], found: list[Series]) -> Iterator[str]:
    shown = sorted(found, key=lambda each: -max(each.numbers, default=0))
    legend = 15 * (min(len(shown), LEGEND) + (len(shown) > LEGEND))
    area = Box(box.x + 52, box.y, box.width - 52, box.height - legend - 8)
    top = _top(shown, 2 if config["unit"] == "bytes" else 10)
    for share in (0, 0.5, 1):
        x, y = area.at(0, share)
        yield text(x - 6, y + 4, written(top * share, config["unit"]), anchor="end", fill=GRAY)
        yield line([(x, y), area.at(1, share)], EDGE)
    steps = config.get("thresholds", {}).get("steps", [])
    if len(steps) > 1 and steps[-1]["value"] < top:
        height = area.height * (1 - steps[-1]["value"] / top)
        yield rectangle(Box(area.x, area.y, area.width, height), NAMED["red"], 0.12)
    yield from _lines(area, shown, COLORS, top)
    y = box.y + box.height - legend
    for index, each in enumerate(shown[:LEGEND]):
        y += 15
        yield line([(box.x, y - 4), (box.x + 12, y - 4)], COLORS[index], 3)
        yield text(box.x + 18, y, _short(each.name, box.width - 90))
        if each.numbers:
            yield text(box.x + box.width, y, written(each.numbers[-1], config["unit"]), anchor="end")
    if len(shown) > LEGEND:
        yield text(box.x + 18, y + 15, f"and {len(shown) - LEGEND} more", fill=GRAY)


def _states(box: Box, config: dict[str, Any], found: list[Series]) -> Iterator[str]:
    words = config["mappings"][0]["options"]
    start, end = _span(found)
    height = box.height / len(found)
    area = Box(box.x + 140, box.y, box.width - 140, box.height)
    for index, each in enumerate(found):
        y = box.y + index * height
        yield text(box.x, y + height / 2 + 4, _short(each.name, 130))
        for value, since, until in _runs(each.points):
            x, _ = area.at((since - start) / (end - start), 0)
            width = area.width * (until - since) / (end - start)
            yield rectangle(Box(x, y + 2, width, height - 4), NAMED[words[f"{value:g}"]["color"]], 0.7)


def _runs(points: list[tuple[float, float]]) -> Iterator[tuple[float, float, float]]:
    """Yield each value with the time from which, and that until which, it did not change."""
    changes = [points[0], *(point for before, point in pairwise(points) if before[1] != point[1])]
    for (since, value), (until, _) in zip(changes, [*changes[1:], points[-1]], strict=True):
        yield value, since, until


def _heatmap(box: Box, _config: dict[str, Any], found: list[Series]) -> Iterator[str]:
    rows = sorted(found, key=lambda row: float(row.name))
    area = Box(box.x + 52, box.y, box.width - 52, box.height - 4)
    counts = [dict(row.points) for row in rows]
    times = sorted({time for row in counts for time in row})
    width, height = area.width / len(times), area.height / len(rows)
    cells = {
        (column, row): counts[row].get(time, 0) - (counts[row - 1].get(time, 0) if row else 0)
        for column, time in enumerate(times)
        for row in range(len(rows))
    }
    most = max(cells.values()) or 1
    for (column, row), count in cells.items():
        if count > most / 1000:
            cell = Box(area.x + column * width, area.y + area.height - (row + 1) * height, width, height - 1)
            yield rectangle(cell, NAMED["orange"], 0.15 + 0.85 * count / most)
    for row in range(0, len(rows) - 1, 3):
        x, y = area.at(0, (row + 0.5) / len(rows))
        yield text(x - 6, y + 4, written(float(rows[row].name), "s"), anchor="end", fill=GRAY)


def _table(box: Box, config: dict[str, Any], found: list[Series]) -> Iterator[str]:
    """Draw the series that still have a value."""
    _, end = _span(found)
    now = [each for each in found if each.points[-1][0] >= end]
    for index, each in enumerate(now):
        y = box.y + 16 * (index + 1)
        yield text(box.x, y, _short(each.name, box.width - 50))
        yield text(box.x + box.width, y, written(each.numbers[-1], config["unit"]), anchor="end")


_DRAWN: Final = {
    "stat": _stat,
    "timeseries": _graph,
    "state-timeline": _states,
    "heatmap": _heatmap,
    "table": _table,
}


def _lines(box: Box, found: Sequence[Series], colors: Sequence[str], top: float) -> Iterator[str]:
    start, end = _span(found)
    for index, each in enumerate(found):
        points = [
            box.at((time - start) / (end - start), value / top)
            for time, value in each.points
            if math.isfinite(value)
        ]
        yield line(points, colors[index % len(colors)], 1.5)


def _span(found: Sequence[Series]) -> tuple[float, float]:
    times = [time for each in found for time, _ in each.points]
    return min(times), max(max(times), min(times) + 1)


def _top(found: Sequence[Series], base: int = 10) -> float:
    """Return a round number that no value is above, in the number system of *base*."""
    most = max(number for each in found for number in each.numbers)
    if most <= 0:
        return 1
    size = float(base) ** math.floor(math.log(most, base) + 1e-9)
    return next(size * step for step in (1, 2, 5, 10) if size * step >= most)


def _short(words: str, width: float) -> str:
    letters = int(width / 6)
    return words if len(words) <= letters else f"{words[: letters - 1]}…"
