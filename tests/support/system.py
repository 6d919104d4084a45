"""A whole system in memory, on a clock that the test moves: embedded broker, buses, workers, managers."""

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
from txmicro.testing import memory_bus
from txmicro.worker import Worker

T = TypeVar("T")

Member = Worker | SystemManager


class Way:
    """The way to the broker (IStreamClientEndpoint), which a test can close, or lead to another one.

    :ivar broker: where it leads; None: nobody listens there.
    """

    def __init__(self, clock: Clock, broker: BrokerFactory | None) -> None:
        self.broker = broker
        self.tries = 0
        self._clock = clock

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect to the broker."""
        self.tries += 1
        if self.broker is None:
            return fail(ConnectionRefusedError("nobody listens"))
        return MemoryEndpoint(self.broker, self._clock).connect(factory)


class SystemTestCase(SynchronousTestCase):
    """Starts processes (a bus each) on one broker; at the end stops them all and looks for what is left."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.broker = BrokerFactory(self.clock)
        self.way = Way(self.clock, self.broker)
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

    def process(self, *members: Member, config: Config | None = None) -> Bus:
        """Start a process with these workers and managers; time goes on until nothing more happens at once."""
        bus = memory_bus(self.clock, self.way, config or Config())
        self.buses.append(bus)
        for member in members:
            member.setServiceParent(bus)
        bus.startService()
        self.advance(0.1)
        return bus

    def restart_broker(self) -> None:
        """The broker dies without a word, and comes back empty."""
        self.way.broker = None
        self.broker.close()
        self.broker = BrokerFactory(self.clock)
        self.advance(0.1)
        self.way.broker = self.broker

    def stop(self, bus: Bus) -> None:
        """Stop a process; it must manage to."""
        stopping = bus.stopService()
        self.advance(0.1)
        if not stopping.called:
            self.advance(bus.config.grace)
        self.successResultOf(stopping)

    def advance(self, seconds: float, step: float = 0.05) -> None:
        """Let time go by in steps, so that what happens in turns does."""
        self.clock.advance(0)
        while seconds > 1e-9:
            self.clock.advance(min(step, seconds))
            seconds -= step

    def result(self, waiting: Deferred[T] | Coroutine[Any, Any, T], seconds: float = 0.2) -> T:
        """What *waiting* fires with, within *seconds*."""
        deferred = waiting if isinstance(waiting, Deferred) else Deferred.fromCoroutine(waiting)
        self.advance(seconds)
        return self.successResultOf(deferred)

    def error(self, waiting: Deferred[Any], kind: type[Exception], seconds: float = 0.2) -> Any:
        """What *waiting* fails with, within *seconds*."""
        self.advance(seconds)
        return self.failureResultOf(waiting, kind).value
