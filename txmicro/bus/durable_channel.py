"""The channel on which a worker consumes durable jobs.

It has a connection of its own. A quorum queue without a leader answers no request, and a damaged queue ends each
connection that asks for it. Neither may delay interactive jobs.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.methods import Deliver
from txmicro.amqp.properties import Properties
from txmicro.errors import BusClosed, DecodeError, QueueMismatch
from txmicro.metrics import DURABLE
from txmicro.protocol import messages, topology
from txmicro.protocol.delivery import Delivery
from txmicro.protocol.durable_headers import REQUEUED, RUN, number
from txmicro.protocol.durable_message import DurableMessage
from txmicro.protocol.job import Job
from txmicro.protocol.trace_headers import read_text, read_trace
from txmicro.util.once import Once

from .connections import Bus
from .receiver import Receiver
from .robust_channel import Leadership, RobustChannel
from .session import Session


class DurableJobIntake(Protocol):
    """Takes durable jobs: the :class:`~txmicro.receiving.durable_intake.DurableIntake`."""

    def arrived(self, message: DurableMessage) -> None:
        """Take a message; acknowledge or requeue it once."""

    def reset(self) -> None:
        """Note that the channel is closed: messages of before cannot be acknowledged any more."""


class DurableChannel:
    """The channel of one worker's durable jobs, which is built again when it is lost.

    :param worker: its id. :param kind: its type.
    :param leadership: whether this worker looks after the queues that its type shares.
    :ivar robust: the channel that is built again.
    """

    log = Logger()

    def __init__(
        self,
        bus: Bus,
        worker: str,
        kind: str,
        receiver: Receiver,
        jobs: DurableJobIntake,
        leadership: Leadership,
    ) -> None:
        self._clock = bus.clock
        self._kind = kind
        self._metrics = bus.metrics.service(kind)
        self._receiver = receiver
        self._jobs = jobs
        self.robust = RobustChannel(bus, worker, kind, self)
        self.robust.leadership = leadership
        self._most = 0  # none are taken
        self._first: Once[None] = Once()
        self._retries: dict[float, Once[None]] = {}  # by their steps: declared, or being declared
        self._awaited = False

    @property
    def trouble(self) -> BaseException | None:
        """Why it was built again, or could not be, the last time; None: never."""
        return self.robust.trouble

    def start(self, most: int) -> Deferred[None]:
        """Consume from now on, with at most *most* jobs unacknowledged.

        Fires with None when it consumes for the first time. Fails with :class:`QueueMismatch`, and consumes nothing,
        when a queue exists with other arguments. Canceling it stops the wait; a mismatch is then tried again, as
        somebody may repair it.
        """
        self._most, self._awaited = most, True
        self.robust.start()
        return self._first.wait(self._not_awaited)

    def _not_awaited(self) -> None:
        self._awaited = False

    async def stop(self) -> None:
        """Consume no more; what was delivered can still be acknowledged."""
        self._most = 0
        await self.robust.stop_jobs()

    async def close(self) -> None:
        """Close the channel; what is not acknowledged is returned to the broker."""
        await self.robust.close(await self.robust.stop())

    async def declare_retry(self, step: float) -> None:
        """Declare the queue of jobs that wait *step* seconds, unless that was done.

        Raises :class:`QueueMismatch`, :class:`BusClosed` while the channel is not built, or the broker's refusal.
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
        """Declare the queue for *step* again when it is needed again."""
        self._retries.pop(step, None)

    async def _declare_retry(self, step: float) -> None:
        session = self.robust.session
        if session is None:
            raise BusClosed("the channel of durable jobs is not built")
        connection = await session.keeping()
        # Not on the channel of the deliveries, which a failure would close.
        channel = await connection.channel_open()
        try:
            await self.robust.declare_once(channel, topology.retry(self._kind, step, session.features))
        except QueueMismatch as error:
            self.robust.complain(error)
            raise
        channel.channel_close().addErrback(lambda _: None)

    # Called by the robust channel (robust_channel.ChannelContent)

    async def connection(self, session: Session) -> Connection:
        """Return the connection of those who consume durable jobs."""
        return await session.keeping()

    async def build(self, session: Session, channel: Channel) -> None:
        """Declare the type's durable queues, and consume two of them."""
        kind, most = self._kind, self._most
        if not most:  # stop() was called: only deliveries of before are acknowledged
            return
        if not session.features.safe_dead_letters and not self._first.happened:
            self.log.warn(
                "dead letters and retries may be lost when this broker fails: RabbitMQ keeps them safe since 3.10"
            )
        # The worker's own channel declares the first exchange, too. It may not have noticed yet that it was deleted.
        for exchange in (topology.to_exchange(kind), topology.durable_exchange(kind)):
            await self.robust.declare_exchange(session, channel, topology.ExchangeDeclaration(exchange))
        for queue in topology.durable_queues(kind, session.features):
            await self.robust.declare(channel, queue)
        sources = (
            (topology.quarantine_queue(kind), 1, True),
            (topology.durable_queue(kind), most, False),
        )
        for name, prefetch, quarantined in sources:
            await channel.basic_qos(prefetch_count=prefetch)  # of the consumers that follow
            await self.robust.consume_jobs(channel, name, partial(self._message, channel, quarantined))
        if not self._most:  # stop() was called meanwhile
            await self.robust.end_job_consumers(channel)

    def built(self) -> None:
        """Tell who waits for the first time."""
        self._awaited = False
        self._first.happen(None)

    def lost(self) -> None:
        """Forget what was declared and delivered."""
        self._retries.clear()
        self._jobs.reset()

    def gives_up(self, reason: BaseException) -> bool:
        """Return whether the start must fail: a queue exists with other arguments."""
        if not (self._awaited and isinstance(reason, QueueMismatch)):
            return False
        self._awaited = False
        self._first.happen(Failure(reason))
        return True

    # Received messages

    def _message(
        self, channel: Channel, quarantined: bool, deliver: Deliver, properties: Properties, body: bytes
    ) -> None:
        headers = properties.headers or {}
        traceparent, tracestate = read_trace(headers)
        message = DurableMessage(
            None,
            properties.message_id or "",
            body,
            properties.content_type,
            [Delivery(channel, deliver.delivery_tag)],
            headers,
            deliver.redelivered,
            quarantined,
        )
        try:
            content = self._receiver.read(properties, body)
            job = Job.from_body(
                content, self._clock.seconds(), traceparent=traceparent, tracestate=tracestate
            )
        except DecodeError as error:
            self._receiver.dropped(messages.JOB, error)
        else:
            self._metrics.received[messages.JOB].value += 1
            if deliver.redelivered:
                self._metrics.record_redelivery(DURABLE)
            job.durable, job.tries = True, message.attempt - 1
            job.sent = number(headers, REQUEUED, 0) or job.sent
            job.earlier_run = read_text(headers, RUN)
            message.job, message.key = job, job.key
        self._jobs.arrived(message)
