"""The embedded broker as a service, on TCP."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from txmicro.broker.service import INTERFACE, PORT, Broker

from .contract_broker import Raw

reactor: Any = _reactor


class ListeningTests(SynchronousTestCase):
    def test_it_listens_on_loopback(self) -> None:
        memory = MemoryReactorClock()
        broker = Broker(memory)
        self.assertEqual(broker.port, PORT)
        broker.startService()
        ((port, factory, _backlog, interface),) = memory.tcpServers
        self.assertEqual((port, factory, interface), (PORT, broker.factory, INTERFACE))

    def test_users_and_memory_are_configured(self) -> None:
        broker = Broker(MemoryReactorClock(), users={"u": "p"}, memory_limit=10)
        self.assertEqual(broker.factory.users, {"u": "p"})
        self.assertEqual(broker.factory.model.memory.limit, 10)


class ServiceTests(TestCase):
    async def test_a_taken_port_is_known_at_once(self) -> None:
        broker = Broker(reactor, port=0)
        broker.startService()
        second = Broker(reactor, port=broker.port)
        self.assertRaises(CannotListenError, second.startService)
        await second.stopService()
        await broker.stopService()

    async def test_stopping_closes_connections_and_drops_queues(self) -> None:
        broker = Broker(reactor, port=0)
        broker.startService()
        port = broker.port
        client = await connectProtocol(TCP4ClientEndpoint(reactor, INTERFACE, port), Raw())
        broker.factory.model.declare_queue(object(), "queue", arguments={"x-expires": 60_000})  # type: ignore[arg-type]
        await broker.stopService()
        await client.gone
        self.assertEqual((broker.factory.connections, broker.factory.model.queues), (set(), {}))
        self.assertFalse(broker.running)
