"""A channel of a connection to a broker: consuming, publishing, and what txamqp generates for the rest."""

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

    Every method of AMQP is here by its name, as txamqp generates it: ``channel.queue_declare(queue="q")``. Its
    Deferred fires with the broker's reply, fields as attributes (``reply.message_count``); it fails with
    :class:`ChannelClosed` or a :class:`ConnectionLost` that ended the channel, or with
    :class:`InvalidArgument`. Cancelling it stops the wait; the broker does what it was told.

    :ivar on_return: called with the ``basic.return``, the properties and the body of a message of
        :meth:`publish` that had no queue.
    :ivar reason: why nothing can be sent any more; None: it can.
    """

    log = Logger()

    def __init__(self, id: int, outgoing: Any, client: Any) -> None:
        super().__init__(id, outgoing, client)
        self.closed: bool
        self.reason: TxmicroError | None = None
        self.on_return: OnReturn | None = None
        self._calls: deque[tuple[Any, Deferred[Any]]] = deque()
        self._consumers: dict[str, _Consumer] = {}
        self._tags = 0
        self._deliveries = Deliveries()
        self._confirms: Confirms | None = None
        self._lost: Once[BaseException] = Once()

    def lost(self) -> Deferred[BaseException]:
        """Fires with the reason, an exception, when the channel is gone. Cancelling it stops the wait."""
        return self._lost.wait()

    def channel_close(self, reply_code: int = 200, reply_text: str = "") -> Deferred[None]:
        """Close the channel. From now on nothing can be sent on it.

        Fires with None when the broker knows. Cancelling it stops the wait.
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
        """Have *callback* called with every message of *queue*; what it raises is logged.

        :param on_cancel: called when the broker ends it, for instance because the queue is gone.

        Fires with the consumer's tag; fails as any method of AMQP. When it is cancelled, messages that the
        broker delivers all the same stay unacknowledged until the channel closes.
        """
        self._tags += 1
        tag = f"c{self._tags}"
        self._consumers[tag] = _Consumer(no_ack, callback, on_cancel)
        consuming: Deferred[Any] = self.basic_consume(
            queue=queue, consumer_tag=tag, no_ack=no_ack, exclusive=exclusive, arguments=arguments or {}
        )
        return consuming.addCallbacks(lambda _: tag, self._not_consuming, errbackArgs=(tag,))

    def cancel(self, tag: str) -> Deferred[None]:
        """End the consumer *tag*; its callback may be called until the Deferred fires with None."""

        def drained(_: object) -> None:
            self._consumers.pop(tag, None)

        # RabbitMQ's channel confirms the cancel before it hands on what its queue had sent it until then, and that
        # before it looks at the next method: one that changes nothing.
        cancelling: Deferred[Any] = self.basic_cancel(consumer_tag=tag)
        return cancelling.addCallback(lambda _: self.channel_flow(active=True)).addCallback(drained)

    def ack(self, delivery_tag: int) -> None:
        """The message is done. Nothing happens when the channel is gone: the broker has it back.

        The broker hears of it at the end of this turn of the reactor, with all that are done by then.
        """
        if self.reason is None and self._deliveries.done(delivery_tag):
            self.client.acks_due(self)

    def reject(self, delivery_tag: int, requeue: bool) -> None:
        """Give the message back to its queue, or (not *requeue*) to its dead letters. As :meth:`ack`."""
        if self.reason is None:
            self._deliveries.rejected(delivery_tag)
            self.write_acks()
            self.client.write(reject_frame(self.id, delivery_tag, requeue))

    # Publishing.

    def publisher(self, exchange: str, routing_key: str, mandatory: bool = False) -> bytes:
        """What :meth:`publish` needs for one destination; raises :class:`InvalidArgument`."""
        return publish_prefix(self.id, exchange, routing_key, mandatory)

    def publish(self, prefix: bytes, properties: bytes, body: bytes) -> None:
        """Publish a message.

        :param prefix: made by this channel's :meth:`publisher`.
        :param properties: :meth:`Properties.encode`.

        Raises what ended the channel, or :class:`InvalidArgument` when the properties do not fit into a frame.
        """
        if self.reason is not None:
            raise self.reason
        self.client.write(self._frames(prefix, properties, body))
        if self._confirms is not None:
            self._confirms.skip()

    def confirm_select(self) -> Deferred[Any]:
        """Put the channel into confirm mode, before :meth:`publish_confirmed`."""
        if self._confirms is None:
            self._confirms = Confirms()
        selected: Deferred[Any] = super().confirm_select()
        return selected

    def publish_confirmed(
        self, prefix: bytes, properties: bytes, body: bytes, message_id: str
    ) -> Deferred[None]:
        """Publish a message and hear what becomes of it; the channel is in confirm mode.

        :param message_id: the one in *properties*, by which a returned message is recognized.

        Fires with None when the broker has taken responsibility. Fails with :class:`NackError` when it has
        not, with :class:`Returned` when the message is mandatory and had no queue, and as :meth:`publish`. Fails
        with :class:`ReturnUnclear`, or with what ended the channel, when nobody knows. Cancelling it stops the wait.
        """
        if self.reason is not None:
            return fail(self.reason)
        if self._confirms is None:
            return fail(InvalidArgument("a channel that is not in confirm mode"))
        try:
            self.client.write(self._frames(prefix, properties, body))
        except InvalidArgument:
            return fail()
        return self._confirms.published(Identity(prefix, message_id))

    def _frames(self, prefix: bytes, properties: bytes, body: bytes) -> bytes:
        if len(properties) > self.client.frame_max - HEADER_OVERHEAD:
            raise InvalidArgument(f"properties of {len(properties)} bytes: they do not fit into a frame")
        return content_frames(self.id, prefix, properties, body, self.client.frame_max)

    # What txamqp calls.

    def invoke(self, method: Any, args: tuple[Any, ...], _content: None = None) -> Deferred[Any]:
        """Send one of txamqp's generated methods; what needs no answer is dropped on a closed channel."""
        if self.reason is not None and method.responses:
            return fail(self.reason)
        if self.closed:
            return succeed(None)
        if method.content:
            return fail(InvalidArgument("messages go by publish()"))
        kind: type[Frame] = INDEX_MAPPING[index_of(method)]
        frame = kind.__new__(kind)
        for name, value in zip(kind.attributes(), args, strict=True):
            setattr(frame, name, value)
        try:
            data = method_frame(self.id, frame)
        except InvalidArgument:
            return fail()
        if len(data) > self.client.frame_max:
            return fail(InvalidArgument(f"{frame.name} of {len(data)} bytes: it does not fit into a frame"))
        self.write_acks()
        self.client.write(data)
        if not method.responses or getattr(frame, "nowait", False):
            return succeed(None)
        answer: Deferred[Any] = Deferred()
        self._calls.append((method, answer))
        return answer

    def do_close(self, reason: TxmicroError | Message) -> None:
        """The channel is gone, by the broker's ``channel.close`` or for *reason*."""
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

    # What the client calls.

    def replied(self, reply: Message) -> None:
        """The broker answered the oldest call; raises :class:`FrameError` when it answered something else."""
        if not self._calls or reply.method not in self._calls[0][0].responses:
            raise FrameError(f"{reply.method.name} answers nothing", code=COMMAND_INVALID, channel=self.id)
        self._calls.popleft()[1].callback(reply)

    def delivered(self, deliver: Deliver, properties: Properties, body: bytes) -> None:
        """A message for a consumer; without one it stays unacknowledged, until the channel closes."""
        consumer = self._consumers.get(deliver.consumer_tag)
        if consumer is None or not consumer.no_ack:
            self._deliveries.arrived(deliver.delivery_tag)
        if consumer is not None:
            try:
                consumer.on_message(deliver, properties, body)
            except Exception:  # as in _call, which would cost every message
                self._callback_failed()

    def fetched(self, delivery_tag: int) -> None:
        """A message that ``basic_get`` fetches; it may want no acknowledgement, but nobody else's shall cover it."""
        self._deliveries.arrived(delivery_tag)

    def write_acks(self) -> None:
        """Tell the broker of the messages that are done."""
        if self.reason is None:
            for tag, multiple in self._deliveries.take():
                self.client.write(ack_frame(self.id, tag, multiple))

    def returned(self, method: Any, properties: Properties, body: bytes) -> None:
        """A message of ours that had no queue."""
        if self._confirms is not None:
            prefix = publish_prefix(self.id, method.exchange, method.routing_key, True)
            error = Returned(method.reply_code, method.reply_text, method.exchange, method.routing_key)
            if self._confirms.returned(Identity(prefix, properties.message_id or ""), error):
                return
        if self.on_return is not None:
            self._call(self.on_return, method, properties, body)

    def acked(self, number: int, multiple: bool) -> None:
        """The broker confirmed messages of ours."""
        if self._confirms is not None:
            self._confirms.acked(number, multiple)

    def nacked(self, number: int, multiple: bool) -> None:
        """The broker refused messages of ours."""
        if self._confirms is not None:
            self._confirms.nacked(number, multiple)

    def cancelled(self, tag: str) -> None:
        """The broker ended a consumer."""
        consumer = self._consumers.pop(tag, None)
        if consumer is not None:
            self._call(consumer.on_cancel)

    def _call(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            callback(*args)
        except Exception:  # the stream goes on, whatever a callback does
            self._callback_failed()

    def _callback_failed(self) -> None:
        self.log.failure("a callback of channel {channel} failed", channel=self.id, recurring=True)

    def _not_consuming(self, reason: Failure, tag: str) -> Failure:
        self._consumers.pop(tag, None)
        return reason
