"""A worker's consumers of durable jobs.

They stand on a connection of their own: a quorum queue without a leader lets whoever asks for it wait, and one
that is broken for good ends the connection. That must not cost the jobs that somebody waits for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.methods import Deliver
from txmicro.amqp.properties import Properties
from txmicro.errors import BusClosed, DecodeError, QueueMismatch
from txmicro.protocol import messages, topology
from txmicro.protocol.durable_delivery import Delivery
from txmicro.protocol.job import Job
from txmicro.util.once import Once

from .connections import Bus
from .receiver import Receiver
from .robust_channel import RobustChannel
from .session import Session


class DurableChannel(RobustChannel):
    """See the module.

    :param kind: the worker's type.
    :param leads: whether this worker looks after what all of its type share.
    :param arrived: told of each delivery.
    :param lost: told that the deliveries of before cannot be settled any more.
    """

    def __init__(
        self,
        bus: Bus,
        worker: str,
        kind: str,
        reader: Receiver,
        *,
        leads: Callable[[], bool],
        arrived: Callable[[Delivery], None],
        lost: Callable[[], None],
    ) -> None:
        super().__init__(bus, worker, kind)
        self._kind = kind
        self._reader = reader
        self._lead = leads
        self._arrived = arrived
        self._lost = lost
        self._slots = 0  # none are taken
        self._first: Once[None] = Once()
        self._retries: dict[float, Once[None]] = {}  # by their steps: declared, or being declared
        self._awaited = False  # by who starts

    def start(self, slots: int) -> Deferred[None]:
        """Consume, from now on, at most *slots* jobs unsettled.

        Fires when that stands for the first time; cancelling stops the wait.
        Fails with :class:`QueueMismatch`, and takes nothing, when a queue stands there as another one. What is found
        so when nobody waits any more is tried again, as it may be put right.
        """
        self._slots, self._awaited = slots, True
        self._begin()
        return self._first.wait(self._not_awaited)

    def _not_awaited(self) -> None:
        self._awaited = False

    async def stop(self) -> None:
        """Take no more; what is here can still be settled."""
        self._slots = 0
        await self._stop_taking()

    async def close(self) -> None:
        """Leave; what is not settled goes back to the broker."""
        self._channel = await self._end()
        await self._drop_channel()

    async def declare_retry(self, step: float) -> None:
        """Declare the queue of jobs that wait *step* seconds, unless that was done.

        Fails with :class:`QueueMismatch`, :class:`BusClosed` when nothing stands, or what the broker has against it.
        """
        declared = self._retries.get(step)
        if declared is None:
            declared = self._retries[step] = Once()
            Deferred.fromCoroutine(self._declare_retry(step)).addBoth(declared.happen)
        try:
            await declared.wait()
        except Exception:
            self.forget_retry(step)
            raise

    def forget_retry(self, step: float) -> None:
        """Declare that queue again when it is needed again."""
        self._retries.pop(step, None)

    async def _declare_retry(self, step: float) -> None:
        session = self._session
        if session is None:
            raise BusClosed("nothing stands")
        connection = await session.keeping()
        # Not on the channel of the deliveries, which would be lost with it if this fails.
        channel = await connection.channel_open()
        try:
            await self._declare_queue(channel, topology.retry(self._kind, step, session.features))
        except QueueMismatch as error:
            self._complain(error)
            raise
        channel.channel_close().addErrback(lambda _: None)

    # What Place asks

    async def _connection(self, session: Session) -> Connection:
        return await session.keeping()

    async def _build(self, session: Session, channel: Channel) -> None:
        kind, slots = self._kind, self._slots
        if not slots:  # it only settles what it has
            return
        if not session.features.safe_dead_letters and not self._first.happened:
            self.log.warn(
                "dead letters and retries may be lost when this broker fails: RabbitMQ has safe ones since 3.10"
            )
        # Where jobs come from is the link's to declare, but if it was deleted, the link may not have noticed yet.
        for exchange in (topology.to_exchange(kind), topology.durable_exchange(kind)):
            await self._declare_exchange(session, channel, topology.ExchangeDeclaration(exchange))
        for queue in topology.durable_queues(kind, session.features):
            await self._declare(channel, queue)
        sources = (
            (topology.quarantine_queue(kind), 1, True),
            (topology.durable_queue(kind), slots, False),
        )
        self._tags = []
        for name, prefetch, quarantined in sources:
            await channel.basic_qos(prefetch_count=prefetch)  # of the consumers to come
            take = partial(self._take, channel, quarantined)
            self._tags.append(await channel.consume(name, take, on_cancel=self._cancelled))
        if not self._slots:  # meanwhile
            await self._cancel_tags(channel)

    def _stood(self) -> None:
        self._awaited = False
        self._first.happen(None)

    def _fell(self) -> None:
        self._retries.clear()
        self._lost()

    def _gives_up(self, reason: BaseException) -> bool:
        if not (self._awaited and isinstance(reason, QueueMismatch)):
            return False
        self._awaited = False
        self._first.happen(Failure(reason))
        return True

    @property
    def _leads(self) -> bool:
        return self._lead()

    def _take(
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
            content = self._reader.read(properties, body)
            job = Job.from_body(content, self._bus.clock.seconds(), traceparent=headers.get("traceparent"))
        except DecodeError as error:
            self._reader.dropped(messages.JOB, error)
        else:
            self._reader.received(messages.JOB)
            job.durable, job.tries = True, delivery.attempt - 1
            delivery.job, delivery.key = job, job.key
        self._arrived(delivery)
