"""The embedded broker as a service, on TCP."""

from __future__ import annotations

import socket
from typing import Any

from pamqp.commands import Basic, Channel, Connection
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.contract.broker.raw import Raw
from txmicro.amqp.frames import PROTOCOL_HEADER, method_frame
from txmicro.amqp.properties import Properties
from txmicro.broker.service import INTERFACE, PORT, EmbeddedBroker
from txmicro.broker.sessions import ModelSession

reactor: Any = _reactor


class ListeningTests(SynchronousTestCase):
    def test_it_listens_on_loopback(self) -> None:
        memory = MemoryReactorClock()
        broker = EmbeddedBroker(memory)
        self.assertEqual(broker.port, PORT)
        broker.startService()
        ((port, factory, _backlog, interface),) = memory.tcpServers
        self.assertEqual((port, factory, interface), (PORT, broker.factory, INTERFACE))

    def test_the_start_logs_once_that_all_is_in_memory(self) -> None:
        with capturedLogs() as events:
            broker = EmbeddedBroker(MemoryReactorClock())
            broker.startService()
            broker.factory.model.declare_queue(ModelSession(broker.factory.model), "queue", durable=True)
        said = [event for event in events if "in memory" in (event.get("log_format") or "")]
        self.assertEqual(len(said), 1)

    def test_users_and_memory_are_configured(self) -> None:
        broker = EmbeddedBroker(MemoryReactorClock(), users={"u": "p"}, memory_limit=10)
        self.assertEqual(broker.factory.users, {"u": "p"})
        self.assertEqual(broker.factory.model.memory.limit, 10)


class NotReading(Protocol):
    """A client that reads nothing."""

    def __init__(self) -> None:
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.pauseProducing()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.gone.callback(None)


class UnreadTests(TestCase):
    async def test_a_client_that_sends_and_never_reads_is_disconnected(self) -> None:
        broker = EmbeddedBroker(reactor, port=0)
        broker.startService()
        self.addCleanup(broker.stopService)
        queue = broker.factory.model.declare_queue(ModelSession(broker.factory.model), "queue")
        for _ in range(64):
            queue.push("", "queue", Properties(), bytes(1024 * 1024), None)
        client = await connectProtocol(TCP4ClientEndpoint(reactor, INTERFACE, broker.port), NotReading())
        hello = (
            Connection.StartOk({}, "PLAIN", "\x00guest\x00guest", "en_US"),
            Connection.TuneOk(0, 131_072, 0),
            Connection.Open("/"),
        )
        asked = [
            method_frame(1, Channel.Open()),
            *[method_frame(1, Basic.Get(queue="queue", no_ack=True))] * 64,
        ]
        (server,) = broker.factory.connections
        cut: Deferred[None] = Deferred()
        lost = server.connectionLost

        def connection_lost(reason: Failure | None = None) -> None:
            lost(reason)
            cut.callback(None)

        self.patch(server, "connectionLost", connection_lost)
        client.transport.write(PROTOCOL_HEADER + b"".join(method_frame(0, method) for method in hello))
        client.transport.write(b"".join(asked))
        await cut
        client.transport.abortConnection()
        await client.gone


class GarbageTests(TestCase):
    async def test_a_client_that_sends_garbage_gets_the_reason_while_it_sends(self) -> None:
        broker = EmbeddedBroker(reactor, port=0)
        broker.startService()
        self.addCleanup(broker.stopService)
        received = await deferToThread(
            self.send, broker.port, PROTOCOL_HEADER + b"\x09garbage" + bytes(2**25)
        )
        self.assertIn(b"FRAME_ERROR - unknown frame type 9", received)

    def send(self, port: int, data: bytes) -> bytes:
        """Send all of *data* before anything is read, as blocking clients do."""
        with socket.create_connection((INTERFACE, port), timeout=60) as client:
            client.sendall(data)
            return b"".join(iter(lambda: client.recv(65536), b""))


class ServiceTests(TestCase):
    async def test_a_taken_port_is_known_at_once(self) -> None:
        broker = EmbeddedBroker(reactor, port=0)
        broker.startService()
        second = EmbeddedBroker(reactor, port=broker.port)
        self.assertRaises(CannotListenError, second.startService)
        await second.stopService()
        await broker.stopService()

    async def test_stopping_closes_connections_and_drops_queues(self) -> None:
        broker = EmbeddedBroker(reactor, port=0)
        broker.startService()
        port = broker.port
        client = await connectProtocol(TCP4ClientEndpoint(reactor, INTERFACE, port), Raw())
        broker.factory.model.declare_queue(object(), "queue", arguments={"x-expires": 60_000})
        await broker.stopService()
        await client.gone
        self.assertEqual((broker.factory.connections, broker.factory.model.queues), (set(), {}))
        self.assertFalse(broker.running)
