"""A real system with a page: a twistd process with an embedded broker, a SystemManager and workers."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.programs.page.workers import CHARGED, CLOSED, EXPIRED, REPAIRED
from tests.support.programs import BIN, ROOT
from tests.support.rabbitmq import HOST, free_port
from tests.support.server_process import kill_server, start_server

PATIENCE = 30.0
"""Seconds in which the system has to do what a test waits for."""

TYPES = ("Bank", "Price", "Stock", "Shop")
WORKERS = {kind: f"tests.programs.page.workers:{kind}" for kind in TYPES}


class PageSystemError(Exception):
    """The system does not do what it should; the text has its log."""


class PageSystem:
    """A running system.

    :param settings: further configuration keys.
    :ivar origin: the page's address, without a slash at the end.
    """

    def __init__(self, token: str = "", **settings: Any) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="txmicro-page-"))
        self._token = token
        broker, port = free_port(), free_port()
        self.origin = f"http://{HOST}:{port}"
        config = {
            "broker_url": f"amqp://guest:guest@{HOST}:{broker}",
            "broker_listen_port": broker,
            "metrics_port": port,
            "keepalive": 1000,
            "services": ["broker", "manager", *TYPES],
            "worker_types": WORKERS,
            **settings,
        }
        (self._directory / "config.json").write_text(json.dumps(config))
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)

    def start(self) -> None:
        """Start the system; return when its jobs have failed as they should."""
        words = ["--nodaemon", "txmicro", "--config", "config.json"]
        command = [
            "env",
            f"--chdir={self._directory}",
            f"PYTHONPATH={ROOT}",
            *(f"--unset={name}" for name in os.environ if name.startswith("TXMICRO_")),
            str(BIN / "twistd"),
            *words,
        ]
        self._process = start_server(command, self._directory / "log")
        self.until(lambda: len(self.get("failures")["groups"]) == 2)
        self.until(lambda: self.get("dead/Bank")["total"] == len(EXPIRED) + len(CLOSED))

    def stop(self) -> None:
        """Kill the system and remove its files. Do nothing if that has been done."""
        process, self._process = self._process, None
        if process is not None:
            kill_server(process)
        shutil.rmtree(self._directory, ignore_errors=True)
        atexit.unregister(self.stop)

    def restart(self) -> None:
        """Kill the system, and start it again on the same port. Its broker has lost all jobs."""
        assert self._process is not None
        kill_server(self._process)
        self.start()

    def kill(self) -> None:
        """Kill the system."""
        if self._process is not None:
            kill_server(self._process)

    def repair(self) -> None:
        """Let no job of the bank fail any more."""
        (self._directory / REPAIRED).touch()

    @property
    def charged(self) -> list[str]:
        """The customers of the bank's jobs that have succeeded."""
        path = self._directory / CHARGED
        return sorted(each["customer"] for each in json.loads(path.read_text())) if path.exists() else []

    def get(self, path: str) -> Any:
        """Return the JSON at *path* of the API."""
        return self._ask(path)

    def post(self, path: str, body: Any) -> Any:
        """Send *body* to *path* of the API; return the JSON of the answer."""
        return self._ask(path, json.dumps(body).encode())

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        headers = {"X-Txmicro": "1", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(f"{self.origin}/api/{path}", body, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return json.load(response)

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait until *condition* returns something true; what it needs may be missing at first."""
        deadline = time.monotonic() + PATIENCE
        while not self._holds(condition):
            if time.monotonic() > deadline or (self._process and self._process.poll() is not None):
                raise PageSystemError(
                    f"the system has said:\n{(self._directory / 'log').read_text()[-8000:]}"
                )
            time.sleep(0.05)

    def _holds(self, condition: Callable[[], Any]) -> bool:
        try:
            return bool(condition())
        except (urllib.error.URLError, ConnectionError, StopIteration, KeyError, TypeError):
            return False
