"""The channel of a worker or manager: its inbox, its interactive jobs, and the events that it subscribed to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import AccessRefused, ChannelClosed
from txmicro.amqp.methods import Deliver
from txmicro.amqp.properties import Properties
from txmicro.errors import DecodeError, DuplicateWorker, QueueLocked, TxmicroError
from txmicro.metrics import INTERACTIVE
from txmicro.protocol import messages, topology
from txmicro.protocol.address import ANY
from txmicro.protocol.delivery import Delivery
from txmicro.protocol.handlers import EventReceiver
from txmicro.protocol.job import Job
from txmicro.protocol.notifications import notification_kind
from txmicro.protocol.trace_headers import read_trace

from .connections import Bus
from .publisher import Publisher
from .receiver import Receiver
from .robust_channel import Leadership, RobustChannel
from .session import Session


class Inbox(Protocol):
    """Handles the messages of an inbox. It may raise :class:`~txmicro.errors.TxmicroError`: the message is dropped."""

    def told(self, kind: str, body: Any) -> None:
        """Handle a control message."""

    def notified(self, topic: str, body: Any) -> None:
        """Handle a notification."""


class Observer(Protocol):
    """Follows the state of a channel."""

    def connected(self) -> None:
        """Note that the inbox and everything else is consumed, again or for the first time."""

    def disconnected(self) -> None:
        """Note that something was lost: deliveries of before cannot be acknowledged any more."""


class Flow(Protocol):
    """Holds jobs back while nothing can be published."""

    def writable(self, writable: bool) -> None:
        """Note whether messages can be published now."""


class JobIntake(Protocol):
    """Takes interactive jobs: the :class:`~txmicro.receiving.intake.Intake`."""

    def arrived(self, job: Job, delivery: Delivery) -> None:
        """Take a copy of *job*; acknowledge or requeue its delivery once."""


@dataclass(frozen=True)
class Subscription:
    """One subscription to events."""

    pattern: str
    handler: EventReceiver
    group: bool


class WorkerChannel:
    """The channel of one worker or manager, which is built again when it is lost.

    :param worker: its id.
    :param topics: the notifications that its inbox receives.
    :param service: the name under which its errors and messages are counted.
    :ivar publisher: publishes its messages.
    :ivar receiver: decodes the messages for it.
    :ivar robust: the channel that is built again.
    """

    def __init__(self, bus: Bus, worker: str, topics: tuple[str, ...], *, service: str) -> None:
        self._bus = bus
        self._worker = worker
        self._kind = worker.partition(":")[0]
        self._topics = topics
        self._metrics = bus.metrics.service(service)
        self._received = self._metrics.received
        self.publisher = Publisher(bus, worker, self._metrics)
        self.receiver = Receiver(bus, worker, self._metrics)
        self.robust = RobustChannel(bus, worker, service, self)
        self._inbox: Inbox
        self._observer: Observer
        self._flow: Flow | None = None
        self._jobs: JobIntake
        self._capacity = 0
        self._subscriptions: list[Subscription] = []
        self._opened: Deferred[None] | None = None
        self._suffix = self._next_suffix = ""  # of the names of the queues that only this worker uses
        self._yielded = False

    # Its life

    def open(
        self,
        inbox: Inbox,
        observer: Observer,
        *,
        flow: Flow | None = None,
        leadership: Leadership | None = None,
    ) -> Deferred[None]:
        """Declare and consume the inbox, and keep it consumed.

        :param leadership: whether this worker looks after the queues that its type shares; None: it does not.

        Fires with None when the inbox is consumed. Fails with DuplicateWorker when another worker has this id, and
        with AccessRefused when a needed right is missing. It keeps trying until a broker answers. Canceling it ends
        the attempts.
        """
        self._inbox, self._observer, self._flow = inbox, observer, flow
        self.robust.leadership = leadership
        opened: Deferred[None] = Deferred(self._cancel_opening)
        if not self._bus.add_listener(self._worker, self):
            opened.errback(DuplicateWorker(f"two workers of this process are called {self._worker}"))
            return opened
        self._opened = opened
        self.robust.start()
        return opened

    def _cancel_opening(self, _opened: Deferred[None]) -> None:
        self._opened = None
        self.robust.cancel()

    @property
    def ready(self) -> bool:
        """True while everything is declared and consumed."""
        return self.robust.ready

    async def close(self) -> None:
        """Delete the queues that only this worker uses, which frees its id, and close the channel."""
        self._bus.remove_listener(self._worker)
        channel = await self.robust.stop()
        if channel is None:
            return
        try:
            await self.robust.delete_own_queues(channel)
            await channel.channel_close()
        except Exception as error:  # the broker deletes exclusive queues with the connection anyway
            self.robust.log.debug(
                "{worker}: its channel could not be closed in order: {error}",
                worker=self._worker,
                error=error,
            )

    def yields(self) -> bool:
        """Release the inbox for another worker of this id, unless this one has the plain queue names.

        Return whether it does. It declares its queues again when the plain names are free.
        """
        if not self._suffix:
            return False
        self._yielded = True
        self.robust.rebuild(DuplicateWorker(f"another worker on the bus is called {self._worker}"))
        return True

    # Consumers

    async def take_jobs(self, capacity: int, jobs: JobIntake) -> None:
        """Consume jobs for *jobs*, also after each loss.

        :param capacity: how many jobs per queue may be unacknowledged.
        """
        self._capacity, self._jobs = capacity, jobs
        if self.robust.session is not None and self.robust.channel is not None:
            await self.robust.add(self._consume_jobs(self.robust.session, self.robust.channel))

    async def stop_jobs(self) -> None:
        """Consume no more jobs; those that were delivered can still be acknowledged."""
        self._capacity = 0
        self.robust.forget(topology.jobs_queue(self._kind))
        await self.robust.stop_jobs()

    async def subscribe(self, pattern: str, handler: EventReceiver, group: bool) -> None:
        """Call *handler* for each event whose topic matches *pattern*, also after each loss.

        :param group: whether each event goes to one worker of the type instead of to each.
        """
        subscription = Subscription(pattern, handler, group)
        self._subscriptions.append(subscription)
        if self.robust.session is not None and self.robust.channel is not None:
            await self.robust.add(
                self._consume_events(self.robust.session, self.robust.channel, subscription)
            )

    async def nobody_takes(self, address: str) -> bool:
        """Return whether nobody takes jobs for *address*: its queue has no consumer, or the worker has no inbox.

        Waits for a connection. Raises AccessRefused or :class:`~txmicro.protocol.parcel.Forbidden` when a right is
        missing, and the reason when the connection is lost.
        """
        kind, _, name = address.partition(":")
        session = await self._bus.when_connected()
        if name == ANY:
            return await session.consumers(topology.jobs_queue(kind)) <= 0
        return not await self.publisher.reaches(address)

    # Called by the robust channel (robust_channel.ChannelContent)

    async def connection(self, session: Session) -> Connection:
        """Return the connection that consumes."""
        return session.consuming

    async def build(self, session: Session, channel: Channel) -> None:
        """Declare the exchanges and the inbox, and consume the inbox, the jobs and the events."""
        self._suffix, self._next_suffix = self._next_suffix, ""
        for exchange in topology.SHARED:
            if not await session.has(exchange.name):  # to declare it takes the right to delete it
                await self.robust.declare_exchange(session, channel, exchange)
        for exchange in topology.exchanges(self._kind):
            await self.robust.declare_exchange(session, channel, exchange)
        self.publisher.connected(
            session
        )  # a job may arrive before all is built, and its answer must be published
        inbox = self._own(topology.inbox(self._worker, self._kind, self._topics))
        try:
            await self.robust.declare(channel, inbox)
            await self.robust.consume(channel, inbox.name, self._inbox_message, exclusive=True)
        except ChannelClosed as error:
            if error.reply_code in (403, 405) and not isinstance(error, AccessRefused):
                raise self._locked(inbox.name) from error
            raise
        self._yielded = self._yielded and bool(self._suffix)
        if self._capacity:
            await self._consume_jobs(session, channel)
        if not self._capacity:  # stop_jobs() was called meanwhile
            await self.robust.end_job_consumers(channel)
        for subscription in self._subscriptions:
            await self._consume_events(session, channel, subscription)

    def built(self) -> None:
        """Tell who waits for it, the worker and its machines."""
        # In another turn of the reactor, so that the callback may close this channel.
        self._bus.clock.callLater(0, self._tell_opened)
        self._observer.connected()
        if self._flow is not None:
            self._flow.writable(self._bus.writable)

    def lost(self) -> None:
        """Tell the worker and its machines."""
        self.publisher.disconnected()
        if self._flow is not None:
            self._flow.writable(False)
        self._observer.disconnected()

    def gives_up(self, reason: BaseException) -> bool:
        """Return whether the first start must fail: another worker has this id, or a right is missing.

        Later the former may be this worker's lost connection, and the latter may be granted.
        """
        opened = self._opened
        if opened is None or not isinstance(reason, DuplicateWorker | AccessRefused):
            return False
        self._opened = None
        self._bus.remove_listener(self._worker)
        opened.errback(reason)
        return True

    def _tell_opened(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.callback(None)

    def _locked(self, name: str) -> TxmicroError:
        """Return why the names are in use: another worker has them at the first start, later our lost connection."""
        if self._opened is not None or self._yielded:
            return DuplicateWorker(f"another worker on the bus is called {self._worker}")
        self._next_suffix = f".{int(self._bus.random() * 0x10000):04x}"
        return QueueLocked(f"{name} is locked: its queues get other names until it is free")

    def _own(self, queue: topology.QueueDeclaration) -> topology.QueueDeclaration:
        """Return the queue with its name of now, if only this worker uses it."""
        return replace(queue, name=queue.name + self._suffix) if queue.exclusive else queue

    async def _consume_jobs(self, session: Session, channel: Channel) -> None:
        await channel.basic_qos(prefetch_count=self._capacity)
        arrived = partial(self._job_message, channel)
        direct = self._own(topology.direct(self._worker, self._kind))
        for queue in (direct, topology.jobs(self._kind, session.features)):
            await self.robust.declare(channel, queue)
            await self.robust.consume_jobs(channel, queue.name, arrived)

    async def _consume_events(self, session: Session, channel: Channel, subscription: Subscription) -> None:
        queue = self._own(
            topology.events(
                self._worker, self._kind, subscription.pattern, subscription.group, session.features
            )
        )
        await self.robust.declare(channel, queue)
        await self.robust.consume(channel, queue.name, partial(self._event_message, subscription.handler))

    # Received messages

    def _job_message(self, channel: Channel, deliver: Deliver, properties: Properties, body: bytes) -> None:
        delivery = Delivery(channel, deliver.delivery_tag)
        headers = properties.headers
        traceparent, tracestate = read_trace(headers) if headers else (None, None)
        try:
            job = Job.from_body(
                self.receiver.read(properties, body),
                self._bus.clock.seconds(),
                redelivered=deliver.redelivered,
                traceparent=traceparent,
                tracestate=tracestate,
            )
        except DecodeError as error:
            self.receiver.dropped(messages.JOB, error)
            delivery.ack()
            return
        self._received[messages.JOB].value += 1
        if deliver.redelivered:
            self._metrics.record_redelivery(INTERACTIVE)
        self._jobs.arrived(job, delivery)

    def _inbox_message(self, deliver: Deliver, properties: Properties, body: bytes) -> None:
        notification = deliver.exchange == topology.NOTIFICATIONS
        kind = deliver.routing_key if notification else properties.message_type or ""
        label = notification_kind(kind) if notification else kind
        try:
            content = self.receiver.read(properties, body) if body else None
            if notification:
                self._inbox.notified(kind, content)
            else:
                self._inbox.told(kind, content)
        except TxmicroError as error:  # it cannot be read, or more is told than is kept
            self.receiver.dropped(label, error)
        else:
            self._received[label].value += 1

    def _event_message(
        self, handler: EventReceiver, deliver: Deliver, properties: Properties, body: bytes
    ) -> None:
        try:
            content = self.receiver.read(properties, body)
        except DecodeError as error:
            self.receiver.dropped(messages.EVENT, error)
            return
        self._received[messages.EVENT].value += 1
        headers = properties.headers
        handler(deliver.routing_key, content.get("data"), read_trace(headers) if headers else (None, None))

    # Called by the bus (connections.Listener)

    def returned(self, kind: str, key: str) -> None:
        """Tell the publisher that a message of this worker found no queue."""
        self.publisher.came_back(kind, key)

    def writable(self, writable: bool) -> None:
        """Tell the machines whether messages can be published, while everything is built."""
        if self._flow is not None and self.robust.session is not None:
            self._flow.writable(writable)
