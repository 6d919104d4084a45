"""What runs in a daemon's process, and how the process ends.

In the order of their start: the embedded broker, the metrics page, and a bus with a SystemManager and workers
on it; each where it is wanted. They stop in the opposite order, one after the other.
"""

from __future__ import annotations

import atexit
import os
import random
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from prometheus_client import CollectorRegistry
from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python.failure import Failure

from txmicro.broker.service import EmbeddedBroker
from txmicro.bus.connections import Bus, Target
from txmicro.bus.targets import targets
from txmicro.config import Config
from txmicro.daemons.own_broker import own_target
from txmicro.errors import reason_of
from txmicro.log import clean
from txmicro.manager import SystemManager
from txmicro.metrics import Metrics
from txmicro.page.metrics import MetricsServer
from txmicro.protocol.address import Ids
from txmicro.util.host_port import host_port
from txmicro.worker import Worker

from .blocked_reactor import ReactorMonitor
from .log_output import ConfiguredObserver, in_reactor_thread_only
from .log_publisher import LogPublisher

CANNOT_START: Final = 1
"""The status of a process in which something cannot start."""

Member = SystemManager | Worker


class CannotStart(SystemExit, Exception):
    """Ends the process with status 1, while its services are started.

    It is an Exception because twistd tells only of those to the process that waits for a daemon to start in the
    background: that one would wait for ever.
    """

    def __init__(self, text: str) -> None:
        super().__init__(CANNOT_START)
        self._text = text

    def __str__(self) -> str:
        return self._text


class SequentialServices(MultiService):
    """Services that stop one after the other, the last first; a MultiService stops all at once."""

    log = Logger()

    def stopService(self) -> Deferred[None]:
        """Stop them all, also when one fails to. Fires when that is done."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            try:
                await maybeDeferred(service.stopService)
            except Exception:
                self.log.failure("{service} did not stop as it should", service=service)


class Process(SequentialServices):
    """See the module.

    :param name: what the process is called.
    :param members: what is on the bus; none: there is no bus.
    :param broker: whether the broker runs here. The bus then uses that one, not ``broker_url``.
    :param observer: the ``ILogObserver`` of twistd's application; None: twistd makes one.
    :raise ConfigError: ``broker_url`` cannot be used.
    :ivar page: the metrics page, and :ivar bus: the bus, if there are members.
    """

    broker: EmbeddedBroker | None = None
    page: MetricsServer
    bus: Bus

    def __init__(
        self,
        name: str,
        reactor: Any,
        config: Config,
        members: Sequence[Member],
        *,
        broker: bool = False,
        observer: Any = None,
    ) -> None:
        super().__init__()
        self.members = members
        self._name = name
        self._reactor = reactor
        self._config = config
        self._observer = observer
        self._watch = ReactorMonitor(reactor)
        self._lines: Any = None
        self._failed = False
        if broker:
            self.broker = self._make_broker()
            self.broker.setServiceParent(self)
        if members:
            self.page, self.bus = self._make_bus()
            self.page.setServiceParent(self)
            self.bus.setServiceParent(self)

    def _make_broker(self) -> EmbeddedBroker:
        config = self._config
        return EmbeddedBroker(
            self._reactor,
            interface=config.broker_interface,
            port=config.broker_listen_port,
            memory_limit=config.broker_memory,
        )

    def _make_bus(self) -> tuple[MetricsServer, Bus]:
        metrics = Metrics(CollectorRegistry())
        bus = Bus(
            self._reactor,
            self._targets(),
            config=self._config,
            metrics=metrics,
            ids=Ids(),
            random=random.random,
            name=self._name,
        )
        for member in self.members:
            member.setServiceParent(bus)
        return self._make_page(metrics.registry), bus

    def _make_page(self, registry: CollectorRegistry) -> MetricsServer:
        manages = any(isinstance(member, SystemManager) for member in self.members)
        setting = "metrics_port" if manages else "worker_metrics_port"
        return MetricsServer(
            self._reactor,
            registry,
            interface=self._config.metrics_interface,
            port=getattr(self._config, setting),
            setting=setting,
        )

    def _targets(self) -> list[Target]:
        if self.broker is not None:
            return [own_target(self._reactor, self.broker, self._config.broker_interface)]
        return targets(self._reactor, self._config)

    # Life

    @property
    def grace(self) -> float:
        """Seconds that its stop waits for what runs."""
        return self._config.grace

    def setServiceParent(self, parent: Any) -> None:
        """Belong to *parent*, twistd's application, which then logs to this process's observer."""
        super().setServiceParent(parent)
        if self._observer is not None:
            parent.setComponent(ILogObserver, self._observer)

    def startService(self) -> None:
        """Start. When something cannot, the process ends, with one line that says why."""
        Service.startService(self)
        if self.broker is not None:
            self._start_broker(self.broker)
        self._watch.start()
        if self.members:
            self.page.startService()
            self.bus.metrics_address = self.page.address
            self.bus.startService()
        for member in self.members:
            member.when_ready().addCallbacks(self._is_ready, self._cannot_start, errbackArgs=(member,))

    def _start_broker(self, broker: EmbeddedBroker) -> None:
        try:
            broker.startService()
        except CannotListenError as error:
            text = (
                f"the broker cannot listen on {host_port(error.interface, error.port)} "
                f"({error.socketError.strerror}): "
                "broker_listen_port, or TXMICRO_BROKER_LISTEN_PORT in the environment, sets another port"
            )
            self.log.critical("{text}", text=text)
            print_error(f"{self._name}: {text}")
            raise CannotStart(text) from error

    def _is_ready(self, member: Member) -> None:
        """Publish what this process logs as soon as it has somebody who can."""
        if self._lines is None and isinstance(member, Worker):
            publisher = LogPublisher(member.publish, self._reactor.seconds)
            self._lines = ConfiguredObserver(
                self._config, in_reactor_thread_only(publisher, self._reactor), self._reactor
            )
            globalLogPublisher.addObserver(self._lines)

    def _cannot_start(self, failure: Failure, member: Member) -> None:
        if failure.check(CancelledError):  # stopped before it was ready
            return
        print_error(f"{self._name}: {member.id} cannot start: {reason_of(failure.value)}")
        if not self._failed:
            self._failed = True
            exit_with(CANNOT_START)
            self._reactor.callWhenRunning(self._reactor.stop)

    def stopService(self) -> Deferred[None]:
        """Stop it all in order, and say so. Fires when that is done."""
        workers = [member for member in self.members if isinstance(member, Worker)]
        running = sum(worker.running_jobs for worker in workers)
        passed_on = sum(worker.passed_on_jobs for worker in workers)
        self.log.info("stopping{rest}", rest=_what_runs(running, passed_on, self._config.grace))
        return super().stopService()

    async def _stop(self) -> None:
        await super()._stop()
        if self._lines is not None:
            globalLogPublisher.removeObserver(self._lines)
            self._lines.close()
        self._watch.stop()


# How it ends


def _what_runs(running: int, passed_on: int, grace: float) -> str:
    parts = [f"{_jobs(running)} running"] if running else []
    parts += [f"{_jobs(passed_on)} passed on and not done"] if passed_on else []
    if not parts:
        return ""
    return f": {' and '.join(parts)}, for at most {grace:g} s more (grace); a second signal ends it at once"


def _jobs(number: int) -> str:
    return "1 job is" if number == 1 else f"{number} jobs are"


def print_error(text: str) -> None:
    """Say *text*, without passwords, to whoever started the process; twistd makes a log of ``sys.stderr``."""
    print("\n".join(map(clean, text.split("\n"))), file=sys.__stderr__, flush=True)


def exit_with(status: int) -> None:
    """Let this process end with *status*, when its time comes.

    twistd has no word for that: it ends with 0, or by the signal that stopped it, and prints what is raised
    inside the reactor. So the status is replaced at the very end, when twistd has cleaned up after itself.
    """
    atexit.register(_leave, status)


def _leave(status: int) -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):  # nobody reads it any more, or it is none
            stream.flush()  # type: ignore[union-attr]
    os._exit(status)
