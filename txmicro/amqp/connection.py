"""A connection to a broker: txamqp's client with txmicro's own reader and writer.

txamqp 0.8.2 gives the handshake's messages, the generated methods, the dispatch of the broker's requests, and the
order in which things close. It decodes bodies as text when they happen to be valid UTF-8, and measures text before it
encodes it. It does not know all field types of tables. It sends no capabilities, and has no publisher confirms. It
copies its buffer and moves two timers for every frame. So reading, writing, calls, heartbeats and errors are
txmicro's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pamqp.commands import Basic
from pamqp.commands import Channel as ChannelMethods
from pamqp.commands import Connection as ConnectionMethods
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import TwistedDelegate
from txamqp.message import Message
from txamqp.protocol import AMQClient
from zope.interface import implementer

from txmicro.errors import TxmicroError
from txmicro.util.clock import Clock, Timer
from txmicro.util.once import Once

from .channel import Channel
from .errors import (
    CHANNEL_ERROR,
    COMMAND_INVALID,
    ConnectionLost,
    FrameError,
    HeartbeatLost,
    NoChannelLeft,
    connection_closed,
    lost_by,
)
from .flush_scheduler import FlushScheduler
from .frame_reader import FrameReader
from .frame_writer import FrameWriter
from .frames import BODY_MAX, FRAME_MAX, HEARTBEAT, PROTOCOL_HEADER, method_frame
from .handshake import CHANNEL_MAX, ClientHandshake, Limits
from .heartbeat import Heartbeat
from .methods import Ack, Deliver, IncomingMessage
from .properties import Properties
from .spec import METHODS, SPEC

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a connection has to close in good order before it is aborted."""

SILENT_MAX: Final = 3
"""Half heartbeat intervals without a byte from the broker after which the connection is lost: 1.5 to 2 intervals."""


class _Delegate(TwistedDelegate):  # type: ignore[misc]  # txamqp has no types
    """Handles requests of the broker that need more than txamqp does."""

    client: Connection

    def connection_start(self, ch: Any, msg: Any) -> None:
        properties = self.client.started_by(msg.server_properties, msg.mechanisms)
        if properties is None:
            return
        ch.connection_start_ok(
            client_properties=properties,
            mechanism=self.client.mechanism,
            response=self.client.response,
            locale=self.client.locale,
        )
        self.client.response = None  # it has the password, which is not kept

    def connection_tune(self, ch: Any, msg: Any) -> None:
        ch.connection_tune_ok(*self.client.tuned_by(msg.channel_max, msg.frame_max, msg.heartbeat))
        self.client.started.fire()

    def connection_blocked(self, ch: Any, msg: Any) -> None:
        self.client.set_blocked(True, str(msg.reason))

    def connection_unblocked(self, ch: Any, msg: Any) -> None:
        self.client.set_blocked(False)

    def basic_cancel(self, ch: Channel, msg: Any) -> None:
        ch.cancelled(msg.consumer_tag)

    def basic_nack(self, ch: Channel, msg: Any) -> None:
        ch.nacked(msg.delivery_tag, msg.multiple)


@implementer(IPushProducer)
class Connection(AMQClient):  # type: ignore[misc]  # txamqp has no types
    """A connection to a broker: a Twisted protocol. Connect it with any endpoint, then wait for :meth:`ready`.

    :param vhost: the virtual host.
    :param external: send no user and password: the broker reads the user from the client's TLS certificate.
    :param heartbeat: seconds; 0: none. The broker's proposal counts when it is shorter, or 0.
    :param clock: the reactor, for its time only.
    :param frame_max: the largest frame to accept, in bytes; the broker may propose less.
    :param channel_max: the most channels to open; 0: the default. The broker may propose fewer.
    :param connection_name: the name that the broker's tools show.
    :param body_max: the largest message to accept, in bytes.
    :param scheduler: shared by the connections of this process; None: one of its own.
    :ivar writer: sends the connection's frames.
    :ivar server_properties: what the broker tells about itself; empty before.
    :ivar blocked: whether the broker accepts no messages, because of a memory or disk alarm.
    :ivar paused: whether the transport's buffer is full.
    :ivar blocked_for: the broker's reason for *blocked*.
    :ivar on_blocked: called with the new value when *blocked* is set.
    :ivar on_writable: called when it changes whether what is written is sent now: neither *blocked* nor *paused*.
    """

    log = Logger()
    channelClass = Channel

    def __init__(
        self,
        *,
        vhost: str,
        username: str,
        password: str,
        clock: Clock,
        external: bool = False,
        heartbeat: int = 10,
        frame_max: int = FRAME_MAX,
        channel_max: int = CHANNEL_MAX,
        connection_name: str = "",
        body_max: int = BODY_MAX,
        scheduler: FlushScheduler | None = None,
    ) -> None:
        # txamqp's own heartbeat would move two timers per frame, so it stays off.
        super().__init__(_Delegate(), vhost, SPEC, heartbeat=0, clock=clock)
        self.frame_max = frame_max
        self.channel_max = channel_max or CHANNEL_MAX
        self.server_properties: dict[str, Any] = {}
        self._heartbeat_wanted = heartbeat
        self._heartbeat = Heartbeat(clock, self._send_heartbeat, self._broker_silent, SILENT_MAX)
        self._scheduler = scheduler or FlushScheduler(clock)
        self.writer = FrameWriter(self._scheduler, self._heartbeat)
        self.channels: dict[int, Channel]
        self.channels[0] = self.channelFactory(0, self.outgoing, self)
        self.blocked = False
        self.paused = False
        self.blocked_for = ""
        self.on_writable: Callable[[bool], None] | None = None
        self.on_blocked: Callable[[bool], None] | None = None
        self._handshake = ClientHandshake(external=external, connection_name=connection_name)
        self.mechanism = self._handshake.mechanism
        self.response: str | None = "" if external else f"\0{username}\0{password}"
        self._reader = FrameReader(
            self._method, self._content, lambda: None, frame_max=frame_max, body_max=body_max
        )
        self._aborting: Timer | None = None
        self._last_channel = 0
        self._reason: TxmicroError | None = None
        self._ready: Once[Connection] = Once()
        self._lost: Once[BaseException] = Once()

    # For its user.

    def ready(self) -> Deferred[Connection]:
        """Wait until the broker has accepted the connection.

        Fires with this object. Fails with :class:`AuthenticationFailed`, :class:`VhostError`, or another error
        that ended the connection. Canceling it aborts the connection.
        """
        if self._reason is not None:
            return fail(self._reason)
        return self._ready.wait(self.abort)

    def lost(self) -> Deferred[BaseException]:
        """Fire with the reason, an exception, when the connection is closed. Canceling it stops the wait."""
        return self._lost.wait()

    def channel_open(self) -> Deferred[Channel]:
        """Open a channel.

        Fires with it. Fails with :class:`NoChannelLeft`, or with the error that ended the connection or the
        channel. Canceling it closes the channel.
        """
        if self._reason is not None:
            return fail(self._reason)
        for _ in range(self.channel_max):
            # The next number, not the lowest: frames for a channel that was just closed may still arrive.
            self._last_channel = self._last_channel % self.channel_max + 1
            if self._last_channel not in self.channels:
                break
        else:
            return fail(NoChannelLeft(self.channel_max))
        channel = self.channelFactory(self._last_channel, self.outgoing, self)
        self.channels[channel.id] = channel
        opened: Deferred[Any] = channel.channel_open(out_of_band="0")
        return opened.addCallbacks(lambda _: channel, self._not_opened, errbackArgs=(channel,))

    def shutdown(self, timeout: float = CLOSE_TIMEOUT) -> Deferred[None]:
        """Close the connection; abort it when that takes longer than *timeout* seconds.

        Fires with None when the connection is closed, whatever the reason. Canceling it stops the wait.
        """
        if self._reason is None:
            self._reason = reason = ConnectionLost("closed by this side")
            self._abort_in(timeout)
            if self._handshake.done:
                self._send_close(reason)
            else:
                self._end(reason)
        return self._lost.wait().addCallback(lambda _: None)

    def abort(self) -> None:
        """Close the connection at once, and drop what is not sent yet."""
        self._end(ConnectionLost("aborted by this side"))
        self.transport.abortConnection()

    def flush(self) -> None:
        """Send what was written now, instead of at the end of this turn."""
        self.writer.flush()

    # For the transport.

    def connectionMade(self) -> None:
        """Send the protocol header."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(
                True
            )  # a turn's output is one write: waiting for more only delays it
        self.writer.start(self.transport)
        self.transport.registerProducer(self, True)
        self.writer.write(PROTOCOL_HEADER)
        opening: Deferred[Any] = self.start(self.response, self.mechanism)
        opening.addCallbacks(self._opened, lambda _: None)  # connectionLost reports a failure

    def dataReceived(self, data: bytes) -> None:
        """Read the next bytes of the stream."""
        if self.closed:
            return
        self._heartbeat.heard = True
        self._scheduler.read(self._feed, data)

    def _feed(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except FrameError as error:
            self._malformed(error)

    def connectionLost(self, reason: Failure) -> None:
        """Fail or fire every Deferred that waits for this connection."""
        error = lost_by(reason)
        if self._reason is None:
            error = self._handshake.explain(error)
        cause = self._fail(error)
        self.writer.stop()
        if self._aborting is not None and self._aborting.active():
            self._aborting.cancel()
        self.disconnected.fire()
        self._ready.happen(Failure(cause))
        self._lost.happen(cause)

    def pauseProducing(self) -> None:
        """Note that the transport's buffer is full."""
        self._set_writable(self.blocked, True)

    def resumeProducing(self) -> None:
        """Note that the transport's buffer has room."""
        self._set_writable(self.blocked, False)

    def stopProducing(self) -> None:
        """Do nothing: connectionLost follows."""

    # For the delegate and the channels.

    def started_by(self, server_properties: dict[str, Any], mechanisms: str) -> dict[str, Any] | None:
        """Return the client's properties for the answer to ``connection.start``.

        Returns None, and closes the connection, when the broker does not offer the client's SASL mechanism. So a
        password is sent only to a broker that asks for it in this way. Raises :class:`FrameError`.
        """
        self._handshake.advance("start", "tune")
        self.server_properties = server_properties
        refusal = self._handshake.refusal(mechanisms)
        if refusal is not None:
            self._end(refusal)
            return None
        return self._handshake.properties

    def tuned_by(self, channel_max: int, frame_max: int, heartbeat: int) -> Limits:
        """Return the answer to ``connection.tune``, and apply it. Raises :class:`FrameError`."""
        self._handshake.advance("tune", "open-ok")
        wanted = Limits(self.channel_max, self.frame_max, self._heartbeat_wanted)
        agreed = wanted.agree(channel_max, frame_max, heartbeat)
        self.channel_max = self._reader.channel_max = agreed.channel_max
        self.frame_max = self._reader.frame_max = agreed.frame_max
        self._heartbeat.start(agreed.heartbeat)
        return agreed

    def set_blocked(self, blocked: bool, reason: str = "") -> None:
        """Note that the broker accepts no messages for *reason*, or accepts them again."""
        self.blocked_for = reason
        self._set_writable(blocked, self.paused)
        if self.on_blocked is not None:
            self.on_blocked(blocked)

    def channel_failed(self, channel: Channel, _reason: TxmicroError) -> None:
        """Forget *channel*, which is closed."""
        self.channels.pop(channel.id, None)

    def do_close(self, reason: Message) -> None:
        """Close the connection: the broker sent ``connection.close``, and has its answer."""
        is_open = self._handshake.done
        self._end(connection_closed(reason.reply_code, reason.reply_text, is_open=is_open))

    # Inside: frames that arrive.

    def _method(self, number: int, frame: Any) -> None:
        if self._reason is not None and number:  # connection.close is sent
            return
        channel = self.channels.get(number)
        if channel is None:
            if isinstance(frame, ChannelMethods.CloseOk):  # both sides closed it at the same time
                return
            raise FrameError("frame for a channel that is not open", code=CHANNEL_ERROR, channel=number)
        if type(frame) is Ack:
            channel.acked(frame.delivery_tag, frame.multiple)
            return
        method = METHODS[frame.index]
        handler = f"{method.klass.name}_{method.name}".replace("-", "_")
        if (number == 0) != (method.klass.name == "connection") or not (
            method.response or hasattr(self.delegate, handler)
        ):
            raise FrameError(f"unexpected {frame.name} from the broker", code=COMMAND_INVALID, channel=number)
        message = Message(method, tuple(value for _, value in frame))
        if method.response:
            channel.replied(message)
        else:
            self.delegate.dispatch(channel, message)
        if isinstance(frame, ChannelMethods.CloseOk):
            channel.do_close(channel.reason)

    def _content(self, number: int, method: Any, properties: Properties, body: bytes) -> None:
        if self._reason is not None:
            return
        channel = self.channels.get(number)
        if channel is None:
            raise FrameError("message for a channel that is not open", code=CHANNEL_ERROR, channel=number)
        if type(method) is Deliver:
            channel.delivered(method, properties, body)
        elif isinstance(method, Basic.Return):
            channel.returned(method, properties, body)
        elif isinstance(method, Basic.GetOk):
            channel.fetched(method.delivery_tag or 0)
            content = IncomingMessage(method, properties, body)
            channel.replied(Message(METHODS[method.index], tuple(value for _, value in method), content))
        else:
            raise FrameError("unexpected basic.publish from the broker", code=COMMAND_INVALID, channel=number)

    # Inside: what is sent.

    def _send_heartbeat(self) -> None:
        self.transport.write(HEARTBEAT)

    def _set_writable(self, blocked: bool, paused: bool) -> None:
        before = self.blocked or self.paused
        self.blocked, self.paused = blocked, paused
        if before == (blocked or paused) or self.on_writable is None:
            return
        try:
            self.on_writable(before)
        except Exception:  # an error in a callback must not end the connection
            self.log.failure("The callback on_writable failed; the connection goes on", recurring=True)

    # Inside: how it begins and ends.

    def _opened(self, _reply: Any) -> None:
        self._handshake.done = True
        self._ready.happen(self)

    def _not_opened(self, reason: Failure, channel: Channel) -> Failure:
        if reason.check(CancelledError):
            channel.channel_close().addErrback(lambda _: None)
        return reason

    def _send_close(self, reason: TxmicroError) -> None:
        self.writer.write_acks()  # after the close, the broker would ignore them
        closing = self.channels[0].connection_close(reply_code=200)
        closing.addCallbacks(lambda _: self._end(reason), lambda _: None)
        for channel in self.channels.values():
            channel.reason = channel.reason or reason

    def _broker_silent(self, seconds: float) -> None:
        self._end(HeartbeatLost(f"the broker sent nothing, not even a heartbeat, for {seconds:g} s or more"))
        self.transport.abortConnection()

    def _malformed(self, error: FrameError) -> None:
        self.log.warn(
            "The broker violated the AMQP protocol, so the connection is closed: {error}", error=error
        )
        self.writer.write(method_frame(0, ConnectionMethods.Close(error.code, error.message[:250], 0, 0)))
        self._end(error)

    def _end(self, reason: TxmicroError) -> None:
        """Close the transport once it has sent what is written. Channels and waiting calls fail now."""
        if self.closed:
            return
        self._fail(reason)
        self.writer.flush()
        self._abort_in(CLOSE_TIMEOUT)
        self.transport.unregisterProducer()  # a paused producer would keep the transport open
        self.transport.loseConnection()

    def _fail(self, reason: TxmicroError) -> TxmicroError:
        """Read and send nothing from now on; return the first reason for which the connection ends."""
        cause = self._reason = self._reason or reason
        self.closed = True
        self.writer.close()
        self.response = None
        self._heartbeat.stop()
        self.started.fail_if_not_fired(cause)
        channels, self.channels = self.channels, {}
        for channel in channels.values():
            channel.do_close(cause)
        return cause

    def _abort_in(self, seconds: float) -> None:
        if self._aborting is None:
            self._aborting = self.clock.callLater(seconds, self.transport.abortConnection)
