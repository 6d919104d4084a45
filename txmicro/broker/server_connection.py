"""A client's connection to the embedded broker: AMQP 0-9-1 as RabbitMQ speaks it."""

from __future__ import annotations

from typing import Any, Final
from typing import Protocol as TypingProtocol

from pamqp import base
from pamqp.commands import Connection as ConnectionMethods
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txmicro.amqp.errors import FrameError
from txmicro.amqp.frame_reader import FrameReader
from txmicro.amqp.frames import BODY_MAX, HEARTBEAT, PROTOCOL_HEADER, method_frame
from txmicro.amqp.heartbeat import Heartbeat
from txmicro.amqp.methods import Publish
from txmicro.amqp.properties import Properties
from txmicro.util.clock import Clock, Timer

from .channel_table import ChannelTable
from .errors import Refused
from .handshake import ServerHandshake
from .model import Model
from .output_buffer import UNREAD, OutputBuffer
from .properties import ReceivedProperties
from .sessions import ModelSession

UNFINISHED: Final = 2 * BODY_MAX
"""Bytes of incomplete messages that a connection may have, on all its channels together."""
PATIENCE: Final = 10.0
"""Seconds that a client has to log in, and to confirm that the broker closes the connection."""

_SILENT_MAX: Final = 4
"""Half heartbeat intervals without a byte from the client after which the connection is closed."""


class ConnectionOwner(TypingProtocol):
    """The factory of a connection.

    :ivar users: passwords by user name.
    """

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

    :ivar session: its session in the model.
    """

    log = Logger()
    transport: Any

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self.session = ModelSession(owner.model)
        self._heartbeat = Heartbeat(owner.clock, self._send_heartbeat, self._client_silent, _SILENT_MAX)
        self._output = OutputBuffer(self._heartbeat, owner.flush_later, self._cut_off)
        self._handshake = ServerHandshake(owner.users, self._send, self._hang_up)
        self._channels = ChannelTable(owner.model, self.session, self._output, self._handshake)
        self._reader = FrameReader(
            self._method,
            self._content,
            lambda: None,  # any byte shows that the client is alive
            held_max=UNFINISHED,
            channel_max=0,
            properties=ReceivedProperties,
            refuse=self._refuse_content,
        )
        self._header = b""
        self._closing = False
        self._ignoring = False  # what the client sends
        self._publishes = False
        self._blocked = False
        self._timer: Timer | None = None

    # For the transport:

    def connectionMade(self) -> None:
        """Wait for the client's protocol header and its login, for :data:`PATIENCE` seconds."""
        self._output.transport = self.transport
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(
                True
            )  # a turn's output is one write: waiting for more only delays it
        self.transport.registerProducer(self, True)
        self._abort_later()

    def dataReceived(self, data: bytes) -> None:
        """Read bytes from the client. Bytes that are not valid AMQP end the connection."""
        self._heartbeat.heard = True
        if self._ignoring:
            return
        if len(self._header) < len(PROTOCOL_HEADER):
            data = self._read_header(data)
        try:
            self._reader.feed(data)
        except FrameError as error:
            self._fail(Refused(error.code, error.message), 0)
            self._close_write_side()

    def _read_header(self, data: bytes) -> bytes:
        """Check the first eight bytes, and answer them. Return the bytes that follow them."""
        data = self._header + data
        self._header = data[: len(PROTOCOL_HEADER)]
        if self._header == PROTOCOL_HEADER:
            self._handshake.start()
            return data[len(PROTOCOL_HEADER) :]
        if not PROTOCOL_HEADER.startswith(self._header) and not self._closing:
            self._output.write(PROTOCOL_HEADER)
            self._hang_up()
        return b""

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Requeue the client's unacknowledged messages, and delete its exclusive queues."""
        self._closing = True
        self._heartbeat.stop()
        self._stop_timer()
        self.session.close()
        self._owner.lost(self)

    def pauseProducing(self) -> None:
        """Deliver nothing: the client does not read (IPushProducer)."""
        self._output.hold()
        self.session.pause()

    def resumeProducing(self) -> None:
        """Deliver again: the client reads."""
        self._output.release()
        self.session.resume()

    def stopProducing(self) -> None:
        """Do nothing: :meth:`connectionLost` follows."""

    # For the factory:

    def set_alarm(self, on: bool) -> None:
        """Stop reading from a client that publishes, because memory is short; or read again."""
        if on and self._publishes:
            self._block()
        elif not on and self._blocked:
            self._blocked = False
            self._heartbeat.reading = True
            if self._handshake.has_capability("connection.blocked"):
                self._send(ConnectionMethods.Unblocked())
            self.transport.resumeProducing()

    def _block(self) -> None:
        if self._blocked or self._closing:
            return
        self._blocked = True
        self._heartbeat.reading = False
        if self._handshake.has_capability("connection.blocked"):
            self._send(ConnectionMethods.Blocked("low on memory"))
        self.transport.pauseProducing()

    def shut_down(self) -> None:
        """Close the connection, because the broker stops."""
        if self._handshake.done:
            self._close(Refused(320, "broker forced connection closure with reason 'shutdown'"), 0)
        self._hang_up()

    # Frames from the client:

    def _method(self, number: int, method: Any) -> None:
        if self._closing:
            if type(method) is ConnectionMethods.CloseOk:
                self._hang_up()
            return
        try:
            if number == 0:
                self._on_connection(method)
            else:
                self._channels.handle(number, method)
        except Refused as refusal:
            self._refuse(number, refusal, method.index)

    def _content(self, number: int, method: Any, properties: Properties, body: bytes) -> None:
        if self._closing:
            return
        try:
            if type(method) is not Publish:
                raise Refused(503, f"{method.name} from a client")
            if self._channels.publish(number, method, properties, body):
                self._publishes = True
                if self._owner.model.memory.alarm:
                    self._block()
        except Refused as refusal:
            self._refuse(number, refusal, method.index)

    def _refuse_content(self, number: int, method: Any, code: int, why: str) -> None:
        """Close the channel of a message that is too large. The reader skips the body."""
        if not (self._channels.is_closing(number) or self._closing):
            self._refuse(number, Refused(code, why), method.index)

    def _on_connection(self, method: Any) -> None:
        if type(method) is ConnectionMethods.Close:
            self.session.close()
            self._send(ConnectionMethods.CloseOk())
            self._hang_up()
            return
        if type(method) is ConnectionMethods.UpdateSecret and self._handshake.done:
            self._send(ConnectionMethods.UpdateSecretOk())  # passwords do not expire here
            return
        self._handshake.take(method)
        if self._handshake.done:
            self._reader.frame_max = self._handshake.frame_max
            self._reader.channel_max = 0xFFFF
            self._stop_timer()
            self._heartbeat.start(self._handshake.heartbeat)

    # Frames to the client:

    def _send(self, method: base.Frame) -> None:
        self._output.write(method_frame(0, method))

    def _send_heartbeat(self) -> None:
        self.transport.write(HEARTBEAT)

    # How the connection ends:

    def _refuse(self, number: int, refusal: Refused, index: int) -> None:
        if refusal.soft and number:
            self._channels.refuse(number, refusal, index)
        else:
            self._fail(refusal, index)

    def _fail(self, refusal: Refused, index: int) -> None:
        """Close the connection because of an error of the client."""
        self.log.warn(
            "Closing the connection of {peer}, which sent an invalid request: {why}",
            peer=self.transport.getPeer(),
            why=refusal.text,
            recurring=True,
        )
        self._close(refusal, index)

    def _close(self, refusal: Refused, index: int) -> None:
        """Send ``connection.close``, and wait for the client's confirmation."""
        if self._closing:
            return
        self._closing = True
        self.session.close()
        self._output.flush()  # nothing may follow the close
        self._send(ConnectionMethods.Close(*refusal.close_arguments(index)))
        self._abort_later()

    def _hang_up(self) -> None:
        """Close the transport once it has sent what is written."""
        self._closing = True
        self._abort_later()
        self._output.release()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _close_write_side(self) -> None:
        """Close this side of the transport, and ignore what the client still sends.

        Closing both sides while data arrives would reset the connection. The client could then lose the reason.
        """
        if not ITCPTransport.providedBy(self.transport):
            self._hang_up()
            return
        self._closing = self._ignoring = True
        self._abort_later()
        self._output.release()
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def _cut_off(self) -> None:
        """Abort the connection of a client that sends requests and does not read the replies."""
        self._closing = True
        self.log.warn(
            "{peer} has not read more than {size} bytes of replies: its connection is closed, to free the memory",
            peer=self.transport.getPeer(),
            size=UNREAD,
        )
        self.transport.abortConnection()

    def _client_silent(self, seconds: float) -> None:
        self.log.warn(
            "No heartbeat from {peer} for {seconds:g} s or more: closing its connection",
            peer=self.transport.getPeer(),
            seconds=seconds,
            recurring=True,
        )
        self.transport.abortConnection()

    def _abort_later(self) -> None:
        """Abort the connection after :data:`PATIENCE` seconds, unless it is closed or open by then."""
        self._heartbeat.stop()
        self._stop_timer()
        self._timer = self._owner.clock.callLater(PATIENCE, self._abort)

    def _abort(self) -> None:
        self._timer = None
        self.transport.abortConnection()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
