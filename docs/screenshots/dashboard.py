"""A picture of the overview dashboard's queries, as a real Prometheus answers them. There is no Grafana in it.

It starts the processes of ``tests/support/observed_system.py`` for a minute, and kills one of them halfway. The panels'
queries, units and bounds are those of ``etc/grafana/dashboards/overview.json``. The drawing is our own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater, react

from docs.drawing.panels import Series, dashboard, series
from etc.grafana.dashboards import FOLDER
from tests.support.observed_system import ObservedSystem
from tests.support.prometheus import Prometheus

SECONDS: Final = 70
"""How long the system runs. Prometheus scrapes it each second."""
NOTE: Final = (
    "Drawn by docs/screenshots/dashboard.py from Prometheus' answers to the queries of the dashboard "
    "“Overview”. Grafana draws them in its own style."
)


def make(folder: Path) -> None:
    """Save the picture in *folder*. A process of its own makes it, since a reactor runs only once."""
    subprocess.run([sys.executable, "-m", __name__, str(folder)], check=True)


async def draw(prometheus: Prometheus, seconds: float, name: str = "overview") -> tuple[str, list[str]]:
    """Return the picture of the last *seconds* of a dashboard, and the titles of its panels that have no data."""
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    found: dict[str, list[Series]] = {}
    end = time.time()
    for panel in document["panels"]:
        if panel["type"] == "row":
            continue
        found[panel["title"]] = lines = []
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "10s").replace("$job", "microservices")
            data = await prometheus.get(
                "query_range", query=query, start=str(end - seconds), end=str(end), step="1"
            )
            lines += series(target["legendFormat"] or columns(panel), data["result"])
    return dashboard(document, found, NOTE), [title for title, lines in found.items() if not lines]


def columns(panel: dict[str, Any]) -> str:
    """Return the legend that has what the columns of a table have."""
    names = panel["transformations"][0]["options"]["include"]["names"]
    return " ".join(f"{{{{{name}}}}}" for name in names if name != "Value")


async def save(reactor: Any, folder: Path) -> None:
    """Run the system, and save the picture in *folder*."""
    system = ObservedSystem()
    try:
        await system.start()
        await deferLater(reactor, SECONDS / 2)
        system.kill("others")
        await deferLater(reactor, SECONDS / 2)
        picture, _ = await draw(system.prometheus, SECONDS)
    finally:
        await system.stop()
    path = folder / "dashboard.svg"
    path.write_text(picture, "utf-8")
    print(f"{path.name}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    react(lambda reactor: ensureDeferred(save(reactor, Path(sys.argv[1]))))
