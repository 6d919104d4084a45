"""Each alert of etc/prometheus/rules.yml fires when it should, and not just below, in ``promtool test rules``."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from twisted.trial.unittest import SynchronousTestCase

from etc.grafana import bounds
from tests.support.programs import ROOT
from tests.support.prometheus import require_prometheus

RULES = ROOT / "etc" / "prometheus" / "rules.yml"
GUIDE = ROOT / "docs" / "howto" / "monitoring.rst"

PROCESS = 'job="microservices", worker_type="WB", instance="b:9091"'
MANAGER = 'job="microservices", worker_type="SystemManager", instance="m:9091"'

Series = dict[str, str]


class Case(NamedTuple):
    """Series, in promtool's notation with four values a minute, for which an alert fires, and some for which not."""

    alert: str
    fires: Series
    below: Series
    labels: Series


def histogram(name: str, labels: str, bound: str, slow: int) -> Series:
    """Return a histogram of 100 observations in each 15 s, of which *slow* are beyond *bound*."""
    return {
        f'microservices_{name}_bucket{{{labels}, le="{le}"}}': f"0+{count}x80"
        for le, count in (("0.0005", 0), (bound, 100 - slow), ("60", 100), ("+Inf", 100))
    }


def gauge(name: str, labels: str, value: str) -> Series:
    return {f"microservices_{name}{{{labels}}}": value}


def queue(queue: str, jobs: str, consumers: str) -> Series:
    labels = f'{MANAGER}, type="WB", queue="{queue}"'
    return gauge("queue_jobs", labels, jobs) | gauge("queue_consumers", labels, consumers)


def jobs(*, failed: int) -> Series:
    """Return the counters of 100 jobs in each 15 s."""
    labels = f'{PROCESS}, service="WB", job_type="durable"'
    outcomes = {"succeeded": 100 - failed, "failed": failed - failed // 2, "retried": failed // 2}
    return {
        f'microservices_jobs_total{{{labels}, outcome="{outcome}"}}': f"0+{count}x80"
        for outcome, count in outcomes.items()
    }


JOB = {"job": "microservices"}
AT_B = JOB | {"worker_type": "WB", "instance": "b:9091"}
TYPE = JOB | {"type": "WB"}
GET = 'service="WA", method="GET", path="/movies/"'

CASES = [
    Case("ManagerAbsent", {}, gauge("connected_workers", MANAGER, "0x80"), {}),
    Case("ProcessUnreachable", {f"up{{{PROCESS}}}": "0x80"}, {f"up{{{PROCESS}}}": "1x77 0x3"}, AT_B),
    Case(
        "WorkerGone",
        gauge("workers_total", f'{MANAGER}, type="WB"', "3x60 2x20"),
        gauge("workers_total", f'{MANAGER}, type="WB"', "2x60 3x20"),
        TYPE,
    ),
    Case(
        "ReactorLag",
        histogram("reactor_lag_seconds", PROCESS, "0.25", slow=2),
        histogram("reactor_lag_seconds", PROCESS, "0.25", slow=0),
        AT_B,
    ),
    Case(
        "Disconnected",
        gauge("bus_connected", PROCESS, "1x70 0x20"),
        gauge("bus_connected", PROCESS, "1x77 0x3"),
        AT_B,
    ),
    Case(
        "BrokerBlocked",
        gauge("broker_blocked", PROCESS, "0x70 1x20"),
        gauge("broker_blocked", PROCESS, "0x77 1x3"),
        AT_B,
    ),
    Case(
        "NoWorkerForJobs",
        queue("durable", jobs="1x80", consumers="0x80"),
        queue("durable", jobs="1x80", consumers="1x80") | queue("dead", jobs="1x80", consumers="0x80"),
        TYPE | {"queue": "durable"},
    ),
    Case(
        "OldestJobTooOld",
        gauge("queue_oldest_seconds", f'{MANAGER}, type="WB", queue="durable"', "301x80"),
        gauge("queue_oldest_seconds", f'{MANAGER}, type="WB", queue="durable"', "300x80"),
        TYPE | {"queue": "durable"},
    ),
    Case("JobErrors", jobs(failed=6), jobs(failed=5), JOB | {"service": "WB"}),
    Case("DeadLetters", queue("dead", "1x80", "0x80"), queue("dead", "0x80", "0x80"), TYPE),
    Case(
        "RestSlow",
        histogram("http_request_seconds", f"{PROCESS}, {GET}", "1", slow=2),
        histogram("http_request_seconds", f"{PROCESS}, {GET}", "1", slow=0),
        JOB | {"service": "WA", "method": "GET", "path": "/movies/"},
    ),
]


def played(case: Case, series: Series, expected: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a test for promtool: which series of *case*'s alert fire after 20 minutes."""
    return {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'ALERTS{{alertname="{case.alert}", alertstate="firing"}}',
                "eval_time": "20m",
                "exp_samples": expected,
            }
        ],
    }


def rules() -> dict[str, dict[str, Any]]:
    """Return the alerts by name."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


class AlertTests(SynchronousTestCase):
    def promtool(self, tests: list[dict[str, Any]], rules: Path = RULES) -> str:
        """Run promtool with *tests*; return what it says about those that fail. (JSON is YAML, too.)"""
        require_prometheus()
        file = Path(self.mktemp())
        file.write_text(
            json.dumps({"rule_files": [str(rules)], "evaluation_interval": "15s", "tests": tests}), "utf-8"
        )
        played = subprocess.run(
            ["promtool", "test", "rules", file], capture_output=True, text=True, check=False
        )
        return "" if played.returncode == 0 else played.stdout + played.stderr

    def firing(self, case: Case) -> dict[str, Any]:
        labels = case.labels | {"alertname": case.alert, "alertstate": "firing"}
        labels["severity"] = rules()[case.alert]["labels"]["severity"]
        pairs = ",".join(f'{name}="{value}"' for name, value in labels.items())
        return {"labels": f"ALERTS{{{pairs}}}", "value": 1}

    def test_every_alert_has_a_case(self) -> None:
        self.assertEqual([case.alert for case in CASES], list(rules()))

    def test_each_fires(self) -> None:
        self.assertEqual(self.promtool([played(case, case.fires, [self.firing(case)]) for case in CASES]), "")

    def test_none_fires_just_below(self) -> None:
        self.assertEqual(self.promtool([played(case, case.below, []) for case in CASES]), "")

    def test_one_failure_of_one_job_is_not_an_error_rate(self) -> None:
        (case,) = [case for case in CASES if case.alert == "JobErrors"]
        counter = f'microservices_jobs_total{{{PROCESS}, service="WB", job_type="durable", outcome="failed"}}'
        tests = [played(case, {counter: f"0x{quarter} 1x80"}, []) for quarter in range(80)]
        self.assertEqual(self.promtool(tests), "")

    def test_an_alert_that_does_not_fire_is_found(self) -> None:
        case = CASES[-1]
        self.assertIn("FAILED", self.promtool([played(case, case.below, [self.firing(case)])]))


class TextTests(SynchronousTestCase):
    def test_each_says_what_to_do_how_bad_it_is_and_where_to_read_on(self) -> None:
        titles = re.findall(r"^(\w+)\n-+$", GUIDE.read_text("utf-8"), re.MULTILINE)
        for name, rule in rules().items():
            said = rule["annotations"]
            self.assertIn(rule["labels"]["severity"], ("critical", "warning"), name)
            self.assertRegex(rule["for"], r"^[1-9]\d*m$", name)
            self.assertNotIn("\n", said["summary"].strip(), name)
            self.assertGreater(len(said["description"].split(". ")), 1, name)
            self.assertEqual(said["runbook_url"], f"docs/howto/monitoring.html#{name.lower()}")
            self.assertIn(name, titles)

    def test_the_dashboards_have_the_same_bounds(self) -> None:
        for name, bound in (
            ("JobErrors", bounds.ERROR_RATIO),
            ("OldestJobTooOld", bounds.OLDEST_SECONDS),
            ("ReactorLag", bounds.REACTOR_LAG_SECONDS),
            ("RestSlow", bounds.REST_SECONDS),
        ):
            self.assertEqual(float(rules()[name]["expr"].rpartition(">")[2]), bound, name)
