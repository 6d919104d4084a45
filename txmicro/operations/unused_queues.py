"""Removing the durable queues of a worker type that has no workers and no jobs.

A broker does not do that in one step: RabbitMQ refuses ``if-empty`` and ``if-unused`` for quorum queues. So first the
queue that senders reach is unbound, and what is sent from then on is not stored, which its sender is told. When what
was under way has arrived and all queues are still empty, they are deleted. A worker that starts meanwhile ends it; one
that starts between the last look and the deletion, some milliseconds later, declares the queues again.
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
from txmicro.errors import TxmicroError
from txmicro.protocol import topology

from .dead_letters import lock, with_timeout

SETTLE: Final = 1.0
"""Seconds from the unbinding until the queues are looked at last: what was under way to them has arrived by then."""

_NOT_FOUND: Final = 404


class QueuesInUse(TxmicroError):
    """The queues have jobs, or their type has workers: nothing was removed."""


async def remove_unused(client: Connection, kind: str, steps: Iterable[float], clock: Any) -> list[str]:
    """Delete the durable queues of type *kind*, those of its dead letters and retries too; return their names.

    :param steps: seconds between attempts: which retry queues there may be.

    Raises :class:`QueuesInUse`, and removes nothing, while there is a job or dead letter in any of them or a worker of
    the type is connected. Raises :class:`~txmicro.operations.dead_letters.DeadLettersLocked` while another operator's
    command holds the lock; :class:`~txmicro.operations.dead_letters.BrokerTimeout`; or the broker's error. When it is
    canceled before the deletion, the queues are bound again, as they were.
    """
    channel = await with_timeout(client.channel_open(), clock)
    await lock(channel, kind, clock)
    return await _Removal(client, kind, clock).remove(_names(kind, steps))


def _names(kind: str, steps: Iterable[float]) -> list[str]:
    """Those first from which messages come, so that nothing leads to what was deleted."""
    retries = [topology.retry_queue(kind, step) for step in steps]
    own = [topology.durable_queue(kind), topology.quarantine_queue(kind)]
    return list(dict.fromkeys([*own, *retries, topology.dead_queue(kind)]))


class _Removal:
    """One run, over channels of its own: a broker closes them where something does not exist."""

    def __init__(self, client: Connection, kind: str, clock: Any) -> None:
        self._client = client
        self._kind = kind
        self._clock = clock

    async def remove(self, names: list[str]) -> list[str]:
        there = [name for name in names if await self._look(name) is not None]
        if not there:
            return there
        await self._check(there)
        await self._each_binding("queue_unbind")
        try:
            await deferLater(self._clock, SETTLE)
            await self._check(there)
        except BaseException:
            await self._each_binding("queue_bind")
            raise
        for name in there:
            await self._delete(name)
        return there

    async def _check(self, names: list[str]) -> None:
        """Raise :class:`QueuesInUse` unless all are empty and nobody takes from them."""
        await self._check_no_workers()
        for name in names:
            found = await self._look(name)
            if found is not None and found.message_count + found.consumer_count:
                has = f"{found.message_count} messages and {found.consumer_count} consumers"
                raise QueuesInUse(f"{name} has {has}: nothing is removed")

    async def _check_no_workers(self) -> None:
        """Raise :class:`QueuesInUse` while a worker's inbox is bound, also of one that is about to stop.

        For exchanges the broker decides: one that is bound is in use. Others may publish to it, so it is back at once.
        """
        replies = topology.replies_exchange(self._kind)
        if await self._ask(lambda channel: channel.exchange_declare(exchange=replies, passive=True)) is None:
            return
        try:
            await self._ask(lambda channel: channel.exchange_delete(exchange=replies, if_unused=True))
        except ChannelClosed as error:
            if error.reply_code == PRECONDITION_FAILED:
                raise QueuesInUse(f"workers of {self._kind} are connected: nothing is removed") from error
            raise
        declared = topology.ExchangeDeclaration(replies)
        await self._ask(
            lambda channel: channel.exchange_declare(
                exchange=declared.name, exchange_type=declared.kind, durable=True
            )
        )

    async def _each_binding(self, method: str) -> None:
        """Bind or unbind the queue that new jobs come to."""
        queue = topology.durable_queue(self._kind)
        for exchange in (topology.to_exchange(self._kind), topology.durable_exchange(self._kind)):
            where = {"queue": queue, "exchange": exchange, "routing_key": topology.DURABLE_KEY}
            await self._ask(partial(_call, method, where))

    async def _delete(self, name: str) -> None:
        deleted = await self._ask(lambda channel: channel.queue_delete(queue=name))
        if deleted is not None and deleted.message_count:
            raise QueuesInUse(
                f"{deleted.message_count} messages came to {name} while it was removed, and are lost"
            )

    async def _look(self, name: str) -> Any:
        return await self._ask(lambda channel: channel.queue_declare(queue=name, passive=True))

    async def _ask(self, question: Callable[[Any], Deferred[Any]]) -> Any:
        """The broker's answer; None: there is nothing of that name."""
        channel: Channel = await with_timeout(self._client.channel_open(), self._clock)
        try:
            answer = await with_timeout(question(channel), self._clock)
        except ChannelClosed as error:
            if error.reply_code == _NOT_FOUND:
                return None
            raise
        channel.channel_close().addErrback(lambda _: None)
        return answer


def _call(method: str, arguments: dict[str, Any], channel: Any) -> Deferred[Any]:
    called: Deferred[Any] = getattr(channel, method)(**arguments)
    return called
