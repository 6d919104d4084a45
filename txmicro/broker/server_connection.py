"""The embedded broker's face: one protocol per connection, AMQP 0-9-1 as RabbitMQ speaks it."""

from __future__ import annotations

import typing
from typing import Any, Final

from pamqp import base
from pamqp.commands import Channel as ChannelMethods
from pamqp.commands import Connection
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txmicro.amqp.errors import CHANNEL_ERROR, FrameError
from txmicro.amqp.frame_reader import FrameReader
from txmicro.amqp.frames import BODY_MAX, HEARTBEAT, PROTOCOL_HEADER, method_frame
from txmicro.amqp.methods import Ack, Publish
from txmicro.amqp.properties import Properties
from txmicro.util.clock import Clock, Timer

from .errors import Refused
from .handshake import Handshake
from .model import Model
from .output_buffer import UNREAD, OutputBuffer
from .properties import ReceivedProperties
from .server_channel import ServerChannel
from .sessions import ModelSession

MAX_CONNECTIONS: Final = 1024
UNFINISHED: Final = 2 * BODY_MAX
"""Bytes of messages whose end has not come that a connection may have, all its channels together."""
PATIENCE: Final = 10.0
"""Seconds that a client has to log in, and to confirm that we close the connection."""

_SILENT: Final = 4  # half intervals without a byte from the client


class ConnectionOwner(typing.Protocol):
    """The factory of a connection."""

    model: Model
    clock: Clock
    users: dict[str, str]

    def flush_later(self, output: OutputBuffer) -> None:
        """Flush *output* at the end of this turn of the reactor."""

    def lost(self, connection: ServerConnection) -> None:
        """Note that *connection* is closed."""


@implementer(IPushProducer)
class ServerConnection(Protocol):
    """One client's connection.

    :ivar session: what the model knows of the client.
    :ivar output: what it is sent.
    """

    log = Logger()
    transport: Any

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self.session = ModelSession(owner.model)
        self.output = OutputBuffer(owner.flush_later, self._cut_off)
        self._handshake = Handshake(owner.users, self._send, self._hang_up)
        self._reader = FrameReader(
            self._method,
            self._content,
            self._heartbeat,
            held_max=UNFINISHED,
            channel_max=0,
            properties=ReceivedProperties,
            refuse=self._refuse_content,
        )
        self._header = b""
        self._channels: dict[int, ServerChannel] = {}
        self._closing = False
        self._deaf = False
        self._publishes = False
        self._blocked = False
        self._silent = 0
        self._timer: Timer | None = None

    # The connection:

    def connectionMade(self) -> None:
        """Wait for the client's header, but not for ever."""
        self.output.transport = self.transport
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # a turn's output is one write: nothing is worth waiting for
        self.transport.registerProducer(self, True)
        self._call_later(PATIENCE, self._give_up)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes from the client; what is not AMQP ends the connection."""
        self._silent = 0
        if self._deaf:
            return
        if len(self._header) < len(PROTOCOL_HEADER):
            data = self._greet(data)
        try:
            self._reader.feed(data)
        except FrameError as error:
            self._fail(Refused(error.code, error.message), 0)
            self._deafen()

    def _greet(self, data: bytes) -> bytes:
        """Check the first eight bytes, and answer them; gives what follows them."""
        data = self._header + data
        self._header = data[: len(PROTOCOL_HEADER)]
        if self._header == PROTOCOL_HEADER:
            self._handshake.start()
            return data[len(PROTOCOL_HEADER) :]
        if not PROTOCOL_HEADER.startswith(self._header) and not self._closing:
            self.output.write(PROTOCOL_HEADER)
            self._hang_up()
        return b""

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Give back what the client had."""
        self._closing = True
        self._stop_timer()
        self.session.close()
        self._owner.lost(self)

    def _hang_up(self) -> None:
        """Say what is to be said, and close."""
        self._closing = True
        self._call_later(PATIENCE, self._give_up)
        self.output.release()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _deafen(self) -> None:
        """Close our half, and read over what still comes: to close amid it would reset the connection.

        The client could lose our reason with that.
        """
        if not ITCPTransport.providedBy(self.transport):
            self._hang_up()
            return
        self._closing = self._deaf = True
        self._call_later(PATIENCE, self._give_up)
        self.output.release()
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def _cut_off(self) -> None:
        """The client asks and does not read what it is answered."""
        self._closing = True
        self.log.warn(
            "{peer} left over {size} bytes of replies unread: its connection is cut, so that they take no memory",
            peer=self.transport.getPeer(),
            size=UNREAD,
        )
        self.transport.abortConnection()

    def _give_up(self) -> None:
        self._timer = None
        self.transport.abortConnection()

    def _call_later(self, delay: float, call: Any) -> None:
        """Set the connection's one timer."""
        self._stop_timer()
        self._timer = self._owner.clock.callLater(delay, call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, method: base.Frame, number: int = 0) -> None:
        self.output.write(method_frame(number, method))

    # What the transport tells us, who feed it (IPushProducer):

    def pauseProducing(self) -> None:
        """The client does not read: deliver nothing."""
        self.output.hold()
        self.session.pause()

    def resumeProducing(self) -> None:
        """The client reads again."""
        self.output.release()
        self.session.resume()

    def stopProducing(self) -> None:
        """The connection is going; :meth:`connectionLost` sees to it."""

    # Frames in:

    def _method(self, number: int, method: Any) -> None:
        if self._closing:
            if type(method) is Connection.CloseOk:
                self._hang_up()
            return
        try:
            if number == 0:
                self._on_connection(method)
            else:
                self._on_channel(number, method)
        except Refused as refusal:
            self._refuse(number, refusal, _index(method))

    def _content(self, number: int, method: Any, properties: Properties, body: bytes) -> None:
        if self._closing:
            return
        try:
            if type(method) is not Publish:
                raise Refused(503, f"{getattr(method, 'name', 'basic.deliver')} from a client")
            self._publish(number, method, properties, body)
        except Refused as refusal:
            self._refuse(number, refusal, _index(method))

    def _refuse_content(self, number: int, method: Any, code: int, why: str) -> None:
        """A message is too large, which costs its channel: the body is read over."""
        channel = self._channels.get(number)
        if channel is None:
            raise FrameError("expected 'channel.open'", code=CHANNEL_ERROR, channel=number)
        if not (self._closing or channel.closing):
            self._refuse(number, Refused(code, why), _index(method))

    def _publish(self, number: int, method: Publish, properties: Properties, body: bytes) -> None:
        channel = self._channel(number)
        if channel.closing:
            return
        channel.publish(method, properties, body)
        self._publishes = True
        if self._owner.model.memory.alarm:
            self._block()

    def _heartbeat(self) -> None:
        """Any byte shows that the client lives."""

    def _on_connection(self, method: Any) -> None:
        if type(method) is Connection.Close:
            self.session.close()
            self._send(Connection.CloseOk())
            self._hang_up()
            return
        if type(method) is Connection.UpdateSecret and self._handshake.done:
            self._send(Connection.UpdateSecretOk())  # there are no secrets here that expire
            return
        self._handshake.take(method)
        if self._handshake.done:
            self._opened()

    def _opened(self) -> None:
        """The client is let in."""
        self._reader.frame_max = self._handshake.frame_max
        self._reader.channel_max = 0xFFFF
        self._stop_timer()
        if self._handshake.heartbeat:
            self._call_later(self._handshake.heartbeat / 2, self._tick)

    def _on_channel(self, number: int, method: Any) -> None:
        if type(method) is ChannelMethods.Open and number not in self._channels:
            self._open_channel(number)
            return
        channel = self._channel(number)
        if channel.closing:
            self._on_closing_channel(number, method)
        elif type(method) is ChannelMethods.Close:
            self._channels.pop(number).close()
            self._send(ChannelMethods.CloseOk(), number)
        else:
            channel.handle(method)

    def _on_closing_channel(self, number: int, method: Any) -> None:
        """The channel is ours again only with the client's CloseOk, also where both closed it at once."""
        if type(method) is ChannelMethods.CloseOk:
            del self._channels[number]
        elif type(method) is ChannelMethods.Close:
            self._send(ChannelMethods.CloseOk(), number)
        elif type(method) is ChannelMethods.Open:
            raise Refused(504, "second 'channel.open' seen")

    def _channel(self, number: int) -> ServerChannel:
        channel = self._channels.get(number)
        if channel is None:
            raise Refused(504, "expected 'channel.open'")
        return channel

    def _open_channel(self, number: int) -> None:
        if not self._handshake.done:
            raise Refused(504, f"channel {number} cannot be opened")
        most = self._handshake.channel_max
        if len(self._channels) >= most:
            raise Refused(
                530,
                f"number of channels opened ({most}) has reached the negotiated channel_max ({most})",
            )
        self._channels[number] = ServerChannel(
            number, self._owner.model, self.session, self.output, self._handshake
        )
        self._send(ChannelMethods.OpenOk(), number)

    def _refuse(self, number: int, refusal: Refused, index: int) -> None:
        if not (refusal.soft and number):
            self._fail(refusal, index)
            return
        channel = self._channels[number]
        channel.closing = True
        channel.close()
        self._send(ChannelMethods.Close(*_reasons(refusal, index)), number)

    def _fail(self, refusal: Refused, index: int) -> None:
        """Close the connection for a mistake of the client's."""
        self.log.warn(
            "Closing the connection of {peer}: {why}",
            peer=self.transport.getPeer(),
            why=refusal.text,
            recurring=True,
        )
        self._close(refusal, index)

    def _close(self, refusal: Refused, index: int) -> None:
        """Close the connection; the client has a moment to confirm that."""
        if self._closing:
            return
        self._closing = True
        self.session.close()
        self.output.flush()  # nothing may follow the close
        self._send(Connection.Close(*_reasons(refusal, index)))
        self._call_later(PATIENCE, self._give_up)

    # Heartbeats, both ways: each half interval one look at what has happened.

    def _tick(self) -> None:
        self._timer = self._owner.clock.callLater(self._handshake.heartbeat / 2, self._tick)
        if not self.output.written:
            self.transport.write(HEARTBEAT)
        self.output.written = False
        if self._blocked:  # we do not read, so we cannot know
            return
        self._silent += 1
        if self._silent > _SILENT:
            text = "No heartbeat from {peer}: closing its connection"
            self.log.warn(text, peer=self.transport.getPeer(), recurring=True)
            self.transport.abortConnection()

    # Memory:

    def alarm(self, on: bool) -> None:
        """Memory is short, or is no more."""
        if on and self._publishes:
            self._block()
        elif not on and self._blocked:
            self._blocked = False
            if self._handshake.can("connection.blocked"):
                self._send(Connection.Unblocked())
            self.transport.resumeProducing()

    def _block(self) -> None:
        """Read no more from this client, who publishes."""
        if self._blocked or self._closing:
            return
        self._blocked = True
        if self._handshake.can("connection.blocked"):
            self._send(Connection.Blocked("low on memory"))
        self.transport.pauseProducing()

    def shut_down(self) -> None:
        """Close the connection because the broker stops."""
        if self._handshake.done:
            self._close(Refused(320, "broker forced connection closure with reason 'shutdown'"), 0)
        self._hang_up()


def _reasons(refusal: Refused, index: int) -> tuple[int, str, int, int]:
    """The arguments of a close method; *index* is the method that was refused."""
    text = refusal.text.encode()[:255].decode(errors="ignore")
    return refusal.code, text, index >> 16, index & 0xFFFF


def _index(method: Any) -> int:
    if type(method) is Publish:
        return 0x003C0028
    if type(method) is Ack:
        return 0x003C0050
    return int(getattr(method, "index", 0))
