"""Draw ``results.json`` as PNG and SVG files in its directory: ``python plot.py DIRECTORY``. It needs
matplotlib.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "txmicro"  # the same results make the same file
mpl.rcParams["svg.fonttype"] = "none"

from matplotlib import pyplot as plt  # noqa: E402

OURS, LIMIT, OTHERS = "#1f6f8b", "#888888", "#d9a25f"
Result = dict[str, Any]


def main(directory: Path) -> None:
    """Draw the results that there are."""
    results = json.loads((directory / "results.json").read_text("utf-8"))
    for name, draw in (("jobs", draw_jobs), ("rest", draw_rest)):
        mine = [result for result in results if result["bench"] == name]
        if mine:
            figure = draw(mine)
            figure.tight_layout()
            figure.savefig(directory / f"{name}.png", dpi=120)
            figure.savefig(directory / f"{name}.svg", metadata={"Date": None})


def draw_jobs(results: list[Result]) -> Any:
    """Draw the jobs per second with 100 in flight, and the time of a job with one in flight."""
    figure, (rates, times) = plt.subplots(1, 2, figsize=(10, 4))
    many = sorted((each for each in results if each["in_flight"] == 100), key=lambda each: each["per_second"])
    _bars(rates, many, "per_second", "{:,.0f}")
    for row, each in enumerate(many):
        rates.plot([each["per_second_min"], each["per_second_max"]], [row, row], color="black", marker="|")
    rates.set_title("jobs/s, 100 in flight (median, min to max)", fontsize=10)
    one = sorted((each for each in results if each["in_flight"] == 1), key=lambda each: -each["p50_ms"])
    _bars(times, one, "p50_ms", "{:.2f}")
    times.set_title("ms a job, one in flight (median)", fontsize=10)
    return figure


def _bars(axes: Any, results: list[Result], key: str, form: str) -> None:
    colors = [_color(each["system"]) for each in results]
    bars = axes.barh([each["system"] for each in results], [each[key] for each in results], color=colors)
    axes.bar_label(bars, labels=[form.format(each[key]) for each in results], padding=6, fontsize=8)
    axes.margins(x=0.18)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _color(system: str) -> str:
    return OURS if system.startswith("txmicro") else LIMIT if system in ("c-librabbitmq", "bare") else OTHERS


def draw_rest(results: list[Result]) -> Any:
    """Draw the requests per second by connections."""
    figure, axes = plt.subplots(figsize=(6, 3.5))
    for system in dict.fromkeys(result["system"] for result in results):
        mine = sorted(
            (each for each in results if each["system"] == system), key=lambda each: each["in_flight"]
        )
        connections, rates = zip(*((each["in_flight"], each["per_second"]) for each in mine), strict=True)
        axes.plot(connections, rates, marker="o", color=_color(system), label=system)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({each["in_flight"] for each in results}))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("connections")
    axes.set_title("REST chain, requests/s", fontsize=10)
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]))
