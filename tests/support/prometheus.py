"""A real Prometheus for tests: in a temporary directory, on free ports of loopback."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import treq
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest

from tests.support.rabbitmq import HOST, REQUIRED, free_port, reactor
from tests.support.server_process import kill_server, start_server

START_TIMEOUT = 60.0
"""Seconds in which the server has to start. It takes about one on an idle machine."""


class PrometheusError(Exception):
    """The server failed; the text has its output."""


def require_prometheus() -> None:
    """Raise SkipTest if it is not installed, PrometheusError if it is required (``TXMICRO_REQUIRE_SERVICES=1``)."""
    if shutil.which("prometheus") is None:
        if os.environ.get(REQUIRED) == "1":
            raise PrometheusError(f"Prometheus is not installed, but {REQUIRED}=1: run make services")
        raise SkipTest("Prometheus is not installed: make services installs it")


class Prometheus:
    """A server with the configuration *config* (YAML), which may name *rules* (YAML) as ``rules.yml``.

    :ivar url: the address of its HTTP API.
    """

    def __init__(self, config: str, rules: str = "") -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="txmicro-prometheus-"))
        self._config = config
        self._rules = rules
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://{HOST}:{self._port}"
        atexit.register(self.stop)

    async def start(self) -> None:
        """Start the server; return when it answers. Raise :class:`PrometheusError` if it does not start."""
        config = self._directory / "prometheus.yml"
        config.write_text(self._config)
        (self._directory / "rules.yml").write_text(self._rules)
        options = [
            f"--config.file={config}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address={HOST}:{self._port}",
        ]
        self._process = start_server(["prometheus", *options], self._directory / "output")
        deadline = reactor.seconds() + START_TIMEOUT
        while not await self._is_ready():
            if self._process.poll() is not None or reactor.seconds() > deadline:
                said = (self._directory / "output").read_text()
                raise PrometheusError(f"Prometheus does not start:\n{said}")
            await deferLater(reactor, 0.05)

    async def _is_ready(self) -> bool:
        try:
            answer = await treq.get(f"{self.url}/-/ready", persistent=False)
            await answer.content()
        except Exception:  # it does not listen yet
            return False
        return bool(answer.code == 200)

    async def get(self, path: str, **params: str) -> Any:
        """Return the data that its API has at *path*, below ``/api/v1``."""
        answer = await treq.get(f"{self.url}/api/v1/{path}", params=params, persistent=False)
        content = await answer.json()
        if content["status"] != "success":
            raise PrometheusError(f"{path} {params}: {content}")
        return content["data"]

    async def query(self, query: str, label: str) -> dict[str, float]:
        """Return the values of a query's series by the values of one of their labels."""
        data = await self.get("query", query=query)
        return {series["metric"].get(label, ""): float(series["value"][1]) for series in data["result"]}

    def stop(self) -> None:
        """Kill the server and remove its data. Do nothing if that has been done."""
        process, self._process = self._process, None
        if process is not None:
            kill_server(process)
        shutil.rmtree(self._directory, ignore_errors=True)
        atexit.unregister(self.stop)
