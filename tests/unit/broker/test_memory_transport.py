"""Connections in memory: they behave as Twisted's transports do, on a Clock."""

from __future__ import annotations

from typing import Any

from pamqp.commands import Connection
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txmicro.amqp.frame_reader import FrameReader
from txmicro.amqp.frames import PROTOCOL_HEADER
from txmicro.broker.factory import BrokerFactory
from txmicro.broker.memory_transport import BUFFER, MemoryEndpoint, MemoryTransport


class Recorder(Protocol):
    """Records the calls of its transport."""

    transport: Any

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.lost: list[type] = []
        self.log: list[str] = []

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost.append(type(reason.value) if reason else object)

    def pauseProducing(self) -> None:
        self.log.append("pause")

    def resumeProducing(self) -> None:
        self.log.append("resume")

    def stopProducing(self) -> None:
        self.log.append("stop")


class PipeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.near, self.far = Recorder(), Recorder()
        pipes = MemoryTransport.pair(self.clock, self.near, self.far)
        self.here, self.there = pipes

    def tearDown(self) -> None:
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_is_a_transport(self) -> None:
        verifyObject(ITransport, self.here)
        self.assertEqual((self.near.transport, self.far.transport), (self.here, self.there))
        self.assertEqual(repr(self.here.getPeer()), repr(self.here.getHost()))
        self.here.setTcpNoDelay(True)
        self.here.setTcpKeepAlive(True)

    def test_bytes_move_one_turn_later_and_together(self) -> None:
        self.here.write(b"a")
        self.here.write(b"")
        self.here.writeSequence([b"b", b"c"])
        self.assertEqual(self.far.received, [])
        self.clock.advance(0)
        self.assertEqual(self.far.received, [b"abc"])

    def test_both_directions(self) -> None:
        self.here.write(b"a")
        self.there.write(b"b")
        self.clock.advance(0)
        self.assertEqual((self.near.received, self.far.received), ([b"b"], [b"a"]))

    def test_closing_delivers_what_was_written(self) -> None:
        self.here.write(b"a")
        self.here.loseConnection()
        self.clock.advance(0)
        self.assertEqual(self.far.received, [b"a"])
        self.assertEqual((self.near.lost, self.far.lost), ([ConnectionDone], [ConnectionDone]))

    def test_both_sides_may_close(self) -> None:
        self.here.loseConnection()
        self.there.loseConnection()
        self.clock.advance(0)
        self.assertEqual((self.near.lost, self.far.lost), ([ConnectionDone], [ConnectionDone]))

    def test_after_the_end_nothing_happens(self) -> None:
        self.here.loseConnection()
        self.clock.advance(0)
        self.here.write(b"a")
        self.here.loseConnection()
        self.here.abortConnection()
        self.clock.advance(0)
        self.assertEqual((self.far.received, self.far.lost), ([], [ConnectionDone]))

    def test_a_lost_connection_loses_bytes_in_transit(self) -> None:
        self.here.write(b"a")
        self.there.cut()
        self.assertEqual(self.near.lost, [])
        self.clock.advance(0)
        self.assertEqual((self.near.lost, self.far.lost), ([ConnectionLost], [ConnectionLost]))
        self.assertEqual(self.far.received, [])

    def test_an_abort_is_reported_to_both_sides(self) -> None:
        self.here.abortConnection()
        self.clock.advance(0)
        self.assertEqual((self.near.lost, self.far.lost), ([ConnectionLost], [ConnectionLost]))

    def test_a_paused_side_gets_no_bytes_until_it_resumes(self) -> None:
        self.there.pauseProducing()
        self.here.write(b"a")
        self.clock.advance(0)
        self.assertEqual(self.far.received, [])
        self.there.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(self.far.received, [b"a"])

    def test_a_producer_is_paused_while_many_bytes_are_in_transit(self) -> None:
        self.here.registerProducer(self.near, True)
        self.here.write(b"x" * BUFFER)
        self.assertEqual(self.near.log, [])
        self.here.write(b"x")
        self.here.write(b"x")
        self.assertEqual(self.near.log, ["pause"])
        self.clock.advance(0)
        self.assertEqual(self.near.log, ["pause", "resume"])

    def test_a_pull_producer_is_resumed_when_there_is_room(self) -> None:
        self.here.registerProducer(self.near, False)
        self.assertEqual(self.near.log, ["resume"])
        self.here.write(b"x")
        self.clock.advance(0)
        self.assertEqual(self.near.log, ["resume", "resume"])
        self.here.unregisterProducer()

    def test_there_is_one_producer(self) -> None:
        self.here.registerProducer(self.near, True)
        self.assertRaises(RuntimeError, self.here.registerProducer, self.near, True)

    def test_a_producer_without_a_connection_is_stopped(self) -> None:
        self.here.cut()
        self.here.registerProducer(self.near, True)
        self.assertEqual(self.near.log, ["stop"])

    def test_closing_waits_for_a_pull_producer(self) -> None:
        self.here.registerProducer(self.near, False)
        self.here.loseConnection()
        self.clock.advance(0)
        self.assertEqual(self.far.lost, [])
        self.here.unregisterProducer()
        self.clock.advance(0)
        self.assertEqual(self.far.lost, [ConnectionDone])

    def test_closing_does_not_wait_for_a_push_producer_that_may_write(self) -> None:
        self.here.registerProducer(self.near, True)
        self.here.loseConnection()
        self.clock.advance(0)
        self.assertEqual(self.far.lost, [ConnectionDone])

    def test_stop_producing_closes(self) -> None:
        self.here.stopProducing()
        self.clock.advance(0)
        self.assertEqual(self.far.lost, [ConnectionDone])

    def test_a_protocol_that_raises_loses_its_connection(self) -> None:
        def fail(data: bytes) -> None:
            raise ValueError(data)

        self.far.dataReceived = fail  # type: ignore[method-assign]
        self.here.write(b"a")
        self.assertRaises(ValueError, self.clock.advance, 0)
        self.clock.advance(0)
        self.assertEqual((self.near.lost, self.far.lost), ([ConnectionLost], [ConnectionLost]))


class EndpointTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.broker = BrokerFactory(self.clock)
        self.endpoint = MemoryEndpoint(self.broker, self.clock)

    def connect(self) -> Any:
        connecting: Deferred[Any] = self.endpoint.connect(Factory.forProtocol(Recorder))  # type: ignore[arg-type]
        return self.successResultOf(connecting)

    def test_it_connects_to_the_broker(self) -> None:
        verifyObject(IStreamClientEndpoint, self.endpoint)
        client = self.connect()
        client.transport.write(PROTOCOL_HEADER)
        self.clock.advance(0)
        methods: list[Any] = []
        reader = FrameReader(
            lambda _channel, method: methods.append(type(method)), lambda *_: None, lambda: None
        )
        reader.feed(b"".join(client.received))
        self.assertEqual(methods, [Connection.Start])
        self.endpoint.cut()
        self.clock.advance(0)
        self.assertEqual((client.lost, self.broker.connections), ([ConnectionLost], set()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_broker_that_is_down_refuses(self) -> None:
        self.endpoint.down = True
        self.failureResultOf(self.endpoint.connect(Factory.forProtocol(Recorder)), ConnectionRefusedError)  # type: ignore[arg-type]

    def test_ended_connections_are_forgotten(self) -> None:
        for _ in range(3):
            self.connect()
            self.endpoint.cut()
            self.clock.advance(0)
        self.assertEqual(len(self.endpoint._pipes), 1)
