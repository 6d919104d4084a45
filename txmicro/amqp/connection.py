"""A connection to a broker: txamqp's client with our reader and writer.

txamqp 0.8.2 gives the handshake, the generated methods, the dispatch of what the broker asks, and the order in
which things close. It decodes bodies as text when they happen to be UTF-8, measures text before it encodes it,
does not know all types of tables, sends no capabilities, knows no confirms, and copies its buffer and moves two
timers for every frame: reading, writing, calls, heartbeats and errors are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pamqp.commands import Basic
from pamqp.commands import Channel as ChannelMethods
from pamqp.commands import Connection as ConnectionMethods
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IPushProducer, ITCPTransport, IWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import TwistedDelegate
from txamqp.message import Message
from txamqp.protocol import AMQClient
from zope.interface import implementer

from txmicro._version import __version__
from txmicro.errors import TxmicroError
from txmicro.util.clock import Clock
from txmicro.util.once import Once

from .channel import Channel
from .errors import (
    ACCESS_REFUSED,
    CHANNEL_ERROR,
    COMMAND_INVALID,
    SYNTAX_ERROR,
    AuthenticationFailed,
    ConnectionLost,
    FrameError,
    HeartbeatLost,
    NoChannelLeft,
    TlsError,
    connection_closed,
    lost_by,
)
from .flush_scheduler import FlushScheduler
from .frame_reader import FrameReader
from .frames import BODY_MAX, FRAME_MAX, FRAME_MIN, HEARTBEAT, PROTOCOL_HEADER, method_frame
from .methods import Ack, Content, Deliver
from .properties import Properties
from .spec import METHODS, SPEC

CHANNEL_MAX: Final = 2047
"""The most channels we want on a connection: what RabbitMQ proposes."""

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a connection has to close in good order before it is aborted."""

CAPABILITIES: Final = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "exchange_exchange_bindings": True,
    "publisher_confirms": True,
}


class _Delegate(TwistedDelegate):  # type: ignore[misc]  # txamqp has no types
    """What to do when the broker asks something; txamqp answers the rest."""

    client: Connection

    def connection_start(self, ch: Any, msg: Any) -> None:
        self.client.advance("start", "tune")
        self.client.server_properties = msg.server_properties
        if not self.client.may_log_in(msg.mechanisms):
            return
        ch.connection_start_ok(
            client_properties=self.client.properties,
            mechanism=self.client.mechanism,
            response=self.client.response,
            locale=self.client.locale,
        )
        self.client.response = None  # a password: not kept

    def connection_tune(self, ch: Any, msg: Any) -> None:
        self.client.advance("tune", "open-ok")
        ch.connection_tune_ok(*self.client.tuned(msg.channel_max, msg.frame_max, msg.heartbeat))
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
    """One connection; connect it with any endpoint, then wait for :meth:`ready`.

    :param vhost: the virtual host.
    :param external: say no user and password: the broker has the user from our TLS certificate.
    :param heartbeat: seconds; 0: none. The broker's wish counts when it is shorter, or 0.
    :param clock: the reactor, as far as time goes.
    :param frame_max: the largest frame we take, in bytes; the broker may want them smaller.
    :param channel_max: the most channels we want to open; 0: the default. The broker may want fewer.
    :param connection_name: what the broker's own tools show.
    :param body_max: the largest message we take, in bytes.
    :param turn: what the connections of this process share; None: one of its own.
    :ivar server_properties: what the broker says about itself, once it has.
    :ivar blocked: the broker takes nothing, for it lacks memory or disk space.
    :ivar paused: the transport takes nothing, for its buffer is full.
    :ivar blocked_for: the broker's words for why.
    :ivar on_blocked: called when the broker says that it takes nothing, or takes again.
    :ivar on_writable: called when it changes whether what is written goes out now: neither blocked nor paused.
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
        turn: FlushScheduler | None = None,
    ) -> None:
        # txamqp's own heartbeat would move two timers per frame, so it stays off.
        super().__init__(_Delegate(), vhost, SPEC, heartbeat=0, clock=clock)
        self.heartbeatInterval = heartbeat
        self.frame_max = frame_max
        self.channel_max = channel_max or CHANNEL_MAX
        self.properties = {
            "product": "txmicro",
            "version": __version__,
            "platform": "Python",
            "capabilities": CAPABILITIES,
            **({"connection_name": connection_name} if connection_name else {}),
        }
        self.server_properties: dict[str, Any] = {}
        self.channels: dict[int, Channel]
        self.channels[0] = self.channelFactory(0, self.outgoing, self)
        self.blocked = False
        self.paused = False
        self.blocked_for = ""
        self.on_writable: Callable[[bool], None] | None = None
        self.on_blocked: Callable[[bool], None] | None = None
        self.mechanism = "EXTERNAL" if external else "PLAIN"
        self.response: str | None = "" if external else f"\0{username}\0{password}"
        self._stage = "start"  # what the broker says next; empty: anything, the connection is open
        self._reader = FrameReader(
            self._method, self._content, lambda: None, frame_max=frame_max, body_max=body_max
        )
        self._out: list[bytes] = []
        self._acking: list[Channel] = []
        self._turn = turn or FlushScheduler(clock)
        self._due = False  # whether the turn's end flushes
        self._direct = False  # whether the transport can send at once
        self._beating: Any = None  # calls that the clock holds
        self._aborting: Any = None
        self._wrote = self._heard = False
        self._silence = 0
        self._last_channel = 0
        self._reason: TxmicroError | None = None
        self._ready: Once[Connection] = Once()
        self._lost: Once[BaseException] = Once()

    # What its user calls.

    def ready(self) -> Deferred[Connection]:
        """Wait until the broker has let us in.

        Fires with this client. Fails with :class:`AuthenticationFailed`, :class:`VhostError`, or what else
        ended the connection. Cancelling it aborts the connection.
        """
        if self._reason is not None:
            return fail(self._reason)
        return self._ready.wait(self.abort)

    def lost(self) -> Deferred[BaseException]:
        """Fires with the reason, an exception, when the connection is gone. Cancelling it stops the wait."""
        return self._lost.wait()

    def channel_open(self) -> Deferred[Channel]:
        """Open a channel.

        Fires with it; fails with :class:`NoChannelLeft` or what ended the connection. Cancelling it closes the
        channel.
        """
        if self._reason is not None:
            return fail(self._reason)
        for _ in range(self.channel_max):
            # The next number, not the lowest: the last words for a channel that is gone may be on their way.
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
        """Close the connection; it is aborted when that takes longer than *timeout* seconds.

        Fires with None when the connection is gone, however it went. Cancelling it stops the wait.
        """
        if self._reason is None:
            self._reason = reason = ConnectionLost("closed by this side")
            self._abort_in(timeout)
            if self._stage:
                self._end(reason)
            else:
                self._say_good_bye(reason)
        return self._lost.wait().addCallback(lambda _: None)

    def abort(self) -> None:
        """Drop the connection, and what is unsent with it."""
        self._end(ConnectionLost("aborted by this side"))
        self.transport.abortConnection()

    def write(self, data: bytes) -> None:
        """Send *data*, whole frames, together with all that is written in this turn of the reactor."""
        self._out.append(data)
        if not self._due:
            self._flush_later()

    def acks_due(self, channel: Channel) -> None:
        """*channel* has acknowledgements to write, at the end of this turn."""
        self._acking.append(channel)
        if not self._due:
            self._flush_later()

    def flush(self) -> None:
        """Hand what was written to the transport now, instead of at the end of this turn."""
        self._turn.cancel(self._flush)
        self._flush()

    # What the transport calls.

    def connectionMade(self) -> None:
        """Introduce ourselves."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # a turn's output is one write: nothing is worth waiting for
        self._direct = IWriteDescriptor.providedBy(self.transport)
        self.transport.registerProducer(self, True)
        self.write(PROTOCOL_HEADER)
        opening: Deferred[Any] = self.start(self.response, self.mechanism)
        opening.addCallbacks(self._opened, lambda _: None)  # a failure is told by connectionLost

    def dataReceived(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self.closed:
            return
        self._heard = True
        self._turn.read(self._feed, data)

    def _feed(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except FrameError as error:
            self._malformed(error)

    def connectionLost(self, reason: Failure) -> None:
        """Tell everybody who waits for something."""
        error = lost_by(reason)
        if self._reason is None and self._stage == "tune" and not isinstance(error, TlsError):
            error = AuthenticationFailed(ACCESS_REFUSED, "the broker hung up at our credentials")
        cause = self._fail(error)
        self._out.clear()
        self._turn.cancel(self._flush)
        _stop(self._aborting)
        self.disconnected.fire()
        self._ready.happen(Failure(cause))
        self._lost.happen(cause)

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._set_writable(self.blocked, True)

    def resumeProducing(self) -> None:
        """The transport's buffer has room."""
        self._set_writable(self.blocked, False)

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost says more."""

    # What the delegate and the channels call.

    def advance(self, now: str, then: str) -> None:
        """The handshake goes on, if what came is what was due; else it raises :class:`FrameError`."""
        if self._stage != now:
            raise FrameError(f"connection.{now} at the wrong moment", code=COMMAND_INVALID)
        self._stage = then

    def may_log_in(self, offered: str) -> bool:
        """Whether the broker takes what we have to say of us; if not, this is the end, and no password is told."""
        if self.mechanism in offered.split():
            return True
        self._end(AuthenticationFailed(ACCESS_REFUSED, f"the broker offers {offered}, not {self.mechanism}"))
        return False

    def tuned(self, channel_max: int, frame_max: int, heartbeat: int) -> tuple[int, int, int]:
        """Agree with what the broker wants; gives the answer."""
        if 0 < frame_max < FRAME_MIN:
            raise FrameError(f"frames of at most {frame_max} bytes", code=SYNTAX_ERROR)
        self.channel_max = self._reader.channel_max = min(channel_max or CHANNEL_MAX, self.channel_max)
        self.frame_max = self._reader.frame_max = min(frame_max or self.frame_max, self.frame_max)
        self.heartbeatInterval = min(heartbeat, self.heartbeatInterval)
        if self.heartbeatInterval:
            self._beating = self.clock.callLater(self.heartbeatInterval / 2, self._beat)
        return self.channel_max, self.frame_max, self.heartbeatInterval

    def set_blocked(self, blocked: bool, reason: str = "") -> None:
        """The broker takes nothing, for *reason*, or takes again."""
        self.blocked_for = reason
        self._set_writable(blocked, self.paused)
        if self.on_blocked is not None:
            self.on_blocked(blocked)

    def channel_failed(self, channel: Channel, _reason: TxmicroError) -> None:
        """A channel is gone."""
        self.channels.pop(channel.id, None)

    def do_close(self, reason: Message) -> None:
        """The broker has closed the connection, and has its answer."""
        self._end(connection_closed(reason.reply_code, reason.reply_text, is_open=not self._stage))

    # Inside.

    def _say_good_bye(self, reason: TxmicroError) -> None:
        self._write_acks()  # after it they would come too late
        closing = self.channels[0].connection_close(reply_code=200)
        closing.addCallbacks(lambda _: self._end(reason), lambda _: None)
        for channel in self.channels.values():
            channel.reason = channel.reason or reason

    def _opened(self, _reply: Any) -> None:
        self._stage = ""
        self._ready.happen(self)

    def _not_opened(self, reason: Failure, channel: Channel) -> Failure:
        if reason.check(CancelledError):
            channel.channel_close().addErrback(lambda _: None)
        return reason

    def _method(self, number: int, frame: Any) -> None:
        if self._reason is not None and number:  # we have said good-bye
            return
        channel = self.channels.get(number)
        if channel is None:
            if isinstance(frame, ChannelMethods.CloseOk):  # both sides closed it at once
                return
            raise FrameError("a channel that is not open", code=CHANNEL_ERROR, channel=number)
        if type(frame) is Ack:
            channel.acked(frame.delivery_tag, frame.multiple)
            return
        method = METHODS[frame.index]
        handler = f"{method.klass.name}_{method.name}".replace("-", "_")
        if (number == 0) != (method.klass.name == "connection") or not (
            method.response or hasattr(self.delegate, handler)
        ):
            raise FrameError(f"{frame.name} from a broker", code=COMMAND_INVALID, channel=number)
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
            raise FrameError("a channel that is not open", code=CHANNEL_ERROR, channel=number)
        if type(method) is Deliver:
            channel.delivered(method, properties, body)
        elif isinstance(method, Basic.Return):
            channel.returned(method, properties, body)
        elif isinstance(method, Basic.GetOk):
            channel.fetched(method.delivery_tag or 0)
            content = Content(method, properties, body)
            channel.replied(Message(METHODS[method.index], tuple(value for _, value in method), content))
        else:
            raise FrameError("basic.publish from a broker", code=COMMAND_INVALID, channel=number)

    def _flush_later(self) -> None:
        self._due = True
        self._turn.schedule(self._flush)

    def _write_acks(self) -> None:
        for channel in self._acking:
            channel.write_acks()
        self._acking.clear()

    def _flush(self) -> None:
        self._write_acks()
        self._due = False
        if self._out:
            out, self._out = self._out, []
            self._wrote = True
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            if self._direct and not self.closed:
                # The reactor would do so one round later. If it fails, the reactor will find that out, too. But it
                # must see itself the end of what is written last, as it closes the transport then.
                self.transport.doWrite()

    def _beat(self) -> None:
        """Twice per interval: speak if we were silent, give up before the broker was for two intervals.

        Counted in calls, not in seconds: when this process was stuck, what the broker sent is still unread. The
        broker speaks between any two of them; three without a word are 1.5 to 2 intervals.
        """
        self._silence = 0 if self._heard else self._silence + 1
        if self._silence >= 3:
            self._end(HeartbeatLost(f"nothing heard for {1.5 * self.heartbeatInterval:g} s or more"))
            self.transport.abortConnection()
            return
        silent = not self._wrote
        self._heard = self._wrote = False
        self._beating = self.clock.callLater(self.heartbeatInterval / 2, self._beat)
        if silent:
            self.transport.write(HEARTBEAT)

    def _set_writable(self, blocked: bool, paused: bool) -> None:
        before = self.blocked or self.paused
        self.blocked, self.paused = blocked, paused
        if before == (blocked or paused) or self.on_writable is None:
            return
        try:
            self.on_writable(before)
        except Exception:  # the stream goes on, whatever a callback does
            self.log.failure("on_writable failed", recurring=True)

    def _malformed(self, error: FrameError) -> None:
        self.log.warn("the broker broke the protocol: {error}", error=error)
        self.write(method_frame(0, ConnectionMethods.Close(error.code, error.message[:250], 0, 0)))
        self._end(error)

    def _end(self, reason: TxmicroError) -> None:
        """Let the transport send what is written, and close it. Everybody hears now that it is over."""
        if self.closed:
            return
        self._fail(reason)
        self.flush()
        self._abort_in(CLOSE_TIMEOUT)
        self.transport.unregisterProducer()  # a paused producer would keep the transport open
        self.transport.loseConnection()

    def _fail(self, reason: TxmicroError) -> TxmicroError:
        """Nothing is read or sent from now on; gives the first reason there was."""
        cause = self._reason = self._reason or reason
        self.closed = True
        self.response = None
        _stop(self._beating)
        self.started.fail_if_not_fired(cause)
        channels, self.channels = self.channels, {}
        for channel in channels.values():
            channel.do_close(cause)
        return cause

    def _abort_in(self, seconds: float) -> None:
        if self._aborting is None:
            self._aborting = self.clock.callLater(seconds, self.transport.abortConnection)


def _stop(call: Any) -> None:
    """Cancel *call* of a clock, if there is one and it has not been made."""
    if call is not None and call.active():
        call.cancel()
