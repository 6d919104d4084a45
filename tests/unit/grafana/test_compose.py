"""etc/compose.yaml: Grafana and Prometheus find their files there, and nothing is open without a choice of the user."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from txmicro.config import load

ROOT = Path(__file__).parents[3]
ETC = ROOT / "etc"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ETC / "compose.yaml").read_text("utf-8"))["services"]
SET = {"TXMICRO_PASSWORD": "choose-one", "TXMICRO_PAGE_OPERATORS": "me:another-secret"}


def filled(value: str, given: dict[str, str]) -> str:
    """Return *value* as Compose fills it in: ``${NAME:?what to do}`` has to be given, ``${NAME:-default}`` need not."""

    def fill(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if kind == ":?" and name not in given:
            raise KeyError(name)
        return given.get(name, rest)

    return re.sub(r"\$\{(\w+)(:[?-])([^}]*)\}", fill, value)


class ComposeTests(SynchronousTestCase):
    def test_every_port_is_open_on_loopback_only(self) -> None:
        ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
        self.assertEqual(len(ports), 4)
        for port in ports:
            self.assertTrue(port.startswith("127.0.0.1:"), port)

    def test_every_password_is_chosen_by_the_user(self) -> None:
        for name, service in SERVICES.items():
            for variable, value in service.get("environment", {}).items():
                if re.search("PASS|SECRET|OPERATORS|READERS|BROKER_URL", variable):
                    self.assertIn("${", value, f"{name}: {variable}")
                    self.assertNotRegex(value, r":-[^}]", f"{name}: {variable} has a default")

    def test_each_daemon_understands_its_variables(self) -> None:
        for given in (SET, {"TXMICRO_PASSWORD": "choose-one"}):
            for name in ("manager", "pilot", "store", "rest", "logger"):
                environ = {
                    key: filled(value, given)
                    for key, value in SERVICES[name]["environment"].items()
                    if key != "TXMICRO_CONFIG"
                }
                config = load(str(ROOT / SERVICES[name]["environment"]["TXMICRO_CONFIG"]), environ)
                self.assertEqual(len(config.broker_url), 1)
                expected = 1 if name == "manager" and given is SET else 0
                self.assertEqual(len(config.page_operators), expected, name)

    def test_without_a_password_nothing_starts(self) -> None:
        self.assertRaises(KeyError, filled, SERVICES["manager"]["environment"]["TXMICRO_BROKER_URL"], {})

    def test_mounted_files_exist(self) -> None:
        for name in ("grafana", "prometheus"):
            for volume in SERVICES[name]["volumes"]:
                source, _, *mode = volume.split(":")
                if source.startswith("."):
                    self.assertTrue((ETC / source).exists(), volume)
                    self.assertEqual(mode, ["ro"], volume)


class GrafanaTests(SynchronousTestCase):
    def test_it_has_every_variable_and_folder_of_the_provisioning(self) -> None:
        grafana = SERVICES["grafana"]
        files = (ETC / "grafana" / "provisioning").rglob("*.yml")
        text = "\n".join(re.sub("#.*", "", path.read_text("utf-8")) for path in files)
        used = set(re.findall(r"\$(\w+)", text))
        self.assertEqual(used, {"PROMETHEUS_URL", "TXMICRO_DASHBOARDS"})
        self.assertLessEqual(used, grafana["environment"].keys())
        mounted = {volume.split(":")[1] for volume in grafana["volumes"]}
        variables = grafana["environment"]
        self.assertEqual({variables["GF_PATHS_PROVISIONING"], variables["TXMICRO_DASHBOARDS"]}, mounted)
        home = Path(variables["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
        self.assertEqual(str(home.parent), variables["TXMICRO_DASHBOARDS"])
        self.assertTrue((ETC / "grafana" / "dashboards" / home.name).exists())

    def test_it_has_no_users_and_no_administrator(self) -> None:
        variables = SERVICES["grafana"]["environment"]
        self.assertEqual(variables["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"], "true")
        self.assertEqual(variables["GF_AUTH_ANONYMOUS_ORG_ROLE"], "Viewer")
