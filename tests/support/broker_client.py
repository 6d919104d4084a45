"""A client of the embedded broker that sends frames, on a Clock."""

from __future__ import annotations

from typing import Any

from pamqp import base
from pamqp.commands import Channel, Connection
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from txmicro.amqp.frame_reader import FrameReader
from txmicro.amqp.frames import (
    PROTOCOL_HEADER,
    content_frames,
    method_frame,
    publish_prefix,
)
from txmicro.amqp.properties import Properties
from txmicro.broker.factory import BrokerFactory

CAPABLE: dict[str, Any] = {"capabilities": {"consumer_cancel_notify": True, "connection.blocked": True}}


class _Transport(StringTransport):
    """Records whether it was aborted, and whether reading is paused."""

    aborted = False
    reading = True

    def abortConnection(self) -> None:
        self.aborted = True

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True


class Client:
    """Sends frames, and records received methods (channel, method) and messages (method, properties, body)."""

    def __init__(self, factory: BrokerFactory, clock: Clock) -> None:
        self.clock = clock
        server: Any = factory.buildProtocol(None)
        self.server = server
        self.transport = _Transport()
        self.methods: list[tuple[int, Any]] = []
        self.messages: list[tuple[Any, Properties, bytes]] = []
        self.heartbeats = 0
        self._reader = FrameReader(
            lambda channel, method: self.methods.append((channel, method)),
            lambda channel, method, properties, body: self.messages.append((method, properties, body)),
            self._heartbeat,
        )
        self.server.makeConnection(self.transport)

    def _heartbeat(self) -> None:
        self.heartbeats += 1

    def write(self, data: bytes) -> None:
        self.server.dataReceived(data)
        self.clock.advance(0)
        self.read()

    def read(self) -> None:
        data = self.transport.value()
        self.transport.clear()
        self._reader.feed(data)

    def send(self, method: base.Frame, channel: int = 1) -> Any:
        """Send *method*; return the last method of the answer."""
        self.methods.clear()
        self.write(method_frame(channel, method))
        return self.methods[-1][1] if self.methods else None

    def publish(
        self,
        key: str,
        body: bytes = b"",
        exchange: str = "",
        *,
        mandatory: bool = False,
        channel: int = 1,
        **properties: Any,
    ) -> None:
        prefix = publish_prefix(channel, exchange, key, mandatory)
        self.write(content_frames(channel, prefix, Properties(**properties).encode(), body, 131_072))

    def greet(self) -> None:
        self.write(PROTOCOL_HEADER)

    def log_in(self, properties: Any = None, response: str = "\x00guest\x00guest", heartbeat: int = 0) -> Any:
        self.greet()
        self.send(
            Connection.StartOk(CAPABLE if properties is None else properties, "PLAIN", response, "en_US"), 0
        )
        if self.methods and type(self.methods[-1][1]) is Connection.Tune:
            self.send(Connection.TuneOk(2047, 131_072, heartbeat), 0)
            self.send(Connection.Open("/"), 0)
        return self

    def open(self, **options: Any) -> Client:
        self.log_in(**options)
        self.send(Channel.Open())
        return self

    def lose(self) -> None:
        self.server.connectionLost(None)


class BrokerTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.factory = BrokerFactory(self.clock)
        self.clients: list[Client] = []

    def tearDown(self) -> None:
        for client in self.clients:
            if client.server in self.factory.connections:
                client.lose()
        self.factory.close()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def client(self) -> Client:
        self.clients.append(Client(self.factory, self.clock))
        return self.clients[-1]

    def opened(self, **options: Any) -> Client:
        return self.client().open(**options)

    def assert_closed(self, client: Client, code: int, words: str) -> None:
        """Check that the server has closed the connection with *code*, and that the reason contains *words*."""
        _channel, close = client.methods[-1]
        self.assertIsInstance(close, Connection.Close)
        self.assertEqual(close.reply_code, code)
        self.assertIn(words, close.reply_text)

    def refused(self, client: Client, method: base.Frame, code: int, words: str, channel: int = 1) -> None:
        client.send(method, channel)
        self.assert_closed(client, code, words)
