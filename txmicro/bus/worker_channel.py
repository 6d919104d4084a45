"""A worker's place on the bus: its inbox, its interactive jobs, and the events that it hears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from txmicro.amqp.channel import Channel
from txmicro.amqp.errors import AccessRefused, ChannelClosed
from txmicro.amqp.methods import Deliver
from txmicro.amqp.properties import Properties
from txmicro.errors import (
    DecodeError,
    DuplicateWorker,
    JobError,
    MessageTooLarge,
    NotPermitted,
    QueueLocked,
    TxmicroError,
)
from txmicro.protocol import messages, topology
from txmicro.protocol.address import ANY
from txmicro.protocol.handlers import EventHandler
from txmicro.protocol.job import Job
from txmicro.protocol.notifications import notification_kind

from .connections import Bus
from .publisher import Publisher
from .receiver import Receiver
from .robust_channel import RobustChannel
from .session import Session

Settle = Callable[[bool], None]


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

    def told(self, kind: str, body: Any) -> None:
        """A control message in the inbox."""

    def notified(self, topic: str, body: Any) -> None:
        """A notification."""

    def returned(self, kind: str, key: str) -> None:
        """A message of ours found no queue."""

    def refused(self, key: str, error: JobError) -> None:
        """The broker does not take the job *key*."""


@dataclass(frozen=True)
class Subscription:
    """One subscription to events."""

    pattern: str
    handler: EventHandler
    group: bool


class WorkerChannel(RobustChannel):
    """See the module.

    :param topics: notifications that the inbox hears.
    :ivar post: writes the worker's messages. :ivar reader: reads those for it.
    """

    def __init__(self, bus: Bus, occupant: Occupant, topics: tuple[str, ...], *, service: str) -> None:
        super().__init__(bus, occupant.id, service)
        self._occupant = occupant
        self._topics = topics
        self.post = Publisher(bus, occupant.id, self._metrics, occupant.returned, self._refused)
        self.reader = Receiver(bus, occupant.id, self._metrics)
        self._capacity = 0
        self._subscriptions: list[Subscription] = []
        self._opened: Deferred[None] | None = None
        self._suffix = self._next_suffix = ""  # of the names of the queues that are this worker's alone
        self._yielded = False

    # Its life

    def open(self) -> Deferred[None]:
        """Take the place. Fires when the inbox is consumed; fails with DuplicateWorker where the id is taken, and with
        AccessRefused where a right is missing that it takes.

        Until a broker answers it keeps trying. Cancelling gives up.
        """
        opened: Deferred[None] = Deferred(self._give_up)
        if not self._bus.add_listener(self._occupant.id, self):
            opened.errback(DuplicateWorker(f"two workers of this process are called {self._occupant.id}"))
            return opened
        self._opened = opened
        self._begin()
        return opened

    def _give_up(self, _opened: Deferred[None]) -> None:
        self._opened = None
        if self._life is not None:
            self._life.cancel()

    async def close(self) -> None:
        """Leave: the queues that are this worker's alone go, so that its id is free again."""
        self._bus.remove_listener(self._occupant.id)
        channel = await self._end()
        if channel is None:
            return
        try:
            for queue in self._declared.values():
                if queue.exclusive:
                    await channel.queue_delete(queue=queue.name)
            await channel.channel_close()
        except Exception as error:  # the broker deletes exclusive queues with the connection anyway
            self.log.debug("{worker} left without good-bye: {error}", worker=self._occupant.id, error=error)

    def _gives_up(self, reason: BaseException) -> bool:
        """Return whether the first start must fail: another worker has this id, or a right is missing.

        Later the one may be our own ghost, and the other may be put right.
        """
        opened = self._opened
        if opened is None or not isinstance(reason, DuplicateWorker | AccessRefused):
            return False
        self._opened = None
        self._bus.remove_listener(self._occupant.id)
        opened.errback(reason)
        return True

    def yields(self) -> bool:
        """Leave the bus to another worker of this id, unless this one has the queues' plain names.

        Return whether it does: it then takes its place again when these names are free.
        """
        if not self._suffix:
            return False
        self._yielded = True
        self._broken.happen(DuplicateWorker(f"another worker on the bus is called {self._occupant.id}"))
        return True

    def _stood(self) -> None:
        # A turn later, so that whoever waits for it may close the link.
        self._bus.clock.callLater(0, self._tell_opened)
        self._occupant.up()
        self._occupant.writable(self._bus.writable)

    def _fell(self) -> None:
        self.post.session = None
        self._occupant.writable(False)
        self._occupant.down()

    @property
    def _leads(self) -> bool:
        return self._occupant.leads

    def _tell_opened(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.callback(None)

    # What it has

    async def _build(self, session: Session, channel: Channel) -> None:
        worker, kind = self._occupant.id, self._occupant.type
        self._suffix, self._next_suffix = self._next_suffix, ""
        self._tags = []
        for exchange in topology.SHARED:
            if not await session.has(exchange.name):  # to declare it takes the right to delete it
                await self._declare_exchange(session, channel, exchange)
        for exchange in topology.exchanges(kind):
            await self._declare_exchange(session, channel, exchange)
        self.post.session = session  # jobs may come before all stands, and want their answers
        inbox = self._own(topology.inbox(worker, kind, self._topics))
        try:
            await self._declare(channel, inbox)
            await channel.consume(
                inbox.name, self._told, no_ack=True, exclusive=True, on_cancel=self._cancelled
            )
        except ChannelClosed as error:
            if error.reply_code in (403, 405) and not isinstance(error, AccessRefused):
                raise self._locked(inbox.name) from error
            raise
        self._yielded = self._yielded and bool(self._suffix)
        if self._capacity:
            await self._consume_jobs(session, channel)
        if not self._capacity:  # meanwhile
            await self._cancel_tags(channel)
        for subscription in self._subscriptions:
            await self._consume_events(session, channel, subscription)

    def _locked(self, name: str) -> TxmicroError:
        """Whoever has the names at our first start is another worker of this id. Later we take others meanwhile."""
        if self._opened is not None or self._yielded:
            return DuplicateWorker(f"another worker on the bus is called {self._occupant.id}")
        self._next_suffix = f".{int(self._bus.random() * 0x10000):04x}"
        return QueueLocked(f"{name} is locked: its queues get other names until it is free")

    def _own(self, queue: topology.QueueDeclaration) -> topology.QueueDeclaration:
        """Return the queue with the name that it has now, if it is this worker's alone."""
        return replace(queue, name=queue.name + self._suffix) if queue.exclusive else queue

    async def _consume_jobs(self, session: Session, channel: Channel) -> None:
        worker, kind = self._occupant.id, self._occupant.type
        self._tags = tags = []
        await channel.basic_qos(prefetch_count=self._capacity)
        arrived = partial(self._job_arrived, channel)
        for queue in (self._own(topology.direct(worker, kind)), topology.jobs(kind, session.features)):
            await self._declare(channel, queue)
            tags.append(await channel.consume(queue.name, arrived, on_cancel=self._cancelled))

    async def _consume_events(self, session: Session, channel: Channel, subscription: Subscription) -> None:
        worker, kind = self._occupant.id, self._occupant.type
        queue = self._own(
            topology.events(worker, kind, subscription.pattern, subscription.group, session.features)
        )
        await self._declare(channel, queue)
        heard = partial(self._event_arrived, subscription.handler)
        await channel.consume(queue.name, heard, no_ack=True, on_cancel=self._cancelled)

    async def take_jobs(self, capacity: int) -> None:
        """Consume jobs from now on, at most *capacity* per queue unsettled; survives every rebuilding."""
        self._capacity = capacity
        if self._session is not None and self._channel is not None:
            await self._add(self._consume_jobs(self._session, self._channel))

    async def stop_jobs(self) -> None:
        """Take no more jobs; those that are here can still be settled."""
        self._capacity = 0
        self._declared.pop(topology.jobs_queue(self._occupant.type), None)  # it goes with its last consumer
        await self._stop_taking()

    async def subscribe(self, pattern: str, handler: EventHandler, group: bool) -> None:
        """Hear events whose topic matches *pattern*; *group*: share them with the workers of the type."""
        subscription = Subscription(pattern, handler, group)
        self._subscriptions.append(subscription)
        if self._session is not None and self._channel is not None:
            await self._add(self._consume_events(self._session, self._channel, subscription))

    # What it reads

    def _job_arrived(self, channel: Channel, deliver: Deliver, properties: Properties, body: bytes) -> None:
        settle = partial(self._settle, channel, deliver.delivery_tag)
        try:
            headers = properties.headers or {}
            job = Job.from_body(
                self.reader.read(properties, body),
                self._bus.clock.seconds(),
                redelivered=deliver.redelivered,
                traceparent=headers.get("traceparent"),
            )
        except DecodeError as error:
            self.reader.dropped(messages.JOB, error)
            settle(True)
            return
        self.reader.received(messages.JOB)
        self._occupant.job_arrived(job, settle)

    def _told(self, deliver: Deliver, properties: Properties, body: bytes) -> None:
        notification = deliver.exchange == topology.NOTIFICATIONS
        kind = deliver.routing_key if notification else properties.message_type or ""
        label = notification_kind(kind) if notification else kind
        try:
            content = self.reader.read(properties, body) if body else None
            if notification:
                self._occupant.notified(kind, content)
            else:
                self._occupant.told(kind, content)
        except TxmicroError as error:  # not to be read, or more than is kept
            self.reader.dropped(label, error)
        else:
            self.reader.received(label)

    def _event_arrived(
        self, handler: EventHandler, deliver: Deliver, properties: Properties, body: bytes
    ) -> None:
        try:
            content = self.reader.read(properties, body)
        except DecodeError as error:
            self.reader.dropped(messages.EVENT, error)
            return
        self.reader.received(messages.EVENT)
        handler(deliver.routing_key, content.get("data"))

    def _refused(self, kind: str, key: str, error: NotPermitted | MessageTooLarge) -> None:
        self._metrics.record_error(error.type)
        if self._said.first(str(error) if isinstance(error, NotPermitted) else f"{kind} is too large"):
            self.log.error(
                "{worker}: the broker does not take a {kind!r} (this is said once): {error}",
                worker=self._occupant.id,
                kind=kind,
                error=error,
            )
        if kind == messages.JOB and key:
            self._occupant.refused(key, error)

    # What the manager asks

    async def nobody_takes(self, address: str) -> bool:
        """Return whether nobody takes jobs for *address*: its queue has no consumer, or the worker has no inbox.

        Waits for a connection. Raises AccessRefused or :class:`~txmicro.protocol.parcel.Forbidden` when a
        right is missing,
        and what ended the connection.
        """
        kind, _, name = address.partition(":")
        session = await self._bus.when_connected()
        if name == ANY:
            return await session.consumers(topology.jobs_queue(kind)) <= 0
        return not await self.post.reaches(address)

    # The bus's words (bus.Listener)

    def returned(self, kind: str, key: str) -> None:
        """Pass it on."""
        self._occupant.returned(kind, key)

    def writable(self, writable: bool) -> None:
        """Pass it on, while the place stands."""
        if self._session is not None:
            self._occupant.writable(writable)
