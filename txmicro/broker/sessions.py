"""Channels and sessions: who has consumers, unacknowledged messages and exclusive queues."""

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
    """One client's stay: what ends with its connection.

    :ivar writable: whether the connection can take deliveries.
    """

    __slots__ = ("_model", "channels", "writable")

    def __init__(self, model: Model) -> None:
        self._model = model
        self.channels: set[ModelChannel] = set()
        self.writable = True

    def pause(self) -> None:
        """Deliver nothing until :meth:`resume`: the connection's buffers are full."""
        self.writable = False

    def resume(self) -> None:
        """Deliver again."""
        self.writable = True
        for channel in list(self.channels):
            for consumer in list(channel.consumers.values()):
                if consumer.parked:
                    consumer.queue.unpark(consumer)

    def close(self) -> None:
        """End it: its messages go back to their queues, its exclusive queues are deleted."""
        self.writable = False  # or its channels would get back each other's messages
        for channel in list(self.channels):
            channel.close()
        self._model.forget(self)


class ModelChannel:
    """One channel of a session.

    :param send: called with consumer tag, delivery tag and message for each delivery.
    :param cancelled: called with the tag of a consumer whose queue was deleted.
    :ivar prefetch: for consumers to come.
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
        """Let consumers to come have *prefetch* messages unacknowledged (0: any number)."""
        self.prefetch = prefetch or _UNLIMITED

    def consume(self, queue: str, tag: str, *, no_ack: bool, exclusive: bool, priority: int = 0) -> Consumer:
        """A consumer of *queue* called *tag* (empty: the broker names it); :meth:`start` it.

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
        """End a consumer; nothing if there is none. What it has not acknowledged remains its own."""
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            consumer.queue.unsubscribe(consumer)

    def get(self, queue: str, *, no_ack: bool) -> tuple[int, Message] | None:
        """Take one message, with its delivery tag; None: there is none. Raises :class:`Refused`."""
        message = self._model.queue(queue, self.session).get()
        return None if message is None else (self._keep(message, no_ack=no_ack), message)

    def deliver(self, consumer: Consumer, message: Message) -> None:
        """Hand *message* to *consumer*."""
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
        """*tag*, or all up to it (``multiple``; 0: all), is done. Raises :class:`Refused` (406): unknown."""
        for message in self._take(tag, multiple):
            message.queue.settle(message)
            if message.consumer is not None:
                message.consumer.released()

    def reject(self, tag: int, *, requeue: bool, multiple: bool = False) -> None:
        """*tag*, or all up to it, goes back or to the dead letters. Raises :class:`Refused` (406)."""
        messages = self._take(tag, multiple)
        if requeue:
            self._requeue(messages)
        else:
            for message in messages:
                message.queue.reject(message)
                if message.consumer is not None:
                    message.consumer.released()

    def recover(self) -> None:
        """Requeue all that is unacknowledged."""
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
        """Give *messages* back, all of a queue at once, and in their order."""
        consumers = [message.consumer for message in messages if message.consumer is not None]
        messages.sort(key=lambda message: (id(message.queue), message.position))
        for queue, batch in groupby(messages, _queue):
            queue.requeue(batch)
        for consumer in consumers:
            consumer.released()

    def lose(self, consumer: Consumer) -> None:
        """*consumer* ends because its queue was deleted."""
        del self.consumers[consumer.tag]
        self._cancelled(consumer.tag)

    def close(self) -> None:
        """End it: its consumers go, and what they have not acknowledged goes back."""
        self.session.channels.discard(self)
        consumers = list(self.consumers.values())
        self.consumers.clear()
        for consumer in consumers:
            consumer.queue.unsubscribe(consumer)
        self.recover()
