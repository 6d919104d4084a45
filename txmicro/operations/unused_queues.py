"""Removes the durable queues of a worker type that has no workers and no jobs.

RabbitMQ refuses ``if-empty`` and ``if-unused`` for quorum queues, so this takes several steps. First the queue that
senders publish to is unbound: from then on a durable job fails with ``NotStored``. After :data:`SETTLE` seconds all
queues are checked once more, and deleted if they are still empty.

A worker that starts meanwhile makes the command give up. One that starts between the last check and the deletion, some
milliseconds later, declares the queues again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import PRECONDITION_FAILED, ChannelClosed
from txmicro.protocol import topology

from .operator_channel import NOT_FOUND, OperationError, open_channel, with_timeout

SETTLE: Final = 1.0
"""Seconds between the unbinding and the last check. Messages that were on their way to the queues arrive within it."""


class QueuesInUse(OperationError):
    """A queue holds jobs, or workers of the type are connected. Nothing was removed.

    Stop the workers of the type, and have its jobs done or its dead letters discarded.
    """


class JobsDeleted(OperationError):
    """A worker of the type was started during the deletion, and jobs that were stored then were deleted with the queue.

    Their senders were told that the jobs are stored. Send them again; start no worker of a type while its queues are
    being removed.
    """


async def remove_unused(client: Connection, kind: str, steps: Iterable[float], clock: Any) -> list[str]:
    """Delete the durable queues of type *kind*, with those for dead letters and retries, and return their names.

    When it is canceled before the deletion, the queues are bound again.

    :param steps: the seconds between attempts, from which the names of the retry queues follow.
    :raise QueuesInUse: a queue holds a job or a dead letter, or a worker of the type is connected. Nothing was removed.
    :raise JobsDeleted: a worker was started between the last check and the deletion.
    :raise TypeLocked: another command holds the lock.
    :raise BrokerTimeout: the broker does not answer.
    """
    await open_channel(client, kind, clock)
    return await _Removal(client, kind, clock).remove(_names(kind, steps))


def _names(kind: str, steps: Iterable[float]) -> list[str]:
    """Return the queues' names. Messages move from the first ones to the last, so they are deleted in this order."""
    retries = [topology.retry_queue(kind, step) for step in steps]
    own = [topology.durable_queue(kind), topology.quarantine_queue(kind)]
    return list(dict.fromkeys([*own, *retries, topology.dead_queue(kind)]))


class _Removal:
    """One run. Each request has a channel of its own, because the broker closes a channel at the first 404."""

    def __init__(self, client: Connection, kind: str, clock: Any) -> None:
        self._client = client
        self._kind = kind
        self._clock = clock

    async def remove(self, names: list[str]) -> list[str]:
        existing = [name for name in names if await self._look(name) is not None]
        if not existing:
            return existing
        await self._check(existing)
        await self._each_binding("queue_unbind")
        try:
            await deferLater(self._clock, SETTLE)
            await self._check(existing)
        except BaseException:
            await self._each_binding("queue_bind")
            raise
        for name in existing:
            await self._delete(name)
        return existing

    async def _check(self, names: list[str]) -> None:
        """Raise :class:`QueuesInUse` unless all queues are empty and have no consumers."""
        await self._check_no_workers()
        for name in names:
            found = await self._look(name)
            if found is not None and found.message_count + found.consumer_count:
                raise QueuesInUse(
                    f"the queue {name} has {found.message_count} messages and {found.consumer_count} consumers; "
                    "nothing was removed"
                )

    async def _check_no_workers(self) -> None:
        """Raise :class:`QueuesInUse` while a worker's inbox is bound, even one that is about to stop.

        The broker checks that: it does not delete an exchange with bindings if ``if-unused`` is set. The exchange is
        declared again at once, because other types may publish to it.
        """
        replies = topology.replies_exchange(self._kind)
        if await self._ask(lambda channel: channel.exchange_declare(exchange=replies, passive=True)) is None:
            return
        try:
            await self._ask(lambda channel: channel.exchange_delete(exchange=replies, if_unused=True))
        except ChannelClosed as error:
            if error.reply_code == PRECONDITION_FAILED:
                raise QueuesInUse(
                    f"workers of {self._kind} are connected; nothing was removed; stop them first"
                ) from error
            raise
        declared = topology.ExchangeDeclaration(replies)
        await self._ask(
            lambda channel: channel.exchange_declare(
                exchange=declared.name, exchange_type=declared.kind, durable=True
            )
        )

    async def _each_binding(self, method: str) -> None:
        """Bind or unbind the queue that senders publish to; *method* is a method of a channel."""
        queue = topology.durable_queue(self._kind)
        for exchange in (topology.to_exchange(self._kind), topology.durable_exchange(self._kind)):
            where = {"queue": queue, "exchange": exchange, "routing_key": topology.DURABLE_KEY}
            await self._ask(partial(_call, method, where))

    async def _delete(self, name: str) -> None:
        deleted = await self._ask(lambda channel: channel.queue_delete(queue=name))
        if deleted is not None and deleted.message_count:
            raise JobsDeleted(
                f"the queue {name} was deleted with {deleted.message_count} jobs that arrived during the deletion: "
                "a worker of the type was started; send them again"
            )

    async def _look(self, name: str) -> Any:
        return await self._ask(lambda channel: channel.queue_declare(queue=name, passive=True))

    async def _ask(self, question: Callable[[Any], Deferred[Any]]) -> Any:
        """Return the broker's answer to *question*, or None if the queue or exchange does not exist."""
        channel: Channel = await with_timeout(self._client.channel_open(), self._clock)
        try:
            answer = await with_timeout(question(channel), self._clock)
        except ChannelClosed as error:
            if error.reply_code == NOT_FOUND:
                return None
            raise
        channel.channel_close().addErrback(lambda _: None)
        return answer


def _call(method: str, arguments: dict[str, Any], channel: Any) -> Deferred[Any]:
    called: Deferred[Any] = getattr(channel, method)(**arguments)
    return called
