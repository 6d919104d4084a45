"""A worker's place on the bus: its channel, queues and consumers, and how its messages are read.

A :class:`Link` outlives connections: whatever is lost (the session, its channel, a queue, a consumer) it
builds all of its own again, from what it was told to have.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from . import messages, topology
from .address import ANY
from .amqp.client import Channel, ChannelClosed, ConnectionLost
from .amqp.errors import AccessRefused
from .amqp.frames import Deliver, Properties
from .bus import REFUSED_DELAY, Bus
from .codec import by_content_type
from .durable import Delivery
from .errors import BusClosed, ConsumerCancelled, DecodeError, DuplicateWorker, TxmicroError
from .log import Said
from .messages import Job
from .once import Once
from .post import Post
from .session import Session

REBIND_EVERY: Final = 3.0
"""Seconds between two looks at the bindings: nobody tells us when an operator deletes an exchange."""

SHARED_EVERY: Final = 20
"""Looks of one's own between two at what all of the type share, which the eldest takes with every look."""

Settle = Callable[[bool], None]
Handler = Callable[[str, Any], Any]


class Occupant(Protocol):
    """Whose place it is: what a link tells its worker or manager. DecodeError is a legal answer to a body."""

    @property
    def id(self) -> str:
        """The worker's id."""

    @property
    def type(self) -> str:
        """The worker's type."""

    @property
    def leads(self) -> bool:
        """Whether it looks after what all of its type share."""

    def up(self) -> None:
        """Everything stands, again or for the first time."""

    def down(self) -> None:
        """Something was lost, and is being built again: broker acknowledgements of before are void."""

    def writable(self, writable: bool) -> None:
        """Whether jobs may be published, now."""

    def job_arrived(self, job: Job, settle: Settle) -> None:
        """A copy of a job; ``settle(True)`` acknowledges it to the broker, ``settle(False)`` puts it back."""

    def durable_arrived(self, delivery: Delivery) -> None:
        """A durable job; its ``settle`` as above."""

    def told(self, kind: str, body: Any) -> None:
        """A control message in the inbox."""

    def notified(self, topic: str, body: Any) -> None:
        """A notification."""

    def returned(self, kind: str, key: str) -> None:
        """A message of ours found no queue."""

    def refused(self, key: str, reason: str) -> None:
        """The broker's permissions forbid to send the job *key*."""


@dataclass(frozen=True)
class Subscription:
    """One subscription to events."""

    pattern: str
    handler: Handler
    group: bool


@dataclass(frozen=True)
class Lanes:
    """What jobs a worker takes.

    :ivar capacity: how many interactive copies may be unsettled, per queue.
    :ivar slots: how many durable jobs may be; 0: it takes none.
    :ivar steps: seconds between the attempts of a durable job.
    """

    capacity: int
    slots: int
    steps: tuple[float, ...]


class Link:
    """See the module.

    :param topics: notifications that the inbox hears.
    :ivar post: writes the worker's messages.
    """

    log = Logger()

    def __init__(self, bus: Bus, occupant: Occupant, topics: tuple[str, ...], *, service: str) -> None:
        self._bus = bus
        self._occupant = occupant
        self._topics = topics
        self._metrics = bus.metrics.service(service)
        self._said = Said()
        self.post = Post(bus, occupant.id, self._metrics, occupant.returned, self._refused)
        self._lanes: Lanes | None = None
        self._subscriptions: list[Subscription] = []
        self._session: Session | None = None
        self._channel: Channel | None = None
        self._job_tags: list[str] = []
        self._declared: dict[str, topology.Queue] = {}
        self._broken: Once[BaseException] = Once()
        self._life: Deferred[None] | None = None
        self._opened: Deferred[None] | None = None
        self._delay = backoffPolicy(initialDelay=0.05, maxDelay=3.0, factor=1.8, jitter=bus.random)

    # Its life

    def open(self) -> Deferred[None]:
        """Take the place. Fires when the inbox is consumed; fails with DuplicateWorker where the id is taken.

        Until a broker answers it keeps trying. Cancelling gives up.
        """
        opened: Deferred[None] = Deferred(self._give_up)
        if not self._bus.add_listener(self._occupant.id, self):
            opened.errback(DuplicateWorker(f"two workers of this process are called {self._occupant.id}"))
            return opened
        self._opened = opened
        self._life = Deferred.fromCoroutine(self._live())
        return opened

    def _give_up(self, _opened: Deferred[None]) -> None:
        self._opened = None
        if self._life is not None:
            self._life.cancel()

    async def close(self) -> None:
        """Leave: the queues that are this worker's alone go, so that its id is free again."""
        self._bus.remove_listener(self._occupant.id)
        if self._life is not None:
            self._life.cancel()
            await self._life
            self._life = None
        channel, self._channel = self._channel, None
        if channel is None:
            return
        try:
            for name in self._own_queues():
                await channel.queue_delete(queue=name)
            await channel.channel_close()
        except Exception as error:  # the broker deletes exclusive queues with the connection anyway
            self.log.debug("{worker} left without good-bye: {error}", worker=self._occupant.id, error=error)

    def _own_queues(self) -> list[str]:
        worker, kind = self._occupant.id, self._occupant.type
        own = [s for s in self._subscriptions if not s.group]
        return [
            topology.inbox_queue(worker),
            topology.direct_queue(worker),
            *(topology.events(worker, kind, s.pattern, False, topology.Features()).name for s in own),
        ]

    async def _live(self) -> None:
        attempt = 0
        try:
            while True:
                session = await self._bus.when_connected()
                began = self._bus.clock.seconds()
                reason = await self._stay(session)
                await self._drop_channel()
                attempt = 0 if self._bus.clock.seconds() - began > 10 else attempt + 1
                if isinstance(reason, DuplicateWorker) and self._opened is not None:
                    self._refuse(self._opened, reason)
                    return
                self.log.warn(
                    "{worker} lost its place on the bus: {reason}", worker=self._occupant.id, reason=reason
                )
                refused = isinstance(reason, AccessRefused)
                await deferLater(self._bus.clock, REFUSED_DELAY if refused else self._delay(attempt))
        except (CancelledError, BusClosed):
            return

    def _refuse(self, opened: Deferred[None], reason: DuplicateWorker) -> None:
        self._opened = None
        self._bus.remove_listener(self._occupant.id)
        opened.errback(reason)

    async def _stay(self, session: Session) -> BaseException:
        """Build all of it, and stay until something is lost; returns what was."""
        broken = self._broken = Once()
        lost = session.lost().addCallbacks(broken.happen, lambda _: None)
        try:
            self._channel = await session.consuming.channel_open()
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
        """Close what is left of the channel: it would keep the inbox from the next one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            with suppress(ChannelClosed, ConnectionLost):  # it is gone: just as well
                await channel.channel_close()

    def _stand(self, session: Session, channel: Channel) -> None:
        self._session = session
        looks = itertools.count(1)
        self._binding = LoopingCall(lambda: self._bind_again(channel, next(looks)))
        self._binding.clock = self._bus.clock
        self._binding.start(REBIND_EVERY, now=False)
        # A turn later, so that whoever waits for it may close the link.
        self._bus.clock.callLater(0, self._tell_opened)
        self._occupant.up()
        self._occupant.writable(self._bus.writable)

    def _tell_opened(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.callback(None)

    def _fall(self) -> None:
        stood, self._session = self._session, None
        self.post.session = None
        if stood is not None:
            self._binding.stop()
            self._occupant.writable(False)
            self._occupant.down()

    # What it has

    async def _build(self, session: Session, channel: Channel) -> None:
        worker, kind = self._occupant.id, self._occupant.type
        self._declared.clear()
        for exchange in topology.SHARED:
            if not await session.has(exchange.name):  # to declare it takes the right to delete it
                await self._declare_exchange(session, channel, exchange)
        for exchange in topology.exchanges(kind):
            await self._declare_exchange(session, channel, exchange)
        self.post.session = session  # jobs may come before all stands, and want their answers
        inbox = topology.inbox(worker, kind, self._topics)
        try:
            await self._declare(channel, inbox)
            await channel.consume(
                inbox.name, self._told, no_ack=True, exclusive=True, on_cancel=self._cancelled
            )
        except ChannelClosed as error:
            if error.reply_code in (403, 405) and not isinstance(error, AccessRefused):
                raise DuplicateWorker(f"another worker on the bus is called {worker}") from error
            raise
        if self._lanes is not None:
            await self._consume_jobs(session, channel, self._lanes)
        for subscription in self._subscriptions:
            await self._consume_events(session, channel, subscription)

    async def _declare_exchange(
        self, session: Session, channel: Channel, exchange: topology.Exchange
    ) -> None:
        await channel.exchange_declare(exchange=exchange.name, exchange_type=exchange.kind, durable=True)
        session.declared(exchange.name)

    async def _declare(self, channel: Channel, queue: topology.Queue) -> None:
        await channel.queue_declare(
            queue=queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=queue.arguments,
        )
        for exchange, key in queue.bindings:
            await channel.queue_bind(queue=queue.name, exchange=exchange, routing_key=key)
        self._declared[queue.name] = queue

    def _bind_again(self, channel: Channel, look: int) -> Deferred[Any]:
        """Where an exchange is missing, this costs the channel, and all is built again."""
        shared = self._occupant.leads or look % SHARED_EVERY == 0
        binding = [
            channel.queue_bind(queue=queue.name, exchange=exchange, routing_key=key)
            for queue in self._declared.values()
            if queue.exclusive or shared
            for exchange, key in queue.bindings
        ]
        return gatherResults(binding, consumeErrors=True).addErrback(lambda _: None)  # lost() says why

    async def _consume_jobs(self, session: Session, channel: Channel, lanes: Lanes) -> None:
        worker, kind = self._occupant.id, self._occupant.type
        self._job_tags = tags = []
        if lanes.slots:
            tags += await self._consume_durable(session, channel, lanes)
        await channel.basic_qos(prefetch_count=lanes.capacity)
        arrived = partial(self._job_arrived, channel)
        for queue in (topology.direct(worker, kind), topology.jobs(kind, session.features)):
            await self._declare(channel, queue)
            tags.append(await channel.consume(queue.name, arrived, on_cancel=self._cancelled))

    async def _consume_durable(self, session: Session, channel: Channel, lanes: Lanes) -> list[str]:
        kind = self._occupant.type
        if not session.features.safe_dead_letters and self._said.first("dead letters"):
            self.log.warn(
                "dead letters and retries may be lost when this broker fails: RabbitMQ has safe ones since 3.10"
            )
        await self._declare_exchange(session, channel, topology.Exchange(topology.durable_exchange(kind)))
        for queue in topology.durable_queues(kind, lanes.steps, session.features):
            await self._declare(channel, queue)
        tags = []
        sources = (
            (topology.quarantine_queue(kind), 1, True),
            (topology.durable_queue(kind), lanes.slots, False),
        )
        for name, prefetch, quarantined in sources:
            await channel.basic_qos(prefetch_count=prefetch)  # of the consumers to come
            arrived = partial(self._durable_arrived, channel, quarantined)
            tags.append(await channel.consume(name, arrived, on_cancel=self._cancelled))
        return tags

    async def _consume_events(self, session: Session, channel: Channel, subscription: Subscription) -> None:
        queue = topology.events(
            self._occupant.id, self._occupant.type, subscription.pattern, subscription.group, session.features
        )
        await self._declare(channel, queue)
        heard = partial(self._event_arrived, subscription.handler)
        await channel.consume(queue.name, heard, no_ack=True, on_cancel=self._cancelled)

    def _cancelled(self) -> None:
        self._broken.happen(ConsumerCancelled("the broker cancelled a consumer: its queue has gone"))

    async def take_jobs(self, lanes: Lanes) -> None:
        """Consume jobs from now on; survives every rebuilding."""
        self._lanes = lanes
        if self._session is not None and self._channel is not None:
            await self._add(self._consume_jobs(self._session, self._channel, lanes))

    async def stop_jobs(self) -> None:
        """Take no more jobs; those that are here can still be settled."""
        self._lanes = None
        self._declared.pop(topology.jobs_queue(self._occupant.type), None)  # it goes with its last consumer
        tags, self._job_tags = self._job_tags, []
        if self._session is not None and self._channel is not None:
            for tag in tags:
                await self._add(self._channel.cancel(tag))

    async def subscribe(self, pattern: str, handler: Handler, group: bool) -> None:
        """Hear events whose topic matches *pattern*; *group*: share them with the workers of the type."""
        subscription = Subscription(pattern, handler, group)
        self._subscriptions.append(subscription)
        if self._session is not None and self._channel is not None:
            await self._add(self._consume_events(self._session, self._channel, subscription))

    async def _add(self, work: Any) -> None:
        """Do something on the standing channel; if that breaks it, the rebuilding does it instead."""
        try:
            await work
        except CancelledError:
            raise
        except Exception as error:
            self._broken.happen(error)

    # What it reads

    def _decode(self, properties: Properties, body: bytes) -> Any:
        if len(body) > self._bus.max_message:
            raise DecodeError(f"{len(body)} bytes, more than max_message ({self._bus.max_message})")
        return by_content_type(properties.content_type or "").decode(body)

    def _job_arrived(self, channel: Channel, deliver: Deliver, properties: Properties, body: bytes) -> None:
        settle = partial(self._settle, channel, deliver.delivery_tag)
        try:
            headers = properties.headers or {}
            job = Job.from_body(
                self._decode(properties, body),
                self._bus.clock.seconds(),
                redelivered=deliver.redelivered,
                traceparent=headers.get("traceparent"),
            )
        except DecodeError as error:
            self._undecodable(messages.JOB, error)
            settle(True)
            return
        self._metrics.record_message_received(messages.JOB)
        self._occupant.job_arrived(job, settle)

    def _durable_arrived(
        self, channel: Channel, quarantined: bool, deliver: Deliver, properties: Properties, body: bytes
    ) -> None:
        headers = properties.headers or {}
        delivery = Delivery(
            None,
            properties.message_id or "",
            body,
            properties.content_type,
            partial(self._settle, channel, deliver.delivery_tag),
            headers,
            deliver.redelivered,
            quarantined,
        )
        try:
            content = self._decode(properties, body)
            job = Job.from_body(content, self._bus.clock.seconds(), traceparent=headers.get("traceparent"))
        except DecodeError as error:
            self._undecodable(messages.JOB, error)
        else:
            self._metrics.record_message_received(messages.JOB)
            job.durable, job.tries = True, delivery.attempt - 1
            job.redelivered = deliver.redelivered or quarantined
            delivery.job, delivery.key = job, job.key
        self._occupant.durable_arrived(delivery)

    def _settle(self, channel: Channel, tag: int, done: bool) -> None:
        if channel is not self._channel:
            return  # an acknowledgement belongs to the channel that delivered: this one has gone
        if done:
            channel.ack(tag)
        else:
            channel.reject(tag, True)

    def _told(self, deliver: Deliver, properties: Properties, body: bytes) -> None:
        notification = deliver.exchange == topology.NOTIFICATIONS
        kind = deliver.routing_key if notification else properties.message_type or ""
        label = messages.notification_kind(kind) if notification else kind
        try:
            content = self._decode(properties, body) if body else None
            if notification:
                self._occupant.notified(kind, content)
            else:
                self._occupant.told(kind, content)
        except TxmicroError as error:  # not to be read, or more than is kept
            self._undecodable(label, error)
        else:
            self._metrics.record_message_received(label)

    def _event_arrived(self, handler: Handler, deliver: Deliver, properties: Properties, body: bytes) -> None:
        try:
            content = self._decode(properties, body)
        except DecodeError as error:
            self._undecodable(messages.EVENT, error)
            return
        self._metrics.record_message_received(messages.EVENT)
        handler(deliver.routing_key, content)

    def _undecodable(self, kind: str, error: TxmicroError) -> None:
        self._metrics.record_error(type(error).__name__)
        if self._said.first(("undecodable", kind)):
            self.log.warn(
                "{worker} dropped a {kind!r} that it cannot use (the next ones are only counted): {error}",
                worker=self._occupant.id,
                kind=kind,
                error=error,
            )

    def _refused(self, kind: str, key: str, error: AccessRefused) -> None:
        self._metrics.record_error("AccessRefused")
        if self._said.first(str(error)):
            self.log.error(
                "{worker} may not send a {kind!r} (this is said once): {error}",
                worker=self._occupant.id,
                kind=kind,
                error=error,
            )
        if kind == messages.JOB and key:
            self._occupant.refused(key, str(error))

    @property
    def stands(self) -> bool:
        """Whether everything that this place has is there, now."""
        return self._session is not None

    # What the manager asks

    async def consumers(self, address: str) -> int:
        """How many consumers take jobs for *address*; -1: its queue does not exist. Fails while nothing stands."""
        kind, _, name = address.partition(":")
        queue = topology.jobs_queue(kind) if name == ANY else topology.direct_queue(address)
        session = await self._bus.when_connected()
        return await session.consumers(queue)

    # The bus's words (bus.Listener)

    def returned(self, kind: str, key: str) -> None:
        """Pass it on."""
        self._occupant.returned(kind, key)

    def writable(self, writable: bool) -> None:
        """Pass it on, while the place stands."""
        if self._session is not None:
            self._occupant.writable(writable)
