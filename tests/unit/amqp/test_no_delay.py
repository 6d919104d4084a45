"""Small frames are sent at once: neither the kernel of either side nor the client's reactor delays them."""

from __future__ import annotations

from twisted.internet.interfaces import ITCPTransport, IWriteDescriptor
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txmicro.amqp.connection import Connection
from txmicro.amqp.frames import PROTOCOL_HEADER
from txmicro.broker.factory import BrokerFactory


@implementer(ITCPTransport)
class TCPTransport(StringTransport):
    """A transport that provides the interface of TCP."""

    no_delay = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def abortConnection(self) -> None:
        """Close at once."""


@implementer(IWriteDescriptor)
class Descriptor(TCPTransport):
    """A transport that keeps what is written until ``doWrite`` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def doWrite(self) -> None:
        self.sent += self.value()
        self.clear()


class NoDelayTests(SynchronousTestCase):
    def test_the_client_sends_at_once(self) -> None:
        transport = TCPTransport()
        Connection(vhost="/", username="guest", password="guest", clock=Clock()).makeConnection(transport)
        self.assertTrue(transport.no_delay)

    def test_the_output_of_a_turn_is_written_at_its_end(self) -> None:
        transport, clock = Descriptor(), Clock()
        client = Connection(vhost="/", username="guest", password="guest", clock=clock)
        client.makeConnection(transport)
        self.assertEqual(transport.sent, b"")
        clock.advance(0)
        self.assertEqual((transport.sent, transport.value()), (PROTOCOL_HEADER, b""))

    def test_output_before_a_close_is_written_before_the_transport_is_closed(self) -> None:
        transport, clock = Descriptor(), Clock()
        client = Connection(vhost="/", username="guest", password="guest", clock=clock)
        client.makeConnection(transport)
        clock.advance(0)
        client.dataReceived(b"no frame of AMQP")
        self.assertEqual(transport.sent, PROTOCOL_HEADER)
        self.assertNotEqual(transport.value(), b"")
        self.assertTrue(transport.disconnecting)

    def test_the_embedded_broker_sends_at_once(self) -> None:
        transport = TCPTransport()
        server = BrokerFactory(Clock()).buildProtocol(None)
        assert server is not None
        server.makeConnection(transport)
        self.assertTrue(transport.no_delay)
