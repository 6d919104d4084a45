"""The picture of a dashboard: what it shows of the series, and how numbers are written."""

from __future__ import annotations

import math
from typing import Any
from xml.etree.ElementTree import Element, fromstring

from twisted.trial.unittest import SynchronousTestCase

from docs.drawing.panels import Series, dashboard, series
from docs.drawing.units import written

SVG = "{http://www.w3.org/2000/svg}"
STEPS = [{"value": None, "color": "green"}, {"value": 5, "color": "red"}]


def drawn(kind: str, unit: str, *lines: Series, **config: Any) -> Element:
    """Return the picture of a dashboard with one panel."""
    panel = {
        "type": kind,
        "title": "Jobs",
        "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": {"steps": STEPS}} | config},
    }
    return fromstring(dashboard({"title": "Overview", "panels": [panel]}, {"Jobs": list(lines)}, "made by"))


def texts(picture: Element) -> list[str]:
    return [each.text or "" for each in picture.iter(f"{SVG}text")]


class SeriesTests(SynchronousTestCase):
    def test_they_are_named_as_the_legend_says(self) -> None:
        answer = {"metric": {"type": "WB", "queue": "dead"}, "values": [[1, "2"], [2, "NaN"]]}
        (found,) = series("{{type}} {{queue}} {{other}}", [answer])
        self.assertEqual(found.name, "WB dead")
        self.assertEqual(found.numbers, [2.0])


class PictureTests(SynchronousTestCase):
    def test_a_number_has_its_unit_and_the_color_of_its_bound(self) -> None:
        for value, color in ((4.0, "#73bf69"), (5.0, "#f2495c")):
            picture = drawn("stat", "s", Series("", [(1.0, 1.0), (2.0, value)]))
            (number,) = (each for each in picture.iter(f"{SVG}text") if each.text == f"{value:g} s")
            self.assertEqual(number.get("fill"), color)

    def test_a_graph_has_a_line_and_a_legend_for_each_series(self) -> None:
        lines = [Series(f"type {index}", [(1.0, index), (2.0, index + 1.0)]) for index in range(6)]
        picture = drawn("timeseries", "ops", *lines)
        bounds, named = (
            ["0/s", "5/s", "10/s"],
            ["type 5", "6/s", "type 4", "5/s", "type 3", "4/s", "type 2", "3/s"],
        )
        self.assertEqual(texts(picture)[2:], [*bounds, *named, "and 2 more", "made by"])
        colored = {line.get("stroke") for line in picture.iter(f"{SVG}polyline")}
        self.assertEqual(len(colored), 7, "six lines, and those of the grid")

    def test_a_state_has_a_bar_in_its_color_for_each_time_in_which_it_holds(self) -> None:
        words = [{"options": {"0": {"color": "red"}, "1": {"color": "green"}}}]
        line = Series("WB", [(1.0, 1.0), (2.0, 1.0), (3.0, 0.0), (4.0, 0.0)])
        longer = Series("WD", [(1.0, 0.0), (9.0, 0.0)])
        picture = drawn("state-timeline", "short", line, longer, mappings=words)
        bars = [each for each in picture.iter(f"{SVG}rect") if each.get("opacity") == "0.70"]
        self.assertEqual([each.get("fill") for each in bars], ["#73bf69", "#f2495c", "#f2495c"])
        connected, lost, longest = (float(each.get("width", "")) for each in bars)
        self.assertLess(abs(connected - 2 * lost), 0.2)
        self.assertLess(abs(longest - 8 * lost), 0.5)

    def test_a_heatmap_has_a_cell_for_each_bucket_with_values(self) -> None:
        lines = [Series(le, [(1.0, count)]) for le, count in (("0.1", 0.0), ("1", 3.0), ("+Inf", 3.0))]
        picture = drawn("heatmap", "", *lines)
        self.assertEqual(
            len([each for each in picture.iter(f"{SVG}rect") if each.get("fill") == "#ff9830"]), 1
        )
        self.assertIn("100 ms", texts(picture))

    def test_a_table_has_what_there_is_now(self) -> None:
        lines = [Series("DeadLetters WB", [(1.0, 1.0), (2.0, 1.0)]), Series("RestSlow", [(1.0, 1.0)])]
        self.assertEqual(texts(drawn("table", "short", *lines))[2:], ["DeadLetters WB", "1", "made by"])

    def test_a_panel_without_values_says_so(self) -> None:
        self.assertIn("No data", texts(drawn("stat", "s")))
        self.assertIn("No data", texts(drawn("timeseries", "s", Series("", [(1.0, math.nan)]))))


class UnitTests(SynchronousTestCase):
    def test_numbers_are_written_in_the_units_of_the_panels(self) -> None:
        for value, unit, expected in (
            (0.0005, "s", "500 µs"),
            (90, "s", "1.5 min"),
            (0.051, "percentunit", "5.1 %"),
            (2**20, "bytes", "1 MiB"),
            (1234, "ops", "1.23 k/s"),
            (0, "short", "0"),
        ):
            self.assertEqual(written(value, unit), expected)
