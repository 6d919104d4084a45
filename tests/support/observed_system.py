"""A system of real processes that makes numbers of every kind, and a real Prometheus that scrapes it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pika
import treq
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.task import LoopingCall

from tests.support.programs import BIN, ROOT
from tests.support.prometheus import Prometheus
from tests.support.rabbitmq import HOST, free_port
from tests.support.server_process import kill_server, start_server
from txmicro.protocol.topology import jobs_queue

CONFIG: Final = ROOT / "etc" / "prometheus" / "prometheus.yml"
RULES: Final = ROOT / "etc" / "prometheus" / "rules.yml"
TYPES: Final = ("Desk", "Slow", "Night", "Office")


class ObservedSystem:
    """The embedded broker, a manager, the movies with a store, and the workers of :mod:`.observed_workers`.

    Requests are sent to the REST worker all the time.

    Prometheus scrapes them each second. It evaluates the rules as often, and every alert fires at once, without its
    ``for``. Its numbers are otherwise those of ``etc/prometheus``.
    """

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="txmicro-observed-"))
        self._rest = free_port()
        self._environ = self._environment()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._requests = LoopingCall(lambda: ensureDeferred(self._ask_for_movies()))
        self.prometheus = Prometheus(
            _every_second(CONFIG).replace(
                "localhost:9091", f"{HOST}:{self._environ['TXMICRO_METRICS_PORT']}"
            ),
            re.sub(r"\bfor: \w+", "for: 0s", RULES.read_text("utf-8")),
        )

    def _environment(self) -> dict[str, str]:
        broker = free_port()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TXMICRO_")}
        workers = {kind: f"tests.support.observed_workers:{kind}" for kind in TYPES}
        return kept | {
            "PYTHONPATH": str(ROOT),
            "TXMICRO_BROKER_URL": f"amqp://{HOST}:{broker}",
            "TXMICRO_BROKER_LISTEN_PORT": str(broker),
            "TXMICRO_METRICS_PORT": str(free_port()),
            "TXMICRO_REST_PORT": str(self._rest),
            "TXMICRO_STORE_URL": "sqlite://",
            "TXMICRO_KEEPALIVE": "500",
            "TXMICRO_WORKER_TYPES": json.dumps(workers),
        }

    async def start(self) -> None:
        """Start everything. Return when Prometheus answers; the workers may still be starting."""
        self._twistd("broker", "txmicro-broker")
        self._twistd("manager", "txmicro-manager")
        self._twistd("movies", "txmicro-worker --type WA --type WB --type WD")
        self._twistd("workers", "txmicro-worker --type Desk --type Slow --type Office")
        self._twistd("others", "txmicro-worker --type Slow --type Night")
        await self.prometheus.start()
        self._asking = self._requests.start(0.5)

    def _twistd(self, name: str, line: str) -> None:
        command = [str(BIN / "twistd"), "-n", "--pidfile=", *line.split()]
        self._processes[name] = start_server(
            command, self._directory / f"{name}.log", self._environ, self._directory
        )

    def kill(self, name: str) -> None:
        """Kill a process (SIGKILL): ``broker``, ``manager``, ``movies``, ``workers``, or ``others``."""
        kill_server(self._processes.pop(name))

    async def _ask_for_movies(self) -> None:
        """Send requests to the REST worker. Their answers do not matter."""
        url = f"http://{HOST}:{self._rest}/movies/"
        film = {"title": "A film", "year": 1927}
        requests = [("POST", {"json": film}), ("GET", {"params": film}), ("DELETE", {})]
        await gatherResults([ensureDeferred(self._request(method, url, **each)) for method, each in requests])

    def publish_garbage(self) -> None:
        """Publish a message that no worker can decode. Blocks until the broker has it."""
        connection = pika.BlockingConnection(pika.URLParameters(self._environ["TXMICRO_BROKER_URL"]))
        properties = pika.BasicProperties(content_type="application/json")
        connection.channel().basic_publish("", jobs_queue("Desk"), b"{", properties)
        connection.close()

    async def _request(self, method: str, url: str, **options: Any) -> None:
        with suppress(Exception):  # it does not listen yet, or is being stopped
            answer = await treq.request(method, url, persistent=False, timeout=2, **options)
            await answer.content()

    def output(self) -> str:
        """Return what all processes have logged."""
        return "\n".join(path.read_text("utf-8", "replace") for path in sorted(self._directory.glob("*.log")))

    async def stop(self) -> None:
        """Kill all processes, and remove their files."""
        if self._requests.running:
            self._requests.stop()
            await self._asking
        self.prometheus.stop()
        for name in list(self._processes):
            self.kill(name)
        shutil.rmtree(self._directory, ignore_errors=True)


def _every_second(config: Path) -> str:
    text = config.read_text("utf-8").replace("15s", "1s")
    return f"global: {{evaluation_interval: 1s}}\n{text}"
