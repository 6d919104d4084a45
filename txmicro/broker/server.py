"""The embedded broker's face: one protocol per connection, AMQP 0-9-1 as RabbitMQ speaks it."""

from __future__ import annotations

from hmac import compare_digest
from importlib.metadata import version
from typing import Any, Final

from pamqp import base
from pamqp.commands import Channel as ChannelMethods
from pamqp.commands import Connection
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txmicro.amqp.frames import (
    FRAME_MAX,
    HEARTBEAT,
    PROTOCOL_HEADER,
    Ack,
    FrameError,
    FrameReader,
    Properties,
    Publish,
    method_frame,
)
from txmicro.clock import Clock, Timer

from .channels import Session
from .model import MEMORY_LIMIT, Model
from .properties import Received
from .refusals import Refused
from .server_channel import ServerChannel

CHANNEL_MAX: Final = 2047
FRAME_MIN: Final = 4096
HEARTBEAT_INTERVAL: Final = 60
MAX_CONNECTIONS: Final = 1024
PATIENCE: Final = 10.0
"""Seconds that a client has to log in, and to confirm that we close the connection."""

UNREAD: Final = 16 * 1024 * 1024
"""Bytes of replies that pile up for a client that does not read, before it is cut off."""

_LARGE: Final = 128 * 1024
_CAPABILITIES: Final = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": False,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "consumer_priorities": False,
    "authentication_failure_close": True,
    "per_consumer_qos": True,
    "direct_reply_to": False,
}
_SERVER: Final = {
    "product": "txmicro",
    "version": version("txmicro"),
    "platform": "Python",
    "information": "Embedded broker: for one machine, everything in memory",
    "capabilities": _CAPABILITIES,
}


@implementer(IPushProducer)
class BrokerServer(Protocol):
    """One client's connection.

    What is to be sent in one turn of the reactor leaves in one piece.

    :ivar session: what the model knows of the client.
    :ivar frame_max: the largest frame that was agreed on, in bytes.
    """

    log = Logger()
    transport: Any

    def __init__(self, factory: BrokerFactory) -> None:
        self.factory = factory
        self.session = Session(factory.model)
        self.frame_max = FRAME_MAX
        self._reader = FrameReader(
            self._method, self._content, self._heartbeat, channel_max=0, properties=Received
        )
        self._header = b""
        self._expected: type[base.Frame] | None = Connection.StartOk
        self._channels: dict[int, ServerChannel] = {}
        self._confirming: list[ServerChannel] = []
        self._can: dict[str, Any] = {}
        self._out: list[bytes] = []
        self._out_size = 0
        self._flushing = False
        self._closing = False
        self._publishes = False
        self._blocked = False
        self._interval = 0.0
        self._silent = 0
        self._written = False
        self._unread = 0
        self._timer: Timer | None = None

    # The connection:

    def connectionMade(self) -> None:
        """Wait for the client's header, but not for ever."""
        self.transport.registerProducer(self, True)
        self._timer = self.factory.clock.callLater(PATIENCE, self._give_up)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes from the client; what is not AMQP ends the connection."""
        self._silent = 0
        if len(self._header) < len(PROTOCOL_HEADER):
            data = self._greet(data)
        try:
            self._reader.feed(data)
        except FrameError as error:
            self._close(Refused(error.code, error.message), 0)
            self._hang_up()

    def _greet(self, data: bytes) -> bytes:
        """Check the first eight bytes, and answer them; gives what follows them."""
        self._header += data
        header, rest = self._header[:8], self._header[8:]
        self._header = header
        if header == PROTOCOL_HEADER:
            self._send(Connection.Start(0, 9, _SERVER, "PLAIN", "en_US"))  # type: ignore[arg-type]
            return rest
        if not PROTOCOL_HEADER.startswith(header):
            self.write(PROTOCOL_HEADER)
            self._hang_up()
        return b""

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Give back what the client had."""
        self._closing = True
        self._stop_timer()
        self.session.close()
        self.factory.lost(self)

    def _give_up(self) -> None:
        self._timer = None
        self.transport.abortConnection()

    def _hang_up(self) -> None:
        """Say what is to be said, and close."""
        self._closing = True
        self._stop_timer()
        self._timer = self.factory.clock.callLater(PATIENCE, self._give_up)
        self.flush()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Writing:

    def write(self, data: bytes) -> None:
        """Send *data* at the end of this turn."""
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size > _LARGE:
            self.flush()
        elif not self._flushing:
            self._flush_later()

    def _flush_later(self) -> None:
        self._flushing = True
        self.factory.flush_later(self)

    def confirm_later(self, channel: ServerChannel) -> None:
        """Let *channel* confirm at the end of this turn."""
        self._confirming.append(channel)
        if not self._flushing:
            self._flush_later()

    def flush(self) -> None:
        """Send what is waiting."""
        confirming, self._confirming = self._confirming, []
        for channel in confirming:
            channel.confirm()
        self._flushing = False
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._out_size = 0
            self._written = True
            self.transport.write(data)
            self._unread += len(data)
            if self._unread > UNREAD and not self.session.writable:
                self.transport.abortConnection()

    def _send(self, method: base.Frame) -> None:
        self.write(method_frame(0, method))

    # What the transport tells as our consumer (IPushProducer):

    def pauseProducing(self) -> None:
        """The client does not read: deliver nothing."""
        self._unread = 0
        self.session.pause()

    def resumeProducing(self) -> None:
        """The client reads again."""
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

    def _publish(self, number: int, method: Publish, properties: Properties, body: bytes) -> None:
        channel = self._channel(number)
        if channel.closing:
            return
        channel.publish(method, properties, body)
        self._publishes = True
        if self.factory.model.memory.alarm:
            self.block()

    def _heartbeat(self) -> None:
        """Any byte shows that the client lives."""

    def _on_channel(self, number: int, method: Any) -> None:
        if type(method) is ChannelMethods.Open and number not in self._channels:
            self._open_channel(number)
            return
        channel = self._channel(number)
        if type(method) is ChannelMethods.Close:
            self._forget(number)
            self.write(method_frame(number, ChannelMethods.CloseOk()))
        elif not channel.closing:
            channel.handle(method)
        elif type(method) is ChannelMethods.CloseOk:
            del self._channels[number]

    def _channel(self, number: int) -> ServerChannel:
        channel = self._channels.get(number)
        if channel is None or self._expected is not None:
            raise Refused(504, "expected 'channel.open'")
        return channel

    def _open_channel(self, number: int) -> None:
        if self._expected is not None or number > CHANNEL_MAX:
            raise Refused(504, f"channel {number} cannot be opened")
        self._channels[number] = ServerChannel(self, number, self.factory.model)
        self.write(method_frame(number, ChannelMethods.OpenOk()))

    def _forget(self, number: int) -> None:
        self._channels.pop(number).close()

    def _refuse(self, number: int, refusal: Refused, index: int) -> None:
        if not (refusal.soft and number):
            self._close(refusal, index)
            return
        channel = self._channels[number]
        channel.closing = True
        channel.close()
        self.write(method_frame(number, ChannelMethods.Close(*_reasons(refusal, index))))

    def _close(self, refusal: Refused, index: int) -> None:
        """Close the connection; the client has a moment to confirm that."""
        if self._closing:
            return
        self.log.warn(
            "Closing the connection of {peer}: {why}", peer=self.transport.getPeer(), why=refusal.text
        )
        self._closing = True
        self.session.close()
        self._send(Connection.Close(*_reasons(refusal, index)))
        self._stop_timer()
        self._timer = self.factory.clock.callLater(PATIENCE, self._give_up)

    # Channel 0:

    def _on_connection(self, method: Any) -> None:
        if type(method) is Connection.Close:
            self.session.close()
            self._send(Connection.CloseOk())
            self._hang_up()
            return
        if type(method) is not self._expected:
            raise Refused(503, f"unexpected method {getattr(method, 'name', 'basic.ack')} on channel 0")
        if type(method) is Connection.StartOk:
            self._log_in(method)
        elif type(method) is Connection.TuneOk:
            self._tune(method)
        else:
            self._open(method)

    def _log_in(self, method: Connection.StartOk) -> None:
        if method.mechanism != "PLAIN":
            raise Refused(503, f"unknown authentication mechanism '{method.mechanism}'")
        capabilities = (method.client_properties or {}).get("capabilities")
        self._can = capabilities if isinstance(capabilities, dict) else {}
        if not self.factory.knows(method.response):
            self._turn_away()
            return
        self._expected = Connection.TuneOk
        self._send(Connection.Tune(CHANNEL_MAX, FRAME_MAX, HEARTBEAT_INTERVAL))

    def _turn_away(self) -> None:
        """Wrong user or password; who does not expect to hear that, only sees the connection end."""
        if not self.can("authentication_failure_close"):
            self._hang_up()
            return
        raise Refused(403, "Login was refused using authentication mechanism PLAIN")

    def _tune(self, method: Connection.TuneOk) -> None:
        if not FRAME_MIN <= method.frame_max <= FRAME_MAX:
            raise Refused(
                530, f"negotiated frame_max = {method.frame_max}: allowed are {FRAME_MIN} to {FRAME_MAX}"
            )
        self.frame_max = self._reader.frame_max = method.frame_max
        self._interval = method.heartbeat / 2
        self._expected = Connection.Open

    def _open(self, method: Any) -> None:
        if method.virtual_host != "/":
            raise Refused(530, f"vhost {method.virtual_host} not found")
        self._expected = None
        self._reader.channel_max = CHANNEL_MAX
        self._send(Connection.OpenOk())
        self._stop_timer()
        if self._interval:
            self._timer = self.factory.clock.callLater(self._interval, self._tick)

    def can(self, capability: str) -> bool:
        """Whether the client said that it understands *capability*."""
        return self._can.get(capability) is True

    # Heartbeats, both ways: each half interval one look at what has happened.

    def _tick(self) -> None:
        self._timer = self.factory.clock.callLater(self._interval, self._tick)
        if not self._written:
            self.transport.write(HEARTBEAT)
        self._written = False
        if self._blocked:  # we do not read, so we cannot know
            return
        self._silent += 1
        if self._silent > 4:
            self.log.warn("No heartbeat from {peer}: closing its connection", peer=self.transport.getPeer())
            self.transport.abortConnection()

    # Memory:

    def alarm(self, on: bool) -> None:
        """Memory is short, or is no more."""
        if on and self._publishes:
            self.block()
        elif not on and self._blocked:
            self._blocked = False
            if self.can("connection.blocked"):
                self._send(Connection.Unblocked())
            self.transport.resumeProducing()

    def block(self) -> None:
        """Read no more from this client, who publishes."""
        if self._blocked or self._closing:
            return
        self._blocked = True
        if self.can("connection.blocked"):
            self._send(Connection.Blocked("low on memory"))
        self.transport.pauseProducing()

    def shut_down(self) -> None:
        """Close the connection because the broker stops."""
        if self._expected is None:
            self._close(Refused(320, "broker forced connection closure with reason 'shutdown'"), 0)
        self._hang_up()


class BrokerFactory(Factory):
    """One broker, and its connections.

    :param users: passwords by user name; None: guest, with the password guest.
    :param memory_limit: bytes of messages above which publishers are held up.
    :param max_connections: more are closed at once.
    :ivar model: what is in it.
    """

    noisy = False

    def __init__(
        self,
        clock: Clock,
        *,
        users: dict[str, str] | None = None,
        memory_limit: int = MEMORY_LIMIT,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.model = Model(clock, memory_limit=memory_limit)
        self.clock = clock
        self.connections: set[BrokerServer] = set()
        self._users = {"guest": "guest"} if users is None else users
        self._max_connections = max_connections
        self._unflushed: list[BrokerServer] = []
        self._flush: Timer | None = None
        self._gone: list[Deferred[None]] = []
        self.model.memory.on_alarm = self._on_alarm

    def buildProtocol(self, addr: IAddress | None) -> BrokerServer | None:
        """A connection; None, which closes it: there are too many."""
        if len(self.connections) >= self._max_connections:
            return None
        protocol = BrokerServer(self)
        self.connections.add(protocol)
        return protocol

    def lost(self, connection: BrokerServer) -> None:
        """*connection* is gone."""
        self.connections.discard(connection)
        if not self.connections:
            gone, self._gone = self._gone, []
            for waiter in gone:
                waiter.callback(None)

    def shut_down(self) -> Deferred[None]:
        """Close all connections. Fires with None when they are gone; does not fail."""
        if not self.connections:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._gone.append(waiter)
        for connection in list(self.connections):
            connection.shut_down()
        return waiter

    def close(self) -> None:
        """Break all connections and drop all messages, without a word."""
        for connection in list(self.connections):
            connection.transport.abortConnection()
        self.model.close()

    def knows(self, response: str | bytes) -> bool:
        """Whether *response* (SASL PLAIN, RFC 4616) names a user and the right password."""
        data = response.encode() if isinstance(response, str) else response
        parts = data.split(b"\0")
        if len(parts) != 3:
            return False
        password = self._users.get(parts[1].decode("utf-8", "replace"))
        return compare_digest(parts[2], (password or "").encode()) and password is not None

    def flush_later(self, connection: BrokerServer) -> None:
        """Flush *connection* at the end of this turn, all connections in one go."""
        self._unflushed.append(connection)
        if self._flush is None:
            self._flush = self.clock.callLater(0, self._flush_all)

    def _flush_all(self) -> None:
        self._flush = None
        unflushed, self._unflushed = self._unflushed, []
        for connection in unflushed:
            connection.flush()

    def _on_alarm(self, on: bool) -> None:
        for connection in list(self.connections):
            connection.alarm(on)


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
