"""A real RabbitMQ for tests: one node per trial run, in a temporary directory, on loopback.

::

    class Tests(TestCase):
        @inlineCallbacks
        def setUp(self):
            self.rabbit = yield require_rabbitmq()

Nothing of an installed broker is touched: ports, node name, cookie, data and logs are our own.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest

from tests.support.certificates import Authority
from tests.support.server_process import kill_server

reactor: Any = _reactor

BINARIES = Path(os.environ.get("TXMICRO_RABBITMQ_BIN", "/usr/lib/rabbitmq/bin"))
"""The folder of RabbitMQ's programs. ``.ci/rabbitmq4`` installs other versions than Debian's."""

REQUIRED = "TXMICRO_REQUIRE_SERVICES"
HOST = "127.0.0.1"
# All processes are in one group, which is killed when its standard input is closed. So they end with the test run,
# however that ends.
SCRIPT = """
exec 3<&0 0</dev/null
epmd >/dev/null 2>&1 3<&- &
{ cat <&3; kill -KILL 0; } >/dev/null 2>&1 &
exec "$0" 3<&-
"""
START_TIMEOUT = 60.0
"""Seconds within which a node has to start. An idle machine takes about five."""


def installed() -> bool:
    """Return whether RabbitMQ is installed."""
    return (BINARIES / "rabbitmq-server").exists()


def free_port() -> int:
    """Return a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class NodeError(Exception):
    """A command of the node failed. The message is its output."""


class Node:
    """A RabbitMQ node.

    :param directory: for its data and logs; created if it is missing.
    :param tls: whether it also listens for TLS. The clients' certificates must be signed by ``authority``. With the
        mechanism EXTERNAL, the certificate's common name is the user.
    :param settings: further lines of its configuration.
    :ivar host: its address.
    :ivar port: its port for AMQP.
    :ivar tls_port: its port for AMQP over TLS.
    """

    authority: Authority
    host = HOST
    prefix: tuple[str, ...] = ()
    """The words that its commands start with."""
    erlang = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
    """Options of its virtual machine, which leave the processors to other programs."""

    def __init__(
        self, directory: Path, name: str = "txmicro", *, tls: bool = False, settings: str = ""
    ) -> None:
        self.settings = settings
        self.directory = directory
        self.port = free_port()
        self.tls_port = free_port() if tls else 0
        self.name = f"{name}{self.port}@localhost"
        self._distribution = free_port()
        self._epmd = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return its URL, with the user guest."""
        return f"amqp://guest:guest@{self.host}:{self.port}/"

    @property
    def running(self) -> bool:
        """Return whether its process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Return the id of its process, and of its process group; 0: it was not started."""
        return self._process.pid if self._process is not None else 0

    # Start and stop

    @inlineCallbacks
    def start(self) -> Any:
        """Start the node. Fire with None when it accepts connections; fail with :class:`NodeError`."""
        self._prepare()
        with (self.directory / "output").open("wb") as output:
            # Not the reactor's spawnProcess: trial permits nothing in its reactor between tests.
            self._process = subprocess.Popen(
                [*self.prefix, "/bin/sh", "-c", SCRIPT, str(BINARIES / "rabbitmq-server")],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self._environment(),
                start_new_session=True,
            )
        yield self._wait_until_ready()

    @inlineCallbacks
    def stop(self) -> Any:
        """Stop the node in good order. Fire with None when it has stopped."""
        if self._process is not None:
            self._process.terminate()
            while self._process.poll() is None:
                yield deferLater(reactor, 0.05)
            self.kill()

    def kill(self) -> None:
        """Kill all its processes (SIGKILL) and wait for their end. Do nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            kill_server(process)
            for _ in range(1000):  # the group's other processes end a little later
                if _refuses(self.host, self.port):
                    break
                time.sleep(0.01)

    @inlineCallbacks
    def restart(self) -> Any:
        """Stop the node if it runs, and start it with its data. Fire with None; fail like :meth:`start`."""
        yield self.stop()
        yield self.start()

    # Commands

    @inlineCallbacks
    def ctl(self, *arguments: str) -> Any:
        """Run ``rabbitmqctl``. Fire with its output (str); fail with :class:`NodeError` if it exits with an error."""
        words = [*self.prefix, str(BINARIES / "rabbitmqctl"), "-q", "-n", self.name, *arguments]
        out, err, code = yield getProcessOutputAndValue(
            words[0], words[1:], env=self._environment(), path=str(self.directory)
        )
        if code:
            raise NodeError(f"rabbitmqctl {' '.join(arguments)}: {code}\n{(out + err).decode()}")
        return out.decode()

    @inlineCallbacks
    def version(self) -> Any:
        """Fire with the installed version, a tuple of numbers. The node need not run."""
        said = yield self.ctl("version")
        return tuple(int(number) for number in re.findall(r"\d+", said)[:3])

    @inlineCallbacks
    def add_user(self, name: str, configure: str = ".*", write: str = ".*", read: str = ".*") -> Any:
        """Add the user *name*, whose password is the name, with these permissions. Fire with None."""
        known = re.search(rf"^{re.escape(name)}\t", (yield self.ctl("list_users")), re.MULTILINE)
        yield self.ctl("change_password" if known else "add_user", name, name)
        yield self.ctl("set_permissions", name, configure, write, read)

    @inlineCallbacks
    def queues(self) -> Any:
        """Fire with all queues: a dict of names to the numbers of ready messages."""
        listed = yield self.ctl("list_queues", "--formatter", "json", "name", "messages_ready")
        return {queue["name"]: queue["messages_ready"] for queue in json.loads(listed)}

    def close_connections(self, reason: str = "test") -> Deferred[str]:
        """Close the connections of all clients. Fire with the command's output."""
        result: Deferred[str] = self.ctl("close_all_connections", reason)
        return result

    def delete_queue(self, name: str) -> Deferred[str]:
        """Delete a queue, also one with consumers. Fire with the command's output."""
        result: Deferred[str] = self.ctl("delete_queue", name)
        return result

    def set_memory_watermark(self, fraction: float) -> Deferred[str]:
        """Raise the memory alarm (0) or end it (0.4, RabbitMQ's default). Fire with the command's output."""
        result: Deferred[str] = self.ctl("set_vm_memory_high_watermark", str(fraction))
        return result

    # Implementation

    def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        cookie = self.directory / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text("txmicro")
            cookie.chmod(0o400)
        config = (
            f"listeners.tcp.default = {self.host}:{self.port}\n"
            "log.file.level = warning\n"
            "vm_memory_high_watermark.relative = 0.4\n"
            "disk_free_limit.absolute = 50MB\n"
            f"{self.settings}"
        )
        if self.tls_port:
            config += self._prepare_tls()
        (self.directory / "rabbitmq.conf").write_text(config)
        plugins = "rabbitmq_auth_mechanism_ssl" if self.tls_port else ""
        (self.directory / "enabled_plugins").write_text(f"[{plugins}].\n")

    def _prepare_tls(self) -> str:
        ca, own = self.directory / "ca.pem", self.directory / "server.pem"
        self.authority = Authority(ca)
        self.authority.issue(own, "the broker", HOST, server=True)
        return (
            f"listeners.ssl.default = {HOST}:{self.tls_port}\n"
            f"ssl_options.cacertfile = {ca}\n"
            f"ssl_options.certfile = {own}\n"
            f"ssl_options.keyfile = {own}\n"
            "ssl_options.verify = verify_peer\n"
            "ssl_options.fail_if_no_peer_cert = true\n"
            "ssl_cert_login_from = common_name\n"
            "auth_mechanisms.1 = PLAIN\n"
            "auth_mechanisms.2 = EXTERNAL\n"
        )

    def _environment(self) -> dict[str, str]:
        folder = str(self.directory)
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": folder,
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": self.host,
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": self.erlang,
        }

    @inlineCallbacks
    def _wait_until_ready(self) -> Any:
        endpoint = TCP4ClientEndpoint(reactor, self.host, self.port)
        deadline = reactor.seconds() + START_TIMEOUT
        while True:
            try:
                probe = yield connectProtocol(endpoint, _Probe())
            except ConnectError:
                if not self.running or reactor.seconds() > deadline:
                    said = (self.directory / "output").read_text()
                    raise NodeError(f"RabbitMQ does not start:\n{said}") from None
                yield deferLater(reactor, 0.1)
            else:
                probe.transport.abortConnection()
                yield probe.gone
                return


def _refuses(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return bool(probe.connect_ex((host, port)))


class _Probe(Protocol):
    """Detects that the port accepts connections."""

    def __init__(self) -> None:
        self.gone: Deferred[None] = Deferred()

    def connectionLost(self, reason: Any = None) -> None:
        self.gone.callback(None)


_shared: dict[bool, Node] = {}


@inlineCallbacks
def require_rabbitmq(*, tls: bool = False) -> Any:
    """Return the node that all tests share, started; with *tls*, the shared one that also listens for TLS.

    Fires with the :class:`Node`. Fails with SkipTest where RabbitMQ is not installed. Fails with :class:`NodeError`
    if it is not installed but required (``TXMICRO_REQUIRE_SERVICES=1``), or does not start.
    """
    if not installed():
        if os.environ.get(REQUIRED) == "1":
            raise NodeError(f"rabbitmq-server is not installed, but {REQUIRED}=1 requires it")
        raise SkipTest("rabbitmq-server is not installed")
    node = _shared.get(tls)
    if node is None:
        node = _shared[tls] = Node(Path(tempfile.mkdtemp(prefix="txmicro-rabbitmq-")), tls=tls)
        atexit.register(_end, node)
    if not node.running:
        yield node.start()
    return node


def _end(node: Node) -> None:
    node.kill()
    shutil.rmtree(node.directory, ignore_errors=True)
