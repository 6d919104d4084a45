"""Neither side of a TCP connection lets the kernel hold small frames back."""

from __future__ import annotations

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from txmicro.amqp.client import Client
from txmicro.broker.server import BrokerFactory


@implementer(ITCPTransport)
class TCPTransport(StringTransport):
    """A transport that says it is TCP."""

    no_delay = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def abortConnection(self) -> None:
        """It is gone at once."""


class NoDelayTests(SynchronousTestCase):
    def test_the_client_sends_at_once(self) -> None:
        transport = TCPTransport()
        Client(vhost="/", username="guest", password="guest", clock=Clock()).makeConnection(transport)
        self.assertTrue(transport.no_delay)

    def test_the_embedded_broker_sends_at_once(self) -> None:
        transport = TCPTransport()
        server = BrokerFactory(Clock()).buildProtocol(None)
        assert server is not None
        server.makeConnection(transport)
        self.assertTrue(transport.no_delay)
