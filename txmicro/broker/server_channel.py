"""A client's channel at the broker: it translates methods to the model's channel, and deliveries to frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pamqp import base
from pamqp.commands import Basic, Confirm, Exchange, Queue, Tx
from pamqp.commands import Channel as ChannelMethods

from txmicro.amqp.frames import ack_frame, content_frames, deliver_frame, method_frame
from txmicro.amqp.methods import Ack, Deliver, Publish
from txmicro.amqp.properties import Properties

from .errors import Refused, Unsupported
from .handshake import ServerHandshake
from .messages import Message
from .model import Model, Outcome
from .output_buffer import OutputBuffer
from .properties import split_copies, with_headers
from .sessions import ModelChannel, ModelSession

_NO_ROUTE: Final = (312, "NO_ROUTE")


class ServerChannel:
    """A client's channel.

    :param number: the number of the channel.
    :param handshake: has the client's user and capabilities, and the largest frame.
    :ivar closing: whether the broker has closed the channel and the client has not confirmed that yet.
    """

    def __init__(
        self,
        number: int,
        model: Model,
        session: ModelSession,
        output: OutputBuffer,
        handshake: ServerHandshake,
    ) -> None:
        self._number = number
        self._model = model
        self._session = session
        self._output = output
        self._handshake = handshake
        self._channel = ModelChannel(model, session, self._deliver, self._cancelled)
        self._latest: str | None = None
        self._confirming = False
        self._published = 0
        self._unconfirmed = False
        self.closing = False

    def handle(self, method: Any) -> None:
        """Handle a method of the client. Raises :class:`Refused`."""
        if type(method) is Ack:
            self._channel.ack(method.delivery_tag, method.multiple)
            return
        handler = _HANDLERS.get(type(method))
        if handler is None:
            raise Refused(503, f"method {method.name} from a client")
        handler(self, method)

    def close(self) -> None:
        """Requeue its unacknowledged messages and end its consumers."""
        self.confirm()
        self._channel.close()

    def _send(self, method: base.Frame) -> None:
        self._output.write(method_frame(self._number, method))

    def _reply(self, request: Any, method: base.Frame) -> None:
        if not request.nowait:
            self._send(method)

    # Messages in:

    def publish(self, method: Publish, properties: Properties, body: bytes) -> None:
        """Publish a message. Its confirm is sent at the end of this turn. Raises :class:`Refused`."""
        if properties.user_id is not None and properties.user_id != self._handshake.user:
            raise Refused(
                406,
                f"user_id property set to '{properties.user_id}' but authenticated user was "
                f"'{self._handshake.user}'",
            )
        if method.immediate:
            raise Refused(540, "immediate=true")
        if "\ufffd" in method.routing_key:  # the reader replaces invalid bytes by this
            raise Refused(406, "the routing key is not valid UTF-8")
        others, properties = split_copies(properties)
        outcome = self._model.publish(method.exchange, method.routing_key, properties, body, others)
        returned = method.mandatory and outcome is Outcome.UNROUTED
        if returned:
            self.confirm()  # Clients expect a return directly before its confirm.
            self._return(method, properties, body)
        if self._confirming:
            self._answer(outcome, at_once=returned)

    def _answer(self, outcome: Outcome, *, at_once: bool) -> None:
        if outcome is Outcome.REFUSED:
            self.confirm()
            self._published += 1
            self._send(Basic.Nack(self._published))
            return
        self._published += 1
        if not self._unconfirmed:
            self._unconfirmed = True
            self._output.confirm_later(self)
        if at_once:
            self.confirm()

    def confirm(self) -> None:
        """Confirm all messages that were published since the last confirm, in one frame."""
        if self._unconfirmed:
            self._unconfirmed = False
            self._output.write(ack_frame(self._number, self._published, True))

    def _return(self, method: Publish, properties: Properties, body: bytes) -> None:
        returned = method_frame(
            self._number, Basic.Return(*_NO_ROUTE, exchange=method.exchange, routing_key=method.routing_key)
        )
        self._write_content(returned, properties, body)

    def _write_content(self, method: bytes, properties: Properties, body: bytes) -> None:
        self._output.write(
            content_frames(self._number, method, properties.encode(), body, self._handshake.frame_max)
        )

    # Messages out:

    def _deliver(self, consumer_tag: str, tag: int, message: Message) -> None:
        deliver = Deliver(consumer_tag, tag, message.redelivered, message.exchange, message.routing_key)
        self._write_content(deliver_frame(self._number, deliver), _counted(message), message.body)

    def _cancelled(self, consumer_tag: str) -> None:
        if self._handshake.has_capability("consumer_cancel_notify"):
            self._send(Basic.Cancel(consumer_tag, nowait=True))

    def _get(self, method: Basic.Get) -> None:
        name = self._queue(method.queue)
        got = self._channel.get(name, no_ack=method.no_ack)
        if got is None:
            self._send(Basic.GetEmpty())
            return
        tag, message = got
        found = Basic.GetOk(
            tag, message.redelivered, message.exchange, message.routing_key, len(message.queue.ready)
        )
        self._write_content(method_frame(self._number, found), _counted(message), message.body)

    def _consume(self, method: Basic.Consume) -> None:
        consumer = self._channel.consume(
            self._queue(method.queue),
            method.consumer_tag,
            no_ack=method.no_ack,
            exclusive=method.exclusive,
            priority=_priority(method),
        )
        self._reply(method, Basic.ConsumeOk(consumer.tag))
        self._channel.start(consumer)

    def _cancel(self, method: Any) -> None:
        self._channel.cancel(method.consumer_tag)
        self._reply(method, Basic.CancelOk(method.consumer_tag))

    def _cancel_ok(self, method: Basic.CancelOk) -> None:
        """Do nothing: some clients answer a notification that expects no answer."""

    def _qos(self, method: Basic.Qos) -> None:
        if method.prefetch_size:
            raise Refused(540, f"prefetch_size!=0 ({method.prefetch_size})")
        if method.global_:
            raise Unsupported("prefetch of a whole channel (global=true)")
        self._channel.qos(method.prefetch_count)
        self._send(Basic.QosOk())

    def _nack(self, method: Any) -> None:
        self._channel.reject(method.delivery_tag, requeue=method.requeue, multiple=method.multiple)

    def _reject(self, method: Any) -> None:
        self._channel.reject(method.delivery_tag, requeue=method.requeue)

    def _recover(self, method: Basic.Recover) -> None:
        self._recover_async(method)
        self._send(Basic.RecoverOk())

    def _recover_async(self, method: Any) -> None:
        if not method.requeue:
            raise Refused(540, "requeue=false")
        self._channel.recover()

    # Exchanges and queues:

    def _declare_exchange(self, method: Exchange.Declare) -> None:
        if method.passive:
            self._model.exchange(_plain(method.exchange))
        else:
            self._model.declare_exchange(
                _plain(method.exchange),
                method.exchange_type,
                durable=method.durable,
                auto_delete=method.auto_delete,
                internal=method.internal,
                arguments=method.arguments,
            )
        self._reply(method, Exchange.DeclareOk())

    def _delete_exchange(self, method: Exchange.Delete) -> None:
        self._model.delete_exchange(_plain(method.exchange), if_unused=method.if_unused)
        self._reply(method, Exchange.DeleteOk())

    def _declare_queue(self, method: Queue.Declare) -> None:
        session = self._session
        if method.passive:
            queue = self._model.queue(self._queue(_plain(method.queue)), session)
            queue.touch()
        else:
            queue = self._model.declare_queue(
                session,
                _plain(method.queue),
                durable=method.durable,
                exclusive=method.exclusive,
                auto_delete=method.auto_delete,
                arguments=method.arguments,
            )
        self._latest = queue.name
        self._reply(method, Queue.DeclareOk(queue.name, len(queue.ready), len(queue.consumers)))

    def _queue(self, name: str) -> str:
        """Return *name*, or if it is empty the name of the queue that this channel declared last."""
        if name:
            return name
        if self._latest is None:
            raise Refused(404, "no previously declared queue")
        return self._latest

    def _bind(self, method: Queue.Bind) -> None:
        name = self._queue(_plain(method.queue))
        key = name if not method.queue and not method.routing_key else method.routing_key
        self._model.bind(self._session, name, _plain(method.exchange), key, method.arguments)
        self._reply(method, Queue.BindOk())

    def _unbind(self, method: Queue.Unbind) -> None:
        name = self._queue(_plain(method.queue))
        self._model.unbind(self._session, name, _plain(method.exchange), method.routing_key, method.arguments)
        self._send(Queue.UnbindOk())

    def _purge(self, method: Queue.Purge) -> None:
        purged = self._model.queue(self._queue(method.queue), self._session).purge()
        self._reply(method, Queue.PurgeOk(purged))

    def _delete_queue(self, method: Queue.Delete) -> None:
        lost = self._model.delete_queue(
            self._session,
            self._queue(_plain(method.queue)),
            if_unused=method.if_unused,
            if_empty=method.if_empty,
        )
        self._reply(method, Queue.DeleteOk(lost))

    # The channel itself:

    def _open(self, method: ChannelMethods.Open) -> None:
        raise Refused(504, "second 'channel.open' seen")

    def _flow(self, method: ChannelMethods.Flow) -> None:
        if not method.active:
            raise Refused(540, "active=false")
        self._send(ChannelMethods.FlowOk(True))

    def _unsupported(self, method: base.Frame) -> None:
        raise Unsupported(f"method {method.name}")

    def _end_transaction(self, _method: base.Frame) -> None:
        raise Refused(406, "channel is not transactional")

    def _select(self, method: Confirm.Select) -> None:
        self._confirming = True
        self._reply(method, Confirm.SelectOk())


def _plain(name: str) -> str:
    """Return *name* without line breaks: RabbitMQ removes them from names that are declared, bound or deleted."""
    return name.replace("\n", "").replace("\r", "")


def _priority(method: Basic.Consume) -> int:
    priority = (method.arguments or {}).get("x-priority", 0)
    if isinstance(priority, int) and not isinstance(priority, bool):
        return priority
    raise Refused(
        406,
        f"invalid arg 'x-priority' for queue '{method.queue}' in vhost '/': "
        f"expected a whole number, got '{priority!s:.100}'",
    )


def _counted(message: Message) -> Properties:
    """Return the properties of *message*; in a quorum queue, with the number of earlier deliveries."""
    if not (message.deliveries and message.queue.options.quorum):
        return message.properties
    count = {"x-delivery-count": message.deliveries}
    return with_headers(message.properties, count, message.properties.expiration)


_HANDLERS: Final[dict[type, Callable[[ServerChannel, Any], None]]] = {
    ChannelMethods.Open: ServerChannel._open,
    ChannelMethods.Flow: ServerChannel._flow,
    Exchange.Declare: ServerChannel._declare_exchange,
    Exchange.Delete: ServerChannel._delete_exchange,
    Queue.Declare: ServerChannel._declare_queue,
    Queue.Bind: ServerChannel._bind,
    Queue.Unbind: ServerChannel._unbind,
    Queue.Purge: ServerChannel._purge,
    Queue.Delete: ServerChannel._delete_queue,
    Basic.Qos: ServerChannel._qos,
    Basic.Consume: ServerChannel._consume,
    Basic.Cancel: ServerChannel._cancel,
    Basic.CancelOk: ServerChannel._cancel_ok,
    Basic.Get: ServerChannel._get,
    Basic.Nack: ServerChannel._nack,
    Basic.Reject: ServerChannel._reject,
    Basic.Recover: ServerChannel._recover,
    Basic.RecoverAsync: ServerChannel._recover_async,
    Confirm.Select: ServerChannel._select,
    Exchange.Bind: ServerChannel._unsupported,
    Exchange.Unbind: ServerChannel._unsupported,
    Tx.Select: ServerChannel._unsupported,
    Tx.Commit: ServerChannel._end_transaction,
    Tx.Rollback: ServerChannel._end_transaction,
}
