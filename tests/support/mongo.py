"""A server that speaks MongoDB's wire protocol, for tests: one per trial run, in a temporary directory, on loopback.

It is ``mongod`` if that is installed, otherwise mongo-java-server (``tests/support/mongodb``, ``make services``).
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from tests.support.rabbitmq import HOST, REQUIRED, free_port, reactor
from tests.support.server_process import kill_server, start_server

JAVA = Path(__file__).parents[2] / "build" / "mongodb"
START_TIMEOUT = 60.0
"""Seconds in which a server has to start. It takes about one on an idle machine."""


def mongod() -> bool:
    """Return whether the server is MongoDB itself."""
    return shutil.which("mongod") is not None


def installed() -> bool:
    """Return whether a server is installed."""
    return mongod() or ((JAVA / "lib").is_dir() and shutil.which("java") is not None)


class ServerError(Exception):
    """The server failed; the text has its output."""


class Server:
    """A server. :ivar port: the port that it listens on. :param directory: holds its data; created if it is missing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Return whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def url(self, database: str, options: str = "", port: int = 0) -> str:
        """Return the URL of *database*, with another port if one is given."""
        return f"mongodb://{HOST}:{port or self.port}/{database}?{options}"

    async def start(self) -> None:
        """Start the server; return when it accepts connections. Raise :class:`ServerError` if it does not start."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._process = start_server(self._command(), self.directory / "output")
        await self._wait_until_ready()

    def kill(self) -> None:
        """Kill the server (SIGKILL) and wait for its end. Do nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            kill_server(process)

    def freeze(self) -> None:
        """Freeze the server, with its connections open (SIGSTOP)."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue the server (SIGCONT)."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)

    async def fail(self, code: int, commands: Sequence[str]) -> None:
        """Make all *commands* of these names fail with this error code, until :meth:`recover`."""
        await self._fail_point("alwaysOn", data={"errorCode": code, "failCommands": commands})

    async def recover(self) -> None:
        """Make all commands work again."""
        await self._fail_point("off")

    async def _fail_point(self, mode: str, **options: Any) -> None:
        def tell() -> None:
            with MongoClient[Any](self.url("admin")) as client:
                client.admin.command("configureFailPoint", "failCommand", mode=mode, **options)

        await deferToThread(tell)

    def _command(self) -> list[str]:
        data = self.directory / "data"
        if mongod():
            data.mkdir(exist_ok=True)
            where = ["--bind_ip", HOST, "--port", str(self.port), "--dbpath", str(data)]
            return ["mongod", *where, "--setParameter", "enableTestCommands=1"]
        classes = f"{JAVA / 'classes'}:{JAVA / 'lib' / '*'}"
        memory = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return ["java", *memory, "-cp", classes, "Server", str(self.port), str(data)]

    async def _wait_until_ready(self) -> None:
        deadline = reactor.seconds() + START_TIMEOUT
        while _refuses(self.port):
            if not self.running or reactor.seconds() > deadline:
                said = (self.directory / "output").read_text()
                raise ServerError(f"the server does not start:\n{said}")
            await deferLater(reactor, 0.05)


def _refuses(port: int) -> bool:
    with socket.socket() as probe:
        return bool(probe.connect_ex((HOST, port)))


def check_installed() -> None:
    """Raise SkipTest if no server is installed, ServerError if one is required (``TXMICRO_REQUIRE_SERVICES=1``)."""
    if not installed():
        if os.environ.get(REQUIRED) == "1":
            raise ServerError(f"MongoDB is not installed, but {REQUIRED}=1: run make services")
        raise SkipTest("MongoDB is not installed: make services installs a server")


_shared: list[Server] = []


async def require_mongo() -> Server:
    """Return the server that all tests share, started. Raise what :func:`check_installed` raises."""
    check_installed()
    if not _shared:
        _shared.append(own_server())
    if not _shared[0].running:
        await _shared[0].start()
    return _shared[0]


def own_server() -> Server:
    """Return a server, not started, for a test that kills or freezes it. It ends with the test run at the latest."""
    server = Server(Path(tempfile.mkdtemp(prefix="txmicro-mongo-")))
    atexit.register(end, server)
    return server


def end(server: Server) -> None:
    """Kill *server* and remove its data."""
    server.kill()
    shutil.rmtree(server.directory, ignore_errors=True)
