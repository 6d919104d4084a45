"""The dashboards' files: made by their modules, valid, and complete."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from etc.grafana.dashboards import DASHBOARDS, FOLDER, text
from tests.support.sdk_types import problems

ROOT = Path(__file__).parents[3]
GRAFANA = ROOT / "etc" / "grafana"
ALL = {name: json.loads(text(name)) for name in DASHBOARDS}


def panels(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, without rows."""
    return [panel for panel in document["panels"] if panel["type"] != "row"]


class FilesTests(SynchronousTestCase):
    def test_each_file_is_what_its_module_makes(self) -> None:
        self.assertEqual({path.stem for path in FOLDER.glob("*.json")}, DASHBOARDS.keys())
        for name in DASHBOARDS:
            self.assertEqual((FOLDER / f"{name}.json").read_text("utf-8"), text(name), "run make dashboards")


class SchemaTests(SynchronousTestCase):
    def test_each_dashboard_is_valid(self) -> None:
        for name, document in ALL.items():
            self.assertEqual(problems(document), [], name)

    def test_what_is_not_valid_is_found(self) -> None:
        def check(expected: str, change: Any) -> None:
            document = copy.deepcopy(ALL["overview"])
            change(document)
            (problem,) = problems(document)
            self.assertIn(expected, problem)

        def first(document: Any) -> Any:
            return panels(document)[0]

        def steps(document: Any) -> Any:
            return first(document)["fieldConfig"]["defaults"]["thresholds"]["steps"]

        check("panels[1].name is not known", lambda document: first(document).update(name="Workers"))
        check("panels[1].title is 7", lambda document: first(document).update(title=7))
        check("type_val", lambda document: first(document)["datasource"].update(type=1))
        check("color_mode", lambda document: first(document)["options"].update(colorMode="loud"))
        check("expr", lambda document: first(document)["targets"][0].update(expr=None))
        check("steps[1].value is", lambda document: steps(document)[1].update(value="high"))


class ContentTests(SynchronousTestCase):
    def test_every_panel_has_a_title_a_description_a_unit_and_the_data_source_of_the_variable(self) -> None:
        for name, document in ALL.items():
            for panel in panels(document):
                place = f"{name}: {panel.get('title')}"
                self.assertRegex(panel["description"], r"^[A-Z1].*\.$", place)
                self.assertLessEqual(len(panel["title"]), 40, place)
                if panel["type"] not in ("heatmap", "state-timeline"):
                    self.assertTrue(panel["fieldConfig"]["defaults"]["unit"], place)
                for target in panel["targets"]:
                    self.assertEqual(target["datasource"]["uid"], "$datasource", place)

    def test_titles_and_ids_are_unique(self) -> None:
        self.assertEqual(len({document["uid"] for document in ALL.values()}), len(ALL))
        for name, document in ALL.items():
            titles = [panel["title"] for panel in panels(document)]
            self.assertEqual(len(set(titles)), len(titles), name)

    def test_every_dashboard_has_the_variables_that_its_queries_use(self) -> None:
        built_in = {"__rate_interval", "__range"}
        for name, document in ALL.items():
            known = {variable["name"] for variable in document["templating"]["list"]}
            self.assertLessEqual({"datasource", "job", "page"}, known, name)
            used = set(re.findall(r"\$(\w+)", json.dumps(document)))
            self.assertEqual(used - built_in, known, name)

    def test_every_query_keeps_to_one_system(self) -> None:
        for name, document in ALL.items():
            for panel in panels(document):
                for target in panel["targets"]:
                    selectors = re.findall(
                        r"(?:microservices|process|python)_\w+|\bup\b|ALERTS", target["expr"]
                    )
                    jobs = len(re.findall('job="\\$job"|alertname="ManagerAbsent"', target["expr"]))
                    self.assertEqual(len(selectors), jobs, f"{name}: {target['expr']}")

    def test_no_panel_covers_another(self) -> None:
        for name, document in ALL.items():
            taken: set[tuple[int, int]] = set()
            for panel in document["panels"]:
                place = panel["gridPos"]
                cells = {
                    (x, y)
                    for x in range(place["x"], place["x"] + place["w"])
                    for y in range(place["y"], place["y"] + place["h"])
                }
                self.assertFalse(cells & taken, f"{name}: {panel['title']}")
                self.assertLessEqual(place["x"] + place["w"], 24, f"{name}: {panel['title']}")
                taken |= cells


class ProvisioningTests(SynchronousTestCase):
    def test_the_data_source_scrapes_as_often_as_prometheus_does(self) -> None:
        (source,) = read(GRAFANA / "provisioning/datasources/prometheus.yml")["datasources"]
        (scraped,) = read(ROOT / "etc/prometheus/prometheus.yml")["scrape_configs"]
        self.assertEqual(source["jsonData"]["timeInterval"], scraped["scrape_interval"])
        self.assertEqual(source["type"], "prometheus")

    def test_the_provider_reads_files(self) -> None:
        (provider,) = read(GRAFANA / "provisioning/dashboards/txmicro.yml")["providers"]
        self.assertEqual(provider["type"], "file")
        self.assertEqual(provider["options"], {"path": "$TXMICRO_DASHBOARDS"})


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))
