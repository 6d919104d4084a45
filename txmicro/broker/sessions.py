"""Sessions and channels in the model: they own consumers, unacknowledged messages and exclusive queues."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import attrgetter
from typing import Final

from .consumers import Consumer
from .errors import Refused
from .messages import Message
from .model import Model

_UNLIMITED: Final = float("inf")
_queue = attrgetter("queue")


class ModelSession:
    """A client's session: it ends with the client's connection.

    :ivar channels: the open channels.
    :ivar writable: whether the connection can take deliveries.
    """

    __slots__ = ("_model", "channels", "writable")

    def __init__(self, model: Model) -> None:
        self._model = model
        self.channels: set[ModelChannel] = set()
        self.writable = True

    def pause(self) -> None:
        """Deliver nothing until :meth:`resume`: the connection's buffer is full."""
        self.writable = False

    def resume(self) -> None:
        """Deliver again."""
        self.writable = True
        for channel in list(self.channels):
            for consumer in list(channel.consumers.values()):
                if consumer.inactive:
                    consumer.queue.activate(consumer)

    def close(self) -> None:
        """End the session: requeue its unacknowledged messages, and delete its exclusive queues."""
        self.writable = False  # otherwise its channels would get each other's requeued messages
        for channel in list(self.channels):
            channel.close()
        self._model.end_session(self)


class ModelChannel:
    """A channel of a session.

    :param send: called with consumer tag, delivery tag and message for each delivery.
    :param cancelled: called with the tag of a consumer whose queue was deleted.
    :ivar prefetch: how many messages a new consumer may have unacknowledged.
    :ivar consumers: by tag.
    :ivar unacked: the unacknowledged messages, by delivery tag.
    """

    __slots__ = ("_cancelled", "_model", "_send", "_tag", "consumers", "prefetch", "session", "unacked")

    def __init__(
        self,
        model: Model,
        session: ModelSession,
        send: Callable[[str, int, Message], None],
        cancelled: Callable[[str], None],
    ) -> None:
        self._model = model
        self._send = send
        self._cancelled = cancelled
        self._tag = 0
        self.session = session
        self.prefetch = _UNLIMITED
        self.consumers: dict[str, Consumer] = {}
        self.unacked: dict[int, Message] = {}
        session.channels.add(self)

    def qos(self, prefetch: int) -> None:
        """Let new consumers have *prefetch* messages unacknowledged (0: any number)."""
        self.prefetch = prefetch or _UNLIMITED

    def consume(self, queue: str, tag: str, *, no_ack: bool, exclusive: bool, priority: int = 0) -> Consumer:
        """Return a new consumer of *queue*, which gets no messages before :meth:`start`.

        :param tag: its name; empty: the broker chooses one.

        Raises :class:`Refused`.
        """
        source = self._model.queue(queue, self.session)
        if tag in self.consumers:
            raise Refused(530, f"attempt to reuse consumer tag '{tag}'")
        if any(other.exclusive or exclusive for other in source.consumers):
            raise Refused(403, f"queue '{queue}' in vhost '/' in exclusive use")
        consumer = Consumer(
            tag or self._model.new_name("amq.ctag-"),
            source,
            self,
            no_ack=no_ack,
            exclusive=exclusive,
            prefetch=_UNLIMITED if no_ack else self.prefetch,
            priority=priority,
        )
        self.consumers[consumer.tag] = consumer
        return consumer

    def start(self, consumer: Consumer) -> None:
        """Deliver to *consumer* from now on."""
        consumer.queue.subscribe(consumer)

    def cancel(self, tag: str) -> None:
        """End a consumer. Do nothing if there is none. Its unacknowledged messages stay with the channel."""
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            consumer.queue.unsubscribe(consumer)

    def get(self, queue: str, *, no_ack: bool) -> tuple[int, Message] | None:
        """Return the next message of *queue* with its delivery tag; None: there is none. Raises :class:`Refused`."""
        message = self._model.queue(queue, self.session).get()
        return None if message is None else (self._keep(message, no_ack=no_ack), message)

    def deliver(self, consumer: Consumer, message: Message) -> None:
        """Send *message* to *consumer*."""
        if not consumer.no_ack:
            consumer.unacked += 1
            message.consumer = consumer
        self._send(consumer.tag, self._keep(message, no_ack=consumer.no_ack), message)

    def _keep(self, message: Message, *, no_ack: bool) -> int:
        self._tag += 1
        if no_ack:
            message.queue.settle(message)
        else:
            self.unacked[self._tag] = message
        return self._tag

    def ack(self, tag: int, multiple: bool = False) -> None:
        """Acknowledge a message.

        :param tag: its delivery tag.
        :param multiple: acknowledge also all messages before it; with tag 0, all messages.

        Raises :class:`Refused` (406) when the tag is unknown.
        """
        for message in self._take(tag, multiple):
            message.queue.settle(message)
            if message.consumer is not None:
                message.consumer.released()

    def reject(self, tag: int, *, requeue: bool, multiple: bool = False) -> None:
        """Requeue messages, or move them to the dead letters. See :meth:`ack` for the arguments."""
        messages = self._take(tag, multiple)
        if requeue:
            self._requeue(messages)
        else:
            for message in messages:
                message.queue.reject(message)
                if message.consumer is not None:
                    message.consumer.released()

    def recover(self) -> None:
        """Requeue all unacknowledged messages."""
        self._requeue(self._take(0, True))

    def _take(self, tag: int, multiple: bool) -> list[Message]:
        unacked = self.unacked
        if multiple and tag == 0:
            messages = list(unacked.values())
            unacked.clear()
            return messages
        if tag not in unacked:
            raise Refused(406, f"unknown delivery tag {tag}")
        if not multiple:
            return [unacked.pop(tag)]
        tags = [earlier for earlier in unacked if earlier <= tag]
        return [unacked.pop(earlier) for earlier in tags]

    def _requeue(self, messages: list[Message]) -> None:
        """Requeue *messages*, those of a queue together and in their order."""
        consumers = [message.consumer for message in messages if message.consumer is not None]
        messages.sort(key=lambda message: (id(message.queue), message.position))
        for queue, batch in groupby(messages, _queue):
            queue.requeue(batch)
        for consumer in consumers:
            consumer.released()

    def consumer_ended(self, consumer: Consumer) -> None:
        """Forget *consumer*, whose queue was deleted, and notify the client."""
        del self.consumers[consumer.tag]
        self._cancelled(consumer.tag)

    def close(self) -> None:
        """End the channel: end its consumers, and requeue its unacknowledged messages."""
        self.session.channels.discard(self)
        consumers = list(self.consumers.values())
        self.consumers.clear()
        for consumer in consumers:
            consumer.queue.unsubscribe(consumer)
        self.recover()
