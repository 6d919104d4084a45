"""Runs a whole system in memory on a Clock: embedded broker, buses, workers, managers."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.broker.factory import BrokerFactory
from txmicro.broker.memory_transport import MemoryEndpoint
from txmicro.bus.connections import Bus
from txmicro.config import Config
from txmicro.manager import SystemManager
from txmicro.protocol.tracer import Tracer
from txmicro.testing import memory_bus
from txmicro.worker import Worker

T = TypeVar("T")

Member = Worker | SystemManager


class Endpoint:
    """An endpoint (IStreamClientEndpoint) to the broker, which a test can close or redirect.

    :ivar broker: the broker to connect to; None: connections are refused.
    """

    def __init__(self, clock: Clock, broker: BrokerFactory | None) -> None:
        self.broker = broker
        self.tries = 0
        self._clock = clock

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect to the broker."""
        self.tries += 1
        if self.broker is None:
            return fail(ConnectionRefusedError("connection refused"))
        return MemoryEndpoint(self.broker, self._clock).connect(factory)


class SystemTestCase(SynchronousTestCase):
    """Starts processes (a bus each) on one broker. At the end it stops them all and checks that nothing is left."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.broker = BrokerFactory(self.clock)
        self.endpoint = Endpoint(self.clock, self.broker)
        self.buses: list[Bus] = []
        self.addCleanup(self.tear_down_system)

    def tear_down_system(self) -> None:
        for bus in self.buses:
            if bus.running:
                self.stop(bus)
        stopping = self.broker.shut_down()
        self.advance(30)
        self.successResultOf(stopping)
        self.broker.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def process(self, *members: Member, config: Config | None = None, tracer: Tracer | None = None) -> Bus:
        """Start a process with these workers and managers. Advance the clock until they are connected."""
        bus = memory_bus(self.clock, self.endpoint, config or Config(), tracer)
        self.buses.append(bus)
        bus.ids.time = self.unix_time
        for member in members:
            member.setServiceParent(bus)
        bus.startService()
        self.advance(0.1)
        return bus

    def unix_time(self) -> float:
        """Return the time that the processes take for the Unix time, in seconds."""
        return 1_795_449_588.0 + self.clock.seconds()

    def restart_broker(self) -> None:
        """Close all connections of the broker, and start it again without its data."""
        self.endpoint.broker = None
        self.broker.close()
        self.broker = BrokerFactory(self.clock)
        self.advance(0.1)
        self.endpoint.broker = self.broker

    def stop(self, bus: Bus) -> None:
        """Stop a process, and check that it has stopped."""
        stopping = bus.stopService()
        self.advance(0.1)
        if not stopping.called:
            self.advance(bus.config.grace)
        self.successResultOf(stopping)

    def advance(self, seconds: float, step: float = 0.05) -> None:
        """Advance the clock in steps, so that timers and turns happen in their order."""
        self.clock.advance(0)
        while seconds > 1e-9:
            self.clock.advance(min(step, seconds))
            seconds -= step

    def result(self, waiting: Deferred[T] | Coroutine[Any, Any, T], seconds: float = 0.2) -> T:
        """Return the result of *waiting*, which must fire within *seconds*."""
        deferred = waiting if isinstance(waiting, Deferred) else Deferred.fromCoroutine(waiting)
        self.advance(seconds)
        return self.successResultOf(deferred)

    def error(self, waiting: Deferred[Any], kind: type[Exception], seconds: float = 0.2) -> Any:
        """Return the error of *waiting*, which must fail within *seconds*."""
        self.advance(seconds)
        return self.failureResultOf(waiting, kind).value
