"""A broker that sends what a test tells it to, for tests of the AMQP client."""

from __future__ import annotations

from typing import Any

from pamqp import base, commands
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from txmicro.amqp.connection import Connection
from txmicro.amqp.frame_reader import FrameReader
from txmicro.amqp.frames import content_frames, deliver_frame, method_frame
from txmicro.amqp.methods import Deliver, IncomingMessage
from txmicro.amqp.properties import Properties


class CountingTransport(StringTransport):
    """Counts the writes."""

    writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)


class ScriptedBroker:
    """A client and the broker's end of its connection.

    :ivar said: the messages of the client in order: channel, and a method or a content; or ``"heartbeat"``.
    """

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        who = {"vhost": "/", "username": "ann", "password": "s3cret"}
        arguments: dict[str, Any] = {**who, "clock": self.clock, **options}
        self.client = Connection(**arguments)
        self.transport = CountingTransport()
        self.gone = False
        self.said: list[Any] = []
        self._reader = FrameReader(
            lambda channel, method: self.said.append((channel, method)),
            lambda channel, *content: self.said.append((channel, IncomingMessage(*content))),
            lambda: self.said.append("heartbeat"),
        )

    def connect(self) -> bytes:
        """Connect the client; return its protocol header."""
        self.client.makeConnection(self.transport)
        self.clock.advance(0)
        header = bytes(self.transport.value())
        self.transport.clear()
        return header

    def heard(self) -> list[Any]:
        """Return the messages of the client since the last call."""
        self.clock.advance(0)
        self._reader.feed(self.transport.value())
        self.transport.clear()
        said, self.said[:] = list(self.said), []
        return said

    def heard_one(self) -> Any:
        """Return the only method or content that the client has sent since the last call."""
        ((_, thing),) = self.heard()
        return thing

    def say(self, *methods: base.Frame, channel: int = 1) -> None:
        """Send methods to the client, in one piece."""
        self.client.dataReceived(b"".join(method_frame(channel, method) for method in methods))

    def content(
        self,
        method: base.Frame | Deliver,
        body: bytes = b"",
        properties: Properties | None = None,
        channel: int = 1,
    ) -> None:
        """Send a message to the client."""
        head = (
            deliver_frame(channel, method) if isinstance(method, Deliver) else method_frame(channel, method)
        )
        encoded = (properties or Properties()).encode()
        self.client.dataReceived(content_frames(channel, head, encoded, body, 4096))

    def start(self, **properties: Any) -> None:
        """Send Start, the first method of the handshake."""
        self.say(commands.Connection.Start(0, 9, properties, "AMQPLAIN PLAIN", "en_US"), channel=0)

    def tune(self, channel_max: int = 2047, frame_max: int = 131072, heartbeat: int = 60) -> None:
        """Send Tune, the next method of the handshake."""
        self.say(commands.Connection.Tune(channel_max, frame_max, heartbeat), channel=0)

    def open(self, **limits: int) -> None:
        """Run the whole handshake."""
        self.connect()
        self.start()
        self.tune(**limits)
        self.say(commands.Connection.OpenOk(), channel=0)
        self.heard()

    def channel(self, number: int = 1) -> Any:
        """Let the client open a channel; return the channel."""
        opened: list[Any] = []
        self.client.channel_open().addCallback(opened.append)
        self.say(commands.Channel.OpenOk(), channel=number)
        self.heard()
        return opened[0]

    def hang_up(self) -> None:
        """Close the connection if it is open."""
        if self.gone:
            return
        self.gone = True
        self.client.connectionLost(Failure(ConnectionDone()))
