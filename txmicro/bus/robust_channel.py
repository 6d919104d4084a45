"""Something that stands on a channel of its own, and is built again whenever any of it is lost.

A :class:`Place` outlives sessions, channels, queues and consumers. Subclasses say what is built.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Final

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import PRECONDITION_FAILED, ChannelClosed, ConnectionLost, QueueLimitReached
from txmicro.errors import BusClosed, ConsumerCancelled, QueueMismatch
from txmicro.protocol.topology import ExchangeDeclaration, QueueDeclaration
from txmicro.util.log_once import LogOnce
from txmicro.util.once import Once

from .connections import REFUSALS, REFUSED_DELAY, Bus
from .session import Session

REBIND_EVERY: Final = 3.0
"""Seconds between two looks at the bindings: nobody tells us when an operator deletes an exchange."""

SHARED_EVERY: Final = 20
"""Looks of one's own between two at what all of the type share, which the eldest takes with every look."""

STABLE_AFTER: Final = 2.0
"""Seconds that it must have stood for the next attempt to be the first one again. The first look comes later: what it
finds missing is a loss, and no attempt that failed."""


CLOSE_TIMEOUT: Final = 3.0
"""Seconds that a channel may take to close: RabbitMQ's hangs for a minute with a queue that has no leader."""


class RobustChannel:
    """See the module.

    :param worker: id of the worker whose it is. :param service: under which name it is counted what goes wrong.
    :ivar trouble: why it was built again, or could not be, the last time; None: never.
    """

    log = Logger()

    def __init__(self, bus: Bus, worker: str, service: str) -> None:
        self._bus = bus
        self._worker = worker
        self._metrics = bus.metrics.service(service)
        self._said = LogOnce()
        self.trouble: BaseException | None = None
        self._session: Session | None = None
        self._channel: Channel | None = None
        self._tags: list[str] = []  # of the consumers of jobs
        self._declared: dict[str, QueueDeclaration] = {}
        self._broken: Once[BaseException] = Once()
        self._life: Deferred[None] | None = None
        self._delay = backoffPolicy(initialDelay=0.05, maxDelay=3.0, factor=1.8, jitter=bus.random)

    @property
    def stands(self) -> bool:
        """Whether everything that this place has is there, now."""
        return self._session is not None

    # What subclasses say

    async def _connection(self, session: Session) -> Connection:
        """The connection that it stands on."""
        return session.consuming

    async def _build(self, session: Session, channel: Channel) -> None:
        """Declare and consume all that it has."""
        raise NotImplementedError

    def _stood(self) -> None:
        """All of it stands."""

    def _fell(self) -> None:
        """Something was lost."""

    def _gives_up(self, reason: BaseException) -> bool:
        """Whether *reason* is one not to try again after."""
        raise NotImplementedError

    @property
    def _leads(self) -> bool:
        """Whether it looks after what all of its type share."""
        raise NotImplementedError

    # Its life

    def _begin(self) -> None:
        self._life = Deferred.fromCoroutine(self._live())

    async def _end(self) -> Channel | None:
        """Build no more; gives the channel that may be left."""
        if self._life is not None:
            self._life.cancel()
            await self._life
            self._life = None
        channel, self._channel = self._channel, None
        return channel

    async def _live(self) -> None:
        attempt = 0
        try:
            while True:
                session = await self._bus.when_connected()
                began = self._bus.clock.seconds()
                reason = await self._stay(session)
                await self._drop_channel()
                attempt = 0 if self._bus.clock.seconds() - began > STABLE_AFTER else attempt + 1
                if self._gives_up(reason):
                    return
                self.trouble = reason
                self._complain(reason)
                delay = REFUSED_DELAY if isinstance(reason, REFUSALS) else self._delay(attempt)
                await deferLater(self._bus.clock, delay)
        except (CancelledError, BusClosed):
            return

    def _complain(self, reason: BaseException) -> None:
        if not isinstance(reason, QueueMismatch):
            self.log.warn(
                "{worker} lost its place on the bus, and takes it again: {reason}",
                worker=self._worker,
                reason=reason,
                recurring=True,
            )
            return
        self._metrics.record_error(QueueMismatch.__name__)
        if self._said.first(reason.difference):
            self.log.error(
                "{worker} cannot have its place on the bus, and keeps trying (this is said once): {reason}",
                worker=self._worker,
                reason=reason,
            )

    async def _stay(self, session: Session) -> BaseException:
        """Build all of it, and stay until something is lost; returns what was."""
        broken = self._broken = Once()
        lost = session.lost().addCallbacks(broken.happen, lambda _: None)
        self._declared.clear()
        try:
            connection = await self._connection(session)
            self._channel = await connection.channel_open()
            self._channel.lost().addCallback(broken.happen)
            await self._build(session, self._channel)
            self._stand(session, self._channel)
            return await broken.wait()
        except CancelledError:
            raise
        except Exception as error:  # whatever it was, building again is the answer
            return error
        finally:
            lost.cancel()
            self._fall()

    async def _drop_channel(self) -> None:
        """Close what is left of the channel: it would keep its queues and consumers from the next one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            with suppress(ChannelClosed, ConnectionLost, TimeoutError):  # it is gone, or as good as
                await channel.channel_close().addTimeout(CLOSE_TIMEOUT, self._bus.clock)

    def _stand(self, session: Session, channel: Channel) -> None:
        self._session = session
        looks = itertools.count(1)
        self._binding = LoopingCall(lambda: self._bind_again(channel, next(looks)))
        self._binding.clock = self._bus.clock
        self._binding.start(REBIND_EVERY, now=False)
        self._stood()

    def _fall(self) -> None:
        stood, self._session = self._session, None
        if stood is not None:
            self._binding.stop()
        self._fell()  # also when not all stood: messages may have come

    # What it has

    async def _declare_exchange(
        self, session: Session, channel: Channel, exchange: ExchangeDeclaration
    ) -> None:
        await channel.exchange_declare(exchange=exchange.name, exchange_type=exchange.kind, durable=True)
        session.declared(exchange.name)

    async def _declare(self, channel: Channel, queue: QueueDeclaration) -> None:
        """Declare and bind what is looked after from now on."""
        await self._declare_queue(channel, queue)
        self._declared[queue.name] = queue

    async def _declare_queue(self, channel: Channel, queue: QueueDeclaration) -> None:
        try:
            await channel.queue_declare(
                queue=queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
                arguments=queue.arguments,
            )
        except QueueLimitReached:
            raise
        except ChannelClosed as error:
            if error.reply_code == PRECONDITION_FAILED:
                raise QueueMismatch(queue.name, error.reply_text) from error
            raise
        for exchange, key in queue.bindings:
            await channel.queue_bind(queue=queue.name, exchange=exchange, routing_key=key)

    def _bind_again(self, channel: Channel, look: int) -> Deferred[Any]:
        """Where an exchange is missing, this costs the channel, and all is built again."""
        shared = self._leads or look % SHARED_EVERY == 0
        binding = [
            channel.queue_bind(queue=queue.name, exchange=exchange, routing_key=key)
            for queue in self._declared.values()
            if queue.exclusive or shared
            for exchange, key in queue.bindings
        ]
        return gatherResults(binding, consumeErrors=True).addErrback(lambda _: None)  # lost() says why

    async def _add(self, work: Awaitable[Any]) -> None:
        """Do something on the standing channel; if that breaks it, the rebuilding does it instead."""
        try:
            await work
        except CancelledError:
            raise
        except Exception as error:
            self._broken.happen(error)

    async def _stop_taking(self) -> None:
        """Cancel the consumers of jobs; what is being built has to see to that itself."""
        if self._session is not None and self._channel is not None:
            await self._add(self._cancel_tags(self._channel))

    async def _cancel_tags(self, channel: Channel) -> None:
        tags, self._tags = self._tags, []
        for tag in tags:
            await channel.cancel(tag)

    def _cancelled(self) -> None:
        self._broken.happen(ConsumerCancelled("the broker cancelled a consumer: its queue has gone"))

    def _settle(self, channel: Channel, tag: int, done: bool) -> None:
        if channel is not self._channel:
            return  # an acknowledgement belongs to the channel that delivered: this one has gone
        if done:
            channel.ack(tag)
        else:
            channel.reject(tag, True)
