"""A real Prometheus finds the processes of a system, scrapes them, and answers queries."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import treq
import yaml
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from tests.support.programs import PATIENCE, ROOT, ProgramTestCase, reactor
from tests.support.prometheus import Prometheus, require_prometheus
from tests.support.rabbitmq import free_port

FOLDER = ROOT / "etc" / "prometheus"
JOBS = 'sum by (service) (microservices_job_processing_seconds_count{job_type="interactive"})'


class DiscoveryTests(ProgramTestCase):
    async def until(self, ask: Callable[[], Awaitable[Any]], expected: Any) -> None:
        """Wait until *ask* returns *expected*."""
        deadline = reactor.seconds() + PATIENCE
        while (answer := await ask()) != expected:
            if reactor.seconds() > deadline:
                self.fail(f"expected {expected}, not {answer}")
            await deferLater(reactor, 0.1)

    def config(self) -> str:
        """Return the configuration for this system's manager. It scrapes each second."""
        config = (FOLDER / "prometheus.yml").read_text("utf-8")
        for given, here in (
            ("rule_files: [rules.yml]\n", ""),
            ("15s", "1s"),
            ("localhost:9091", f"127.0.0.1:{self.port}"),
        ):
            self.assertIn(given, config)
            config = config.replace(given, here)
        return config

    async def start(self) -> None:
        """Start a broker, a manager, and three workers in two processes. One of them listens on all addresses."""
        broker, self.port, self.rest = free_port(), free_port(), free_port()
        self.settings |= {
            "TXMICRO_BROKER_URL": f"amqp://127.0.0.1:{broker}",
            "TXMICRO_BROKER_LISTEN_PORT": str(broker),
            "TXMICRO_METRICS_PORT": str(self.port),
            "TXMICRO_REST_PORT": str(self.rest),
            "TXMICRO_STORE_URL": "sqlite://",
        }
        self.twistd("txmicro-broker")
        self.manager = self.twistd("txmicro-manager")
        self.db = self.twistd("txmicro-worker --type WB")
        self.twistd(
            "txmicro-worker --type WA --type WD",
            TXMICRO_METRICS_INTERFACE="0.0.0.0",
            TXMICRO_METRICS_HOST="localhost",
        )
        for kind in ("WA", "WB", "WD"):
            await self.manager.says(f"{kind}:.* is on the bus")

    async def test_it_finds_and_scrapes_every_process_and_answers_queries(self) -> None:
        require_prometheus()
        await self.start()
        prometheus = Prometheus(self.config())
        self.addCleanup(prometheus.stop)
        await prometheus.start()
        for year in (1927, 1931, 1936):
            movie = {"title": "A film", "year": year}
            answer = await treq.post(f"http://127.0.0.1:{self.rest}/movies/", json=movie, persistent=False)
            await answer.content()
            self.assertEqual(answer.code, 201)
        await self.until(
            lambda: prometheus.query("up", "worker_type"), {"SystemManager": 1, "WA,WD": 1, "WB": 1}
        )
        (instance,) = await prometheus.query('up{worker_type="WA,WD"}', "instance")
        self.assertTrue(instance.startswith("localhost:"), instance)
        await self.until(lambda: prometheus.query(JOBS, "service"), {"WB": 3, "WD": 3})
        await self.until(
            lambda: prometheus.query("microservices_workers_total", "type"), {"WA": 1, "WB": 1, "WD": 1}
        )
        await self.db.signal(signal.SIGTERM)
        await self.until(lambda: self.targets(prometheus), ["SystemManager", "WA,WD"])

    async def targets(self, prometheus: Prometheus) -> list[str]:
        """Return the types of the targets that Prometheus scrapes."""
        found = await prometheus.get("targets", state="active")
        return sorted(target["labels"]["worker_type"] for target in found["activeTargets"])


class ConfigurationTests(SynchronousTestCase):
    def test_compose_has_the_same_configuration_except_for_the_host(self) -> None:
        compose = yaml.safe_load((ROOT / "etc" / "compose.yaml").read_text("utf-8"))
        given = (FOLDER / "prometheus.yml").read_text("utf-8").replace("localhost", "manager")
        content = yaml.safe_load(compose["configs"]["prometheus"]["content"])
        self.assertEqual(content, yaml.safe_load(given))

    def test_promtool_accepts_every_configuration(self) -> None:
        require_prometheus()
        for path in sorted(FOLDER.glob("*.yml")):
            kind = "rules" if path.stem == "rules" else "config"
            checked = subprocess.run(["promtool", "check", kind, path], capture_output=True, check=False)
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
