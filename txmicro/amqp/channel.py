"""A channel of a connection to a broker: consuming, publishing, and the methods that txamqp generates."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from pamqp.base import Frame
from pamqp.commands import INDEX_MAPPING
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.message import Message
from txamqp.protocol import AMQChannel

from txmicro.errors import TxmicroError
from txmicro.util.once import Once

from .confirms import Confirms, Identity
from .deliveries import Deliveries
from .errors import COMMAND_INVALID, ChannelClosed, FrameError, InvalidArgument, Returned, closed_by
from .frame_writer import FrameWriter
from .frames import HEADER_OVERHEAD, ack_frame, content_frames, method_frame, publish_prefix, reject_frame
from .methods import Deliver
from .properties import Properties
from .spec import index_of

OnMessage = Callable[[Deliver, Properties, bytes], None]
OnReturn = Callable[[Any, Properties, bytes], None]


class _Consumer(NamedTuple):
    no_ack: bool
    on_message: OnMessage
    on_cancel: Callable[[], None]


class Channel(AMQChannel):  # type: ignore[misc]  # txamqp has no types
    """A channel; :meth:`Connection.channel_open` makes it.

    It has every method of AMQP by its name, as txamqp generates them: ``channel.queue_declare(queue="q")``. The
    Deferred of such a method fires with the broker's reply, whose fields are attributes (``reply.message_count``).
    It fails with :class:`InvalidArgument`, or with the :class:`ChannelClosed` or :class:`ConnectionLost` that ended
    the channel. Canceling it stops the wait; the broker still does what the method asks for.

    :ivar on_return: called when the broker returns a message of :meth:`publish` because there is no queue for it,
        with the ``basic.return``, the properties and the body.
    :ivar reason: why nothing can be sent any more; None while the channel is open.
    """

    log = Logger()

    def __init__(self, id: int, outgoing: Any, client: Any) -> None:
        super().__init__(id, outgoing, client)
        self.closed: bool
        self._writer: FrameWriter = client.writer
        self.reason: TxmicroError | None = None
        self.on_return: OnReturn | None = None
        self._calls: deque[tuple[Any, Deferred[Any]]] = deque()
        self._consumers: dict[str, _Consumer] = {}
        self._tags = 0
        self._deliveries = Deliveries()
        self._confirms: Confirms | None = None
        self._lost: Once[BaseException] = Once()

    def lost(self) -> Deferred[BaseException]:
        """Fire with the reason, an exception, when the channel is closed. Canceling it stops the wait."""
        return self._lost.wait()

    def channel_close(self, reply_code: int = 200, reply_text: str = "") -> Deferred[None]:
        """Close the channel. Nothing can be sent on it from now on.

        Fires with None when the broker has confirmed the close. Fails with the error that ended the channel before.
        Canceling it stops the wait.
        """
        closed: Deferred[Any] = super().channel_close(reply_code=reply_code, reply_text=reply_text)
        if self.reason is None:
            self.reason = ChannelClosed(reply_code, reply_text or "closed by this side")
            self._consumers.clear()
        return closed.addCallback(lambda _: None)

    # Consuming.

    def consume(
        self,
        queue: str,
        callback: OnMessage,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: dict[str, Any] | None = None,
        on_cancel: Callable[[], None] = lambda: None,
    ) -> Deferred[str]:
        """Call *callback* with every message of *queue*. An exception that it raises is logged.

        :param no_ack: whether the broker expects no acknowledgements.
        :param exclusive: whether the broker refuses other consumers of the queue.
        :param arguments: for the broker, such as ``x-priority``.
        :param on_cancel: called when the broker ends the consumer, for instance because the queue was deleted.

        Fires with the consumer's tag. Fails like any method of AMQP. Canceling it stops the wait and forgets the
        callback; messages that the broker still delivers stay unacknowledged until the channel closes.
        """
        self._tags += 1
        tag = f"c{self._tags}"
        self._consumers[tag] = _Consumer(no_ack, callback, on_cancel)
        consuming: Deferred[Any] = self.basic_consume(
            queue=queue, consumer_tag=tag, no_ack=no_ack, exclusive=exclusive, arguments=arguments or {}
        )
        return consuming.addCallbacks(lambda _: tag, self._not_consuming, errbackArgs=(tag,))

    def cancel(self, tag: str) -> Deferred[None]:
        """End the consumer *tag*.

        Fires with None when no more messages can arrive; until then the callback may be called. Fails like any
        method of AMQP. Canceling it stops the wait.
        """

        def drained(_: object) -> None:
            self._consumers.pop(tag, None)

        # RabbitMQ's channel confirms the cancel before it passes on what its queue had sent it until then. It does so
        # before it handles the next method. So channel.flow, which changes nothing, is answered after the last message.
        cancelling: Deferred[Any] = self.basic_cancel(consumer_tag=tag)
        return cancelling.addCallback(lambda _: self.channel_flow(active=True)).addCallback(drained)

    def ack(self, delivery_tag: int) -> None:
        """Acknowledge a message. Do nothing when the channel is closed: the broker has requeued the message.

        Acknowledgements are sent at the end of this turn of the reactor, together.
        """
        if self.reason is None and self._deliveries.done(delivery_tag):
            self._writer.write_acks_later(self)

    def reject(self, delivery_tag: int, requeue: bool) -> None:
        """Return a message to its queue, or move it to the dead letters when not *requeue*.

        Does nothing when the channel is closed.
        """
        if self.reason is None:
            self._deliveries.rejected(delivery_tag)
            self.write_acks()
            self._writer.write(reject_frame(self.id, delivery_tag, requeue))

    # Publishing.

    def publisher(self, exchange: str, routing_key: str, mandatory: bool = False) -> bytes:
        """Return the encoded ``basic.publish`` that :meth:`publish` needs for one destination.

        Raises :class:`InvalidArgument`.
        """
        return publish_prefix(self.id, exchange, routing_key, mandatory)

    def publish(self, prefix: bytes, properties: bytes, body: bytes) -> None:
        """Publish a message.

        :param prefix: from this channel's :meth:`publisher`.
        :param properties: from :meth:`Properties.encode`.

        Raises the error that ended the channel, or :class:`InvalidArgument` when the properties do not fit into a
        frame.
        """
        if self.reason is not None:
            raise self.reason
        self._writer.write(self._frames(prefix, properties, body))
        if self._confirms is not None:
            self._confirms.skip()

    def confirm_select(self) -> Deferred[Any]:
        """Put the channel into confirm mode, which :meth:`publish_confirmed` needs.

        Fires with the broker's reply. Fails and can be canceled like any method of AMQP.
        """
        if self._confirms is None:
            self._confirms = Confirms()
        selected: Deferred[Any] = super().confirm_select()
        return selected

    def publish_confirmed(
        self, prefix: bytes, properties: bytes, body: bytes, message_id: str
    ) -> Deferred[None]:
        """Publish a message on a channel in confirm mode.

        :param message_id: the one in *properties*, by which a returned message is recognized.

        Fires with None when the broker has taken responsibility for the message. Fails with :class:`NackError` when
        the broker refuses it, with :class:`Returned` when it is mandatory and there is no queue for it, and with
        the errors of :meth:`publish`. Fails with :class:`ReturnUnclear`, or with the error that ended the channel,
        when it is not known whether the broker has the message. Canceling it stops the wait.
        """
        if self.reason is not None:
            return fail(self.reason)
        if self._confirms is None:
            return fail(InvalidArgument("the channel is not in confirm mode: call confirm_select() first"))
        try:
            self._writer.write(self._frames(prefix, properties, body))
        except InvalidArgument:
            return fail()
        return self._confirms.published(Identity(prefix, message_id))

    def _frames(self, prefix: bytes, properties: bytes, body: bytes) -> bytes:
        if len(properties) > self.client.frame_max - HEADER_OVERHEAD:
            raise InvalidArgument(
                f"the properties have {len(properties)} bytes; "
                f"a frame has room for {self.client.frame_max - HEADER_OVERHEAD}"
            )
        return content_frames(self.id, prefix, properties, body, self.client.frame_max)

    # For txamqp.

    def invoke(self, method: Any, args: tuple[Any, ...], _content: None = None) -> Deferred[Any]:
        """Send one of txamqp's generated methods. On a closed channel, drop a method that has no reply."""
        if self.reason is not None and method.responses:
            return fail(self.reason)
        if self.closed:
            return succeed(None)
        if method.content:
            return fail(InvalidArgument("basic_publish is not supported: use publish()"))
        kind: type[Frame] = INDEX_MAPPING[index_of(method)]
        frame = kind.__new__(kind)
        for name, value in zip(kind.attributes(), args, strict=True):
            setattr(frame, name, value)
        try:
            data = method_frame(self.id, frame)
        except InvalidArgument:
            return fail()
        if len(data) > self.client.frame_max:
            return fail(
                InvalidArgument(
                    f"{frame.name} has {len(data)} bytes; a frame may have {self.client.frame_max}"
                )
            )
        self.write_acks()
        self._writer.write(data)
        if not method.responses or getattr(frame, "nowait", False):
            return succeed(None)
        answer: Deferred[Any] = Deferred()
        self._calls.append((method, answer))
        return answer

    def do_close(self, reason: TxmicroError | Message) -> None:
        """Fail all calls: the channel is closed, by the broker's ``channel.close`` or for *reason*."""
        self.closed = True
        if isinstance(reason, Message):
            method = reason.class_id << 16 | reason.method_id
            reason = closed_by(reason.reply_code, reason.reply_text, method)
        self.reason = reason
        self.client.channel_failed(self, reason)
        self._consumers.clear()
        calls, self._calls = self._calls, deque()
        for _, answer in calls:
            answer.errback(reason)
        if self._confirms is not None:
            self._confirms.lost(reason)
        self._lost.happen(reason)

    # For the connection.

    def replied(self, reply: Message) -> None:
        """Fire the Deferred of the oldest call; raise :class:`FrameError` when it expects another reply.

        RabbitMQ has the queue confirm that a consumer is canceled. Replies to later calls may overtake that.
        """
        for position, (method, answer) in enumerate(self._calls):
            if reply.method in method.responses:
                del self._calls[position]
                answer.callback(reply)
                return
            if method.name != "cancel":
                break
        raise FrameError(f"unexpected reply {reply.method.name}", code=COMMAND_INVALID, channel=self.id)

    def delivered(self, deliver: Deliver, properties: Properties, body: bytes) -> None:
        """Pass a message to its consumer. Without a consumer it stays unacknowledged until the channel closes."""
        consumer = self._consumers.get(deliver.consumer_tag)
        if consumer is None or not consumer.no_ack:
            self._deliveries.arrived(deliver.delivery_tag)
        if consumer is not None:
            try:
                consumer.on_message(deliver, properties, body)
            except Exception:  # as in _call; a call of it for every message would cost time
                self._callback_failed()

    def fetched(self, delivery_tag: int) -> None:
        """Note the message of a ``basic.get-ok``, so that no other acknowledgement includes it."""
        self._deliveries.arrived(delivery_tag)

    def write_acks(self) -> None:
        """Write the acknowledgements that are due."""
        if self.reason is None:
            for tag, multiple in self._deliveries.take():
                self._writer.write(ack_frame(self.id, tag, multiple))

    def returned(self, method: Any, properties: Properties, body: bytes) -> None:
        """Note that the broker returned a message, because there is no queue for it."""
        if self._confirms is not None:
            prefix = publish_prefix(self.id, method.exchange, method.routing_key, True)
            error = Returned(method.reply_code, method.reply_text, method.exchange, method.routing_key)
            if self._confirms.returned(Identity(prefix, properties.message_id or ""), error):
                return
        if self.on_return is not None:
            self._call(self.on_return, method, properties, body)

    def acked(self, number: int, multiple: bool) -> None:
        """Note that the broker confirmed messages."""
        if self._confirms is not None:
            self._confirms.acked(number, multiple)

    def nacked(self, number: int, multiple: bool) -> None:
        """Note that the broker refused messages."""
        if self._confirms is not None:
            self._confirms.nacked(number, multiple)

    def cancelled(self, tag: str) -> None:
        """Note that the broker ended a consumer."""
        consumer = self._consumers.pop(tag, None)
        if consumer is not None:
            self._call(consumer.on_cancel)

    def _call(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            callback(*args)
        except Exception:  # an error in a callback must not end the connection
            self._callback_failed()

    def _callback_failed(self) -> None:
        self.log.failure(
            "A callback of channel {channel} failed; the channel goes on", channel=self.id, recurring=True
        )

    def _not_consuming(self, reason: Failure, tag: str) -> Failure:
        self._consumers.pop(tag, None)
        return reason
