"""A channel that is opened again, with its queues and consumers, whenever any of them is lost."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Final, Protocol

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from txmicro.amqp.channel import Channel, OnMessage
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import PRECONDITION_FAILED, ChannelClosed, ConnectionLost, QueueLimitReached
from txmicro.errors import BusClosed, ConsumerCancelled, QueueMismatch, TxmicroError
from txmicro.protocol.topology import ExchangeDeclaration, QueueDeclaration
from txmicro.util.log_once import LogOnce
from txmicro.util.once import Once

from .connections import REFUSALS, REFUSED_DELAY, Bus
from .session import Session

REBIND_EVERY: Final = 3.0
"""Seconds between two rounds that bind the queues again: the broker does not say when somebody deletes an exchange."""

SHARED_EVERY: Final = 20
"""Rounds after which a worker also binds the queues that its type shares. The eldest worker does so in each round."""

STABLE_AFTER: Final = 2.0
"""Seconds after which the channel counts as stable, and its loss as a first attempt. This is less than REBIND_EVERY: a
binding that is found missing is a loss, and not a failed attempt."""

CLOSE_TIMEOUT: Final = 3.0
"""Seconds that a channel may take to close: RabbitMQ's takes a minute when a queue has no leader."""

STUCK_AFTER: Final = 120.0
"""Seconds after which an attempt to declare and consume everything counts as stuck. RabbitMQ takes 65 s to say that a
quorum queue has no leader, which ends the attempt."""


class ChannelContent(Protocol):
    """Declares and consumes what a robust channel carries."""

    async def connection(self, session: Session) -> Connection:
        """Return the connection to open the channel on."""

    async def build(self, session: Session, channel: Channel) -> None:
        """Declare and consume everything. An exception counts as a loss."""

    def built(self) -> None:
        """Note that everything is declared and consumed."""

    def lost(self) -> None:
        """Note that something was lost, or could not be built. Deliveries of before cannot be acknowledged any more."""

    def gives_up(self, reason: BaseException) -> bool:
        """Return whether *reason* ends all attempts."""


class Leadership(Protocol):
    """Says which worker binds the queues that all workers of its type share."""

    @property
    def leads(self) -> bool:
        """True if this worker does."""


class RobustChannel:
    """A channel that outlives sessions: *content* is built on a new one whenever anything is lost.

    :param worker: the worker's id.
    :param service: the name under which errors are counted.
    :ivar leadership: whether this worker binds shared queues in each round; None: it has none.
    :ivar session: the session that it is built on; None: it is not complete.
    :ivar channel: the channel that is open; None: there is none.
    :ivar trouble: why it was built again, or could not be, the last time; None: never.
    """

    log = Logger()

    def __init__(self, bus: Bus, worker: str, service: str, content: ChannelContent) -> None:
        self._bus = bus
        self._worker = worker
        self._content = content
        self._metrics = bus.metrics.service(service)
        self._logged = LogOnce()
        self.leadership: Leadership | None = None
        self.trouble: BaseException | None = None
        self.session: Session | None = None
        self.channel: Channel | None = None
        self._job_consumers: list[str] = []  # their tags
        self._declared: dict[str, QueueDeclaration] = {}
        self._broken: Once[BaseException] = Once()
        self._life: Deferred[None] | None = None
        self._attempt_began: float | None = None  # None: there is no attempt
        self._delay = backoffPolicy(initialDelay=0.05, maxDelay=3.0, factor=1.8, jitter=bus.random)

    @property
    def ready(self) -> bool:
        """True while everything is declared and consumed."""
        return self.session is not None

    @property
    def obstacle(self) -> str:
        """Why not everything is declared and consumed now, in words; empty if it is, or was not started."""
        if self.ready or self._life is None:
            return ""
        return f"its queues are not consumed: {self.trouble or 'they are being declared'}"

    @property
    def ended(self) -> bool:
        """True if nothing declares the content again, although it was not closed."""
        return self._life is not None and self._life.called

    @property
    def defect(self) -> str:
        """The problem that only a restart of the process solves, in words; empty if there is none."""
        if self.ended:
            return "its queues are not declared any more"
        if self.ready or self._attempt_began is None:
            return ""
        seconds = self._bus.clock.seconds() - self._attempt_began
        stuck = f"the broker is connected, but has not declared its queues for {seconds:.0f} s"
        return stuck if seconds > STUCK_AFTER else ""

    # Its life

    def start(self) -> None:
        """Build the content, and build it again whenever something is lost."""
        self._life = Deferred.fromCoroutine(self._live()).addErrback(self._log_end)

    def cancel(self) -> None:
        """Build it no more; do not wait for the end."""
        if self._life is not None:
            self._life.cancel()

    async def stop(self) -> Channel | None:
        """Build it no more; return the channel that is still open, for the caller to close."""
        if self._life is not None:
            self._life.cancel()
            await self._life
            self._life = None
        channel, self.channel = self.channel, None
        return channel

    def rebuild(self, reason: BaseException) -> None:
        """Build everything again, on a new channel, because of *reason*."""
        self._broken.happen(reason)

    async def _live(self) -> None:
        attempt = 0
        try:
            while True:
                session = await self._bus.when_connected()
                began = self._attempt_began = self._bus.clock.seconds()
                reason = await self._hold(session)
                self._attempt_began = None
                channel, self.channel = self.channel, None
                await self.close(channel)
                attempt = 0 if self._bus.clock.seconds() - began > STABLE_AFTER else attempt + 1
                if self._content.gives_up(reason):
                    return
                self.trouble = reason
                if not isinstance(reason, ConnectionLost):
                    self._log_loss(reason, session)
                delay = REFUSED_DELAY if isinstance(reason, REFUSALS) else self._delay(attempt)
                await deferLater(self._bus.clock, delay)
                if isinstance(reason, ConnectionLost):  # if the broker is down, the session is lost by now
                    self._log_loss(reason, session)
        except (CancelledError, BusClosed):
            return

    def _log_end(self, failure: Failure) -> None:
        self.log.failure(
            "{worker}: its queues are not declared any more; restart the process",
            failure,
            worker=self._worker,
        )

    def _log_loss(self, reason: BaseException, session: Session) -> None:
        """Log and count *reason*, unless the whole session is lost, which the bus logs once for all its workers."""
        if not session.is_lost:
            self.complain(reason)

    def complain(self, reason: BaseException) -> None:
        """Log and count why something is built again; a queue that differs, only once."""
        if not isinstance(reason, QueueMismatch):
            self.log.warn(
                "{worker}: lost its channel; declaring its queues again: {reason}",
                worker=self._worker,
                reason=reason,
                recurring=True,
            )
            return
        self._metrics.record_error(QueueMismatch.__name__)
        if self._logged.first(reason.difference):
            self.log.error(
                "{worker}: cannot declare its queues; retrying (logged once): {reason}",
                worker=self._worker,
                reason=reason,
            )

    async def _hold(self, session: Session) -> BaseException:
        """Build everything, and wait until something is lost; return the reason."""
        broken = self._broken = Once()
        lost = session.lost().addCallbacks(broken.happen, lambda _: None)
        self._declared.clear()
        self._job_consumers = []
        try:
            connection = await self._content.connection(session)
            self.channel = await connection.channel_open()
            self.channel.lost().addCallback(broken.happen)
            await self._content.build(session, self.channel)
            self._complete(session, self.channel)
            return await broken.wait()
        except CancelledError:
            raise
        except Exception as error:  # all errors have the same remedy: to build everything again
            return error
        finally:
            lost.cancel()
            self._incomplete()

    async def close(self, channel: Channel | None) -> None:
        """Close *channel*, if there is one: it would keep its queues and consumers from the next one."""
        if channel is not None:
            with suppress(TxmicroError, TimeoutError):  # it is closed, or will be
                await channel.channel_close().addTimeout(CLOSE_TIMEOUT, self._bus.clock)

    def _complete(self, session: Session, channel: Channel) -> None:
        self.session = session
        rounds = itertools.count(1)
        self._binding = LoopingCall(lambda: self._bind_again(channel, next(rounds)))
        self._binding.clock = self._bus.clock
        self._binding.start(REBIND_EVERY, now=False)
        self._content.built()

    def _incomplete(self) -> None:
        before, self.session = self.session, None
        if before is not None:
            self._binding.stop()
        self._content.lost()  # also when it was not complete: messages may have been delivered

    # Exchanges and queues

    async def declare_exchange(
        self, session: Session, channel: Channel, exchange: ExchangeDeclaration
    ) -> None:
        """Declare *exchange*."""
        await channel.exchange_declare(exchange=exchange.name, exchange_type=exchange.kind, durable=True)
        session.declared(exchange.name)

    async def declare(self, channel: Channel, queue: QueueDeclaration) -> None:
        """Declare and bind *queue*, and bind it again in each round; raises :class:`QueueMismatch`."""
        await self.declare_once(channel, queue)
        self._declared[queue.name] = queue

    async def declare_once(self, channel: Channel, queue: QueueDeclaration) -> None:
        """Declare and bind *queue*; raises :class:`QueueMismatch` when it exists with other arguments."""
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

    def forget(self, name: str) -> None:
        """Do not bind the queue *name* again: the broker deletes it with its last consumer."""
        self._declared.pop(name, None)

    async def delete_own_queues(self, channel: Channel) -> None:
        """Delete the queues that no other worker uses."""
        for queue in self._declared.values():
            if queue.exclusive:
                await channel.queue_delete(queue=queue.name)

    def _bind_again(self, channel: Channel, number: int) -> Deferred[Any]:
        """Bind the queues again. A missing exchange closes the channel, and everything is built again."""
        leads = self.leadership is not None and self.leadership.leads
        shared = leads or number % SHARED_EVERY == 0
        binding = [
            channel.queue_bind(queue=queue.name, exchange=exchange, routing_key=key)
            for queue in self._declared.values()
            if queue.exclusive or shared
            for exchange, key in queue.bindings
        ]
        return gatherResults(binding, consumeErrors=True).addErrback(lambda _: None)  # lost() has the reason

    # Consumers

    async def consume(
        self,
        channel: Channel,
        queue: str,
        callback: OnMessage,
        *,
        no_ack: bool = True,
        exclusive: bool = False,
    ) -> str:
        """Consume *queue*, and build everything again when the broker ends that; return the consumer's tag."""
        return await channel.consume(
            queue, callback, no_ack=no_ack, exclusive=exclusive, on_cancel=self._consumer_cancelled
        )

    async def consume_jobs(self, channel: Channel, queue: str, callback: OnMessage) -> None:
        """Consume a queue of jobs, whose deliveries are acknowledged, until :meth:`stop_jobs`."""
        self._job_consumers.append(await self.consume(channel, queue, callback, no_ack=False))

    async def stop_jobs(self) -> None:
        """End the consumers of jobs; does nothing while the content is being built."""
        if self.session is not None and self.channel is not None:
            await self.add(self.end_job_consumers(self.channel))

    async def end_job_consumers(self, channel: Channel) -> None:
        """End the consumers of jobs on *channel*."""
        tags, self._job_consumers = self._job_consumers, []
        for tag in tags:
            await channel.cancel(tag)

    async def add(self, work: Awaitable[Any]) -> None:
        """Do *work* on the channel. If it fails everything is built again, which does the same."""
        try:
            await work
        except CancelledError:
            raise
        except Exception as error:
            self._broken.happen(error)

    def _consumer_cancelled(self) -> None:
        self._broken.happen(ConsumerCancelled("the broker canceled a consumer: its queue was deleted"))
