"""Every panel of the dashboards gets data from a real Prometheus that scrapes a real system, and alerts fire there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple
from xml.etree.ElementTree import fromstring

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from docs.screenshots.dashboard import draw
from etc.grafana.dashboards import FOLDER
from tests.support.observed_system import ObservedSystem
from tests.support.programs import reactor
from tests.support.prometheus import require_prometheus

PATIENCE = 75.0
"""Seconds in which all panels have to get data. It takes about fifteen on an idle machine."""


class Panel(NamedTuple):
    """A query of a panel, with its variables."""

    place: str
    expr: str

    def queries(self, labels: dict[str, list[str]]) -> list[str]:
        """Return its query for each value of its variable: a worker has the one, another worker the other."""
        found = [self.expr.replace("$__rate_interval", "15s").replace("$__range", "1m")]
        for name, values in (*labels.items(), ("job", ["microservices"])):
            found = [query.replace(f"${name}", value) for query in found for value in values]
        return sorted(set(found))


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the content of each file."""
    for path in sorted(FOLDER.glob("*.json")):
        yield path.stem, json.loads(path.read_text("utf-8"))


def panels() -> Iterator[Panel]:
    """Yield the queries of the files: of panels, and of annotations."""
    for name, document in documents():
        for annotation in document["annotations"]["list"]:
            yield Panel(f"{name}: {annotation['name']}", annotation["expr"])
        for panel in document["panels"]:
            for target in panel.get("targets") or []:
                yield Panel(f"{name}: {panel['title']} {target['legendFormat']}", target["expr"])


def variables() -> Iterator[tuple[str, str]]:
    """Yield the selector and the label of each variable that has values from Prometheus."""
    for name, document in documents():
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
                if found is None:
                    raise ValueError(f"{name}: {variable['query']}")
                yield found[1].replace("$job", "microservices"), found[2]


class RunTests(TestCase):
    timeout = 3 * PATIENCE

    async def until(self, problem: Callable[[], Awaitable[Any]]) -> None:
        """Wait until *problem* returns something empty."""
        deadline = reactor.seconds() + PATIENCE
        while found := await problem():
            if reactor.seconds() > deadline:
                self.fail(f"{found}\n{self.system.output()[-5000:]}")
            await deferLater(reactor, 0.5)

    async def test_every_panel_gets_data_and_alerts_fire(self) -> None:
        require_prometheus()
        self.system = ObservedSystem()
        self.addCleanup(lambda: ensureDeferred(self.system.stop()))
        await self.system.start()
        self.missing = list(panels())
        self.assertGreater(len(self.missing), 100)
        await self.until(lambda: self.workers_without("Night"))
        self.system.publish_garbage()
        self.system.kill("others")
        await self.until(self.panels_without_data)
        await self.until(
            lambda: self.not_firing({"DeadLetters", "JobErrors", "NoWorkerForJobs", "WorkerGone"})
        )
        self.assertEqual(await self.variables_without_values(), [])
        self.assertEqual(
            await self.metrics_without_panel(), [], "each metric belongs on a dashboard: etc/grafana"
        )
        picture, empty = await draw(self.system.prometheus, 10)
        self.assertEqual(empty, [])
        self.assertNotIn("No data", "".join(fromstring(picture).itertext()))
        self.system.kill("broker")
        await self.until(lambda: self.not_firing({"Disconnected"}))
        self.system.kill("manager")
        await self.until(lambda: self.not_firing({"ManagerAbsent", "ProcessUnreachable"}))

    async def workers_without(self, kind: str) -> bool:
        known = await self.system.prometheus.query("microservices_workers_total", "type")
        return kind not in known

    async def panels_without_data(self) -> list[str]:
        """Ask for the panels that have had no data so far; return those that still have none."""
        labels = {
            "type": sorted(await self.system.prometheus.query("microservices_workers_total", "type")),
            "instance": sorted(await self.system.prometheus.query("microservices_bus_connected", "instance")),
        }
        self.missing = [panel for panel in self.missing if not await self.has_data(panel, labels)]
        return [f"{panel.place}: no data for {panel.expr}" for panel in self.missing]

    async def has_data(self, panel: Panel, labels: dict[str, list[str]]) -> bool:
        for query in panel.queries(labels):
            data = await self.system.prometheus.get("query", query=query)
            if any(not math.isnan(float(series["value"][1])) for series in data["result"]):
                return True
        return False

    async def variables_without_values(self) -> list[str]:
        """Return the selectors of variables that offer nothing to choose."""
        return [
            selector
            for selector, label in variables()
            if not await self.system.prometheus.get(f"label/{label}/values", **{"match[]": selector})
        ]

    async def metrics_without_panel(self) -> list[str]:
        """Return txmicro's metrics that no panel has."""
        names = await self.system.prometheus.get("label/__name__/values")
        families = {
            re.sub("_(bucket|count|created|sum)$", "", name)
            for name in names
            if name.startswith("microservices_")
        }
        shown = " ".join(panel.expr for panel in panels())
        return sorted(family for family in families if family not in shown)

    async def not_firing(self, expected: set[str]) -> set[str]:
        """Return those of the alerts *expected* that do not fire. Those that do have complete texts."""
        alerts = (await self.system.prometheus.get("alerts"))["alerts"]
        firing = [alert for alert in alerts if alert["state"] == "firing"]
        for alert in firing:
            for name, text in alert["annotations"].items():
                self.assertNotIn("<error", text, f"{alert['labels']} {name}")
                self.assertNotIn("<no value>", text)
        return expected - {alert["labels"]["alertname"] for alert in firing}
