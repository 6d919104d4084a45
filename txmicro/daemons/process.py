"""The services of a daemon's process.

The services start in this order: the embedded broker, the HTTP pages, the SystemManager's page, and a bus with a
SystemManager and workers. The broker and the bus are there only if they are wanted. They stop in the reverse order,
one after another.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python.failure import Failure

from txmicro.broker.service import EmbeddedBroker
from txmicro.bus.connections import Bus
from txmicro.bus.targets import Target, targets
from txmicro.config import Config
from txmicro.daemons.own_broker import own_target
from txmicro.errors import reason_of
from txmicro.manager import SystemManager
from txmicro.metrics import Metrics
from txmicro.page.health import Health
from txmicro.page.metrics import metrics_route
from txmicro.page.server import PageServer
from txmicro.page.site import PageRoute
from txmicro.page.targets import Targets
from txmicro.protocol.address import Ids
from txmicro.util.host_port import host_port
from txmicro.util.log_levels import LogLevels
from txmicro.util.sequential_services import SequentialServices
from txmicro.worker import Worker

from .blocked_reactor import ReactorMonitor
from .exit import CANNOT_START, CannotStart, exit_with, print_error
from .log_counter import LogCounter
from .log_output import ConfiguredObserver, in_reactor_thread_only
from .log_publisher import LogPublisher
from .manager_page import ManagerPage

if TYPE_CHECKING:
    from txmicro.tracing.otlp import OtlpTracing

Member = SystemManager | Worker


class Process(SequentialServices):
    """The services of a daemon's process; see the module.

    :param name: the name of the process, for messages.
    :param members: the SystemManagers and workers on the bus; without any, there is no bus.
    :param broker: whether the embedded broker runs in the process. The bus then uses it instead of ``broker_url``.
    :param observer: the ``ILogObserver`` of twistd's application; None: twistd makes one.
    :param levels: the levels of the log, which a SystemManager may change; None: those of *config*.
    :param on_terminal: whether the log and stderr are on one terminal. Errors are then only logged, to be seen once.
    :param tracing: records and sends the spans of the workers; None: there are none.
    :raise ConfigError: ``broker_url`` is not valid.
    :ivar log_levels: the levels of the process's log.
    :ivar broker: the embedded broker; None: it runs elsewhere.
    :ivar page: the server of the metrics page, the health pages, and a SystemManager's page.
    :ivar manager_page: the page of the SystemManager; None: there is none. :ivar bus: the bus.
    """

    broker: EmbeddedBroker | None = None
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
        on_terminal: bool = False,
        levels: LogLevels | None = None,
        tracing: OtlpTracing | None = None,
    ) -> None:
        super().__init__()
        self.members = members
        self._name = name
        self._reactor = reactor
        self._config = config
        self._observer = observer
        self._on_terminal = on_terminal
        self.log_levels = levels or LogLevels(config.log_level, config.log_levels)
        self._publisher: Any = None
        self._failed = False
        if broker:
            self.broker = self._make_broker()
            self.broker.setServiceParent(self)
        metrics = Metrics(CollectorRegistry())
        self._monitor = ReactorMonitor(reactor, metrics.lag.durations.observe)
        self._log_counter: Any = LogCounter(metrics.registry)
        self._manager = next((member for member in members if isinstance(member, SystemManager)), None)
        self._brokers = self._targets() if members else []
        self._tracing = tracing
        bus = self._make_bus(metrics) if members else None
        self.manager_page = None if bus is None else self._make_manager_page(bus)
        self.page = self._make_page(metrics.registry, Health(members, bus, self.broker))
        self.page.setServiceParent(self)
        if self.manager_page is not None:
            self.manager_page.setServiceParent(self)
        if tracing is not None:
            tracing.setServiceParent(self)
        if bus is not None:
            self.bus = bus
            self.bus.setServiceParent(self)

    def _make_broker(self) -> EmbeddedBroker:
        config = self._config
        return EmbeddedBroker(
            self._reactor,
            interface=config.broker_interface,
            port=config.broker_listen_port,
            memory_limit=config.broker_memory,
        )

    def _make_bus(self, metrics: Metrics) -> Bus:
        bus = Bus(
            self._reactor,
            self._brokers,
            config=self._config,
            metrics=metrics,
            ids=Ids(),
            random=random.random,
            name=self._name,
            log_levels=self.log_levels,
            tracer=None if self._tracing is None else self._tracing.tracer,
        )
        for member in self.members:
            member.setServiceParent(bus)
        return bus

    def _make_page(self, registry: CollectorRegistry, health: Health) -> PageServer:
        routes = [metrics_route(registry), *health.routes]
        if self._manager is None:
            return self._make_server(routes, "worker_metrics_port")
        routes.append(Targets(self._manager, lambda: self.page.address).route)
        if self.manager_page is not None:
            routes += self.manager_page.routes
        return self._make_server(routes, "metrics_port", body_max=self._config.http_body_max)

    def _make_manager_page(self, bus: Bus) -> ManagerPage | None:
        if self._manager is None or not self._config.page:
            return None
        return ManagerPage(self._manager, bus, self._brokers, self._config, self._reactor)

    def _make_server(self, routes: Sequence[PageRoute], setting: str, **options: Any) -> PageServer:
        return PageServer(
            self._reactor,
            routes,
            interface=self._config.metrics_interface,
            port=getattr(self._config, setting),
            setting=setting,
            host=self._config.metrics_host,
            **options,
        )

    def _targets(self) -> list[Target]:
        if self.broker is not None:
            return [own_target(self._reactor, self.broker, self._config.broker_interface)]
        return targets(self._reactor, self._config)

    # Start and stop

    @property
    def grace(self) -> float:
        """The longest time that its stop waits for running jobs, in seconds."""
        return self._config.grace

    def setServiceParent(self, parent: Any) -> None:
        """Become a service of *parent*, twistd's application, and have it log to this process's observer."""
        super().setServiceParent(parent)
        if self._observer is not None:
            parent.setComponent(ILogObserver, self._observer)

    def startService(self) -> None:
        """Start the services.

        If one cannot start, the process logs and prints why, in one line, and ends with :data:`~.exit.CANNOT_START`.

        :raise CannotStart: the embedded broker cannot listen.
        """
        Service.startService(self)
        if self.broker is not None:
            self._start_broker(self.broker)
        self._monitor.start()
        globalLogPublisher.addObserver(self._log_counter)
        self.page.startService()
        if self.manager_page is not None:
            self.manager_page.startService()
            self.manager_page.log_address(self.page.address)
        if self._tracing is not None:
            self._tracing.startService()
        if self.members:
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
                f"({error.socketError.strerror}); "
                "set another port as broker_listen_port or TXMICRO_BROKER_LISTEN_PORT, or 0 for a free one"
            )
            self.log.critical("{text}", text=text)
            self._print_error(text)
            raise CannotStart(text) from error

    def _is_ready(self, member: Member) -> None:
        """Publish this process's log lines through its first worker that is ready; without workers, its manager."""
        workers = any(isinstance(each, Worker) for each in self.members)
        if self._publisher is None and (isinstance(member, Worker) or not workers):
            publisher = in_reactor_thread_only(
                LogPublisher(member.publish, self._reactor.seconds, host=socket.gethostname()), self._reactor
            )
            self._publisher = ConfiguredObserver(self._config, self.log_levels, publisher, self._reactor)
            globalLogPublisher.addObserver(self._publisher)

    def _cannot_start(self, failure: Failure, member: Member) -> None:
        if failure.check(CancelledError):  # stopped before it was ready
            return
        self._print_error(f"{member.id} cannot start: {reason_of(failure.value)}")
        if not self._failed:
            self._failed = True
            exit_with(CANNOT_START)
            self._reactor.callWhenRunning(self._reactor.stop)

    def _print_error(self, text: str) -> None:
        """Print *text*, which has been logged, to stderr."""
        if not self._on_terminal:
            print_error(f"{self._name}: {text}")

    def stopService(self) -> Deferred[None]:
        """Stop the services, one after another, and log which jobs this waits for. Fires when they have stopped."""
        workers = [member for member in self.members if isinstance(member, Worker)]
        running = sum(worker.running_jobs for worker in workers)
        forwarded = sum(worker.passed_on_jobs for worker in workers)
        self.log.info("stopping{rest}", rest=_describe_jobs(running, forwarded, self._config.grace))
        return super().stopService()

    async def _stop(self) -> None:
        await super()._stop()
        if self._publisher is not None:
            globalLogPublisher.removeObserver(self._publisher)
            self._publisher.close()
        globalLogPublisher.removeObserver(self._log_counter)
        self._monitor.stop()


def _describe_jobs(running: int, forwarded: int, grace: float) -> str:
    jobs = [_count(running, "running")] if running else []
    jobs += [_count(forwarded, "forwarded")] if forwarded else []
    if not jobs:
        return ""
    return f": waiting at most {grace:g} s (grace) for {' and '.join(jobs)}; a second signal ends the process at once"


def _count(number: int, kind: str) -> str:
    return f"{number} {kind} job{'' if number == 1 else 's'}"
