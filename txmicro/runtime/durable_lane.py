"""A worker's durable lane: its machines, wired to each other and to the worker's post."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from txmicro.bus.connections import Bus
from txmicro.bus.durable_channel import DurableChannel
from txmicro.bus.worker_channel import WorkerChannel
from txmicro.errors import AddressError, JobError, MessageTooLarge, NotStored, WorkerStopped, show
from txmicro.log import log_failed_job
from txmicro.metrics import DURABLE
from txmicro.protocol import durable_headers, messages, topology
from txmicro.protocol.address import parse
from txmicro.protocol.failures import describe
from txmicro.protocol.job import Job, is_seconds
from txmicro.protocol.parcel import Parcel, Unroutable
from txmicro.receiving.ack_batch import AckBatch
from txmicro.receiving.durable_intake import DurableIntake
from txmicro.receiving.intake import Reply
from txmicro.receiving.retry import RetryPolicy
from txmicro.sending.confirmed import ConfirmedPublisher
from txmicro.sending.future import JobPromise
from txmicro.sending.pending import PendingJob
from txmicro.util.expiring import ExpiringKeys

PATIENCE: Final = 5.0
"""Seconds that a start waits for the durable lane: a quorum queue may be without a leader for long."""

MAYBE_LOST: Final = 30.0
"""Seconds that an answer may have been under way when it is found that a connection has been deaf: two heartbeat
intervals, and some more."""

REPEATED_MAX: Final = 10_000
"""How many answers are said again after a loss."""


@dataclass(frozen=True)
class Terms:
    """What a sender asks for a durable job.

    :ivar expires: seconds after which it is not started any more; None: never.
    :ivar attempts: how often it is tried; None: as often as its worker's policy says.
    """

    expires: float | None = None
    attempts: int | None = None

    def __post_init__(self) -> None:
        if self.expires is not None and not is_seconds(self.expires, durable_headers.LONGEST_TTL / 1000):
            raise ValueError(f"expires is {show(self.expires)}: expected seconds above 0, at most 49 days")
        if self.attempts is not None and not (
            type(self.attempts) is int and 1 <= self.attempts <= durable_headers.ATTEMPTS_MAX
        ):
            raise ValueError(
                f"attempts is {show(self.attempts)}: expected a whole number from 1 to {durable_headers.ATTEMPTS_MAX}"
            )


class DurableLane:
    """See the module.

    :param capacity: how many jobs of any lane run at once.
    :param policy: what becomes of jobs that fail; None: the worker takes no durable ones.
    :param room: whether there is room for one more job now.
    :param start: runs a job; :meth:`ended` must follow.
    :param watch: has the outbox wait for a job's end.
    :param failed: tells the outbox that a job has failed. :param stored: that the broker has it.
    :param remember: keeps an answer, to be said again. :param repeat: says it again.
    :ivar slots: how many durable jobs run at once; 0: none are taken.
    """

    log = Logger()

    def __init__(
        self,
        bus: Bus,
        link: WorkerChannel,
        worker: str,
        capacity: int,
        policy: RetryPolicy | None,
        *,
        leads: Callable[[], bool],
        room: Callable[[], bool],
        start: Callable[[Job], None],
        acks: AckBatch,
        watch: Callable[[PendingJob], None],
        failed: Callable[[str, JobError], None],
        remember: Callable[[Job, Reply], None],
        repeat: Callable[[str], None],
        stored: Callable[[str], None],
    ) -> None:
        self.id = worker
        self.policy = policy or RetryPolicy()
        # Durable jobs leave some room for those that somebody waits for.
        self.slots = 0 if policy is None else max(1, capacity - max(1, capacity // 4))
        self._max_hops = bus.config.max_hops
        self._clock = bus.clock
        self._time = bus.ids.time
        self._metrics = bus.metrics.service(worker.partition(":")[0])
        self._post = link.post
        self._run = start
        self._acks = acks
        self._watch = watch
        self._failed = failed
        self._stored = stored
        self._remember = remember
        self._repeat = repeat
        self._said = ExpiringKeys(MAYBE_LOST, REPEATED_MAX)
        self._storing = ConfirmedPublisher(
            bus.clock, self._publish, lambda: self._metrics.record_resend(DURABLE)
        )
        self._intake = DurableIntake(
            worker.partition(":")[0],
            self.policy,
            start=self._start,
            room=room,
            store=self._store,
            repeat=repeat,
            gave_up=self._gave_up,
            time=bus.ids.time,
            slots=self.slots,
        )

        self._link = DurableChannel(
            bus,
            worker,
            worker.partition(":")[0],
            link.reader,
            leads=leads,
            arrived=self._intake.arrived,
            lost=self._intake.reset,
        )

    def __len__(self) -> int:
        """How many durable jobs run."""
        return len(self._intake)

    @property
    def held(self) -> int:
        """How many durable jobs were delivered and wait for room."""
        return self._intake.held

    # Its life

    async def take_jobs(self) -> None:
        """Consume durable jobs; returns when that stands, or takes longer than others should wait for it.

        Raises :class:`~txmicro.errors.QueueMismatch`.
        """
        if not self.slots:
            return
        standing = self._link.start(self.slots)
        try:
            await standing.addTimeout(PATIENCE, self._clock)
        except TimeoutError:
            self.log.warn(
                "{worker} takes no durable jobs yet, and keeps trying: {reason}",
                worker=self.id,
                reason=self._link.trouble or "the broker does not answer",
            )

    async def stop_jobs(self) -> None:
        """Take no more; what is here goes on."""
        await self._link.stop()

    async def leave(self) -> None:
        """Leave the bus."""
        await self._link.close()

    def up(self) -> None:
        """Everything stands.

        What was said lately may be lost with what stood before, and nobody asks for the end of a durable job: it is
        said again.
        """
        self._storing.connected()
        self._said.forget(self._clock.seconds())
        for key in self._said:
            self._repeat(key)

    def resume(self) -> None:
        """The connection takes messages."""
        self._storing.resume()
        self._intake.start_held()

    def pause(self) -> None:
        """The connection takes no more messages."""
        self._storing.pause()

    def drain(self) -> Deferred[None]:
        """Nothing more is consumed. Fires when nothing is left here."""
        return self._intake.drain()

    def give_back(self) -> None:
        """There is no more time for what is held, or not confirmed."""
        self._intake.give_back()

    def close(self, reason: JobError) -> None:
        """Fail what is not stored."""
        self._storing.close(reason)

    # Jobs that are sent

    def send(self, job: Job, promise: JobPromise, terms: Terms) -> None:
        """Have the broker keep *job*, and resolve *promise*; raises AddressError, EncodeError, MessageTooLarge."""
        parcel = self._parcel(job)
        now = int(self._time() * 1000)
        parcel.headers[durable_headers.STORED] = now
        if terms.expires is not None:
            parcel.expiration = max(1, round(terms.expires * 1000))
            parcel.headers[durable_headers.EXPIRES] = now + parcel.expiration
        if terms.attempts is not None:
            parcel.headers[durable_headers.ATTEMPTS] = terms.attempts
        kept = _Kept(promise)
        self._watch(PendingJob(job.key, job.id, job.address, None, job.deadline, kept, size=len(parcel.body)))
        kept.storing = self._storing.store(parcel)
        kept.storing.addCallbacks(self._is_stored, self._is_not, (job.key, promise), {}, (job.key,))

    def _is_stored(self, _: None, key: str, promise: JobPromise) -> None:
        self._stored(key)
        promise.stored()

    def _is_not(self, failure: Failure, key: str) -> None:
        error: Any = failure.value
        if isinstance(error, NotStored | MessageTooLarge):
            self._metrics.record_error(error.type)
        self._failed(key, error)

    def _parcel(self, job: Job) -> Parcel:
        address = parse(job.address)
        if not address.any:
            raise AddressError(
                f"{address} is one worker: durable jobs go to any of a type, as {address.type}:*"
            )
        return Parcel(
            topology.to_exchange(address.type),
            topology.DURABLE_KEY,
            messages.JOB,
            job.key,
            self._post.encode(job.body(self._clock.seconds())),
            {"traceparent": job.traceparent} if job.traceparent else {},
        )

    # Jobs that are taken

    def start_held(self) -> None:
        """There may be room."""
        self._intake.start_held()

    def _publish(self, parcel: Parcel) -> Deferred[None]:
        """Have the broker keep *parcel*; as :meth:`Post.store`."""
        step = topology.retry_step(parcel.routing_key) if parcel.patient else None
        if step is None:
            return self._post.store(parcel)
        return Deferred.fromCoroutine(self._publish_retry(parcel, step))

    async def _publish_retry(self, parcel: Parcel, step: float) -> None:
        """Most types never need the queues of all their steps, so each is declared when it is first needed."""
        await self._link.declare_retry(step)
        try:
            await self._post.store(parcel)
        except Unroutable:  # it was deleted since
            self._link.forget_retry(step)
            raise

    def _store(self, parcel: Parcel) -> Deferred[None]:
        storing = self._storing.store(parcel)
        if parcel.routing_key == topology.DEAD:
            storing.addCallback(
                lambda _: self._metrics.record_dead_letter(parcel.headers[durable_headers.REASON])
            )
        return storing

    def _start(self, job: Job) -> None:
        if not job.hop:  # only the origin wants to know
            self._acks.add(job.key, job.sender)
        self._run(job)

    def ended(self, job: Job, result: Any, error: BaseException | None) -> None:
        """The handler is through: go on, answer, try again later, or give up."""
        self._acks.forget(job.key)
        if error is None:
            try:
                self._done(job, result)
            except Exception as wrong:  # not to be encoded, no address, too large
                self._went_wrong(job, wrong)
        elif isinstance(error, WorkerStopped):
            self._intake.stopped(job)
        else:
            self._went_wrong(job, error)

    def _done(self, job: Job, result: Any) -> None:
        hop = job.followed_by(result, self.id, self._max_hops)
        if hop is None:
            self._tell_origin(job, messages.RESULT, {"result": result})
            self._intake.succeeded(job)
        else:
            self._intake.followed(job, self._parcel(hop)).addErrback(self._not_followed, job)

    def _not_followed(self, failure: Failure, job: Job) -> None:
        if isinstance(failure.value, NotStored | MessageTooLarge):  # nobody takes durable jobs there, yet
            self._went_wrong(job, failure.value)
        else:
            self._intake.stopped(job)

    def _went_wrong(self, job: Job, error: BaseException) -> None:
        failure = describe(error, self.id)
        self._metrics.record_error(failure["type"])
        log_failed_job(self.log, self.id, job.id, error)
        if self._intake.failed(job, error, failure):
            self._tell_origin(job, messages.FAILURE, {"failure": failure})

    def _gave_up(self, job: Job, error: JobError) -> None:
        self._metrics.record_error(error.type)
        self._tell_origin(job, messages.FAILURE, {"failure": describe(error, self.id)})

    def _tell_origin(self, job: Job, kind: str, outcome: dict[str, Any]) -> None:
        """How the job ended, for who may still wait for it."""
        reply = Reply(job.origin, kind, self._post.encode(job.outcome(self.id, outcome)))
        self._post.reply(reply.to, kind, job.key, reply.body)
        self._remember(job, reply)
        now = self._clock.seconds()
        self._said.forget(now)
        self._said.add(job.key, now)


class _Kept:
    """Owns a durable job at its sender (sent.Owner): once it has ended, it need not be stored any more."""

    __slots__ = ("_promise", "storing")

    def __init__(self, promise: JobPromise) -> None:
        self._promise = promise
        self.storing: Deferred[None] = succeed(None)

    def accepted(self, worker: str) -> None:
        """*worker* has it."""
        self._promise.accepted(worker)

    def succeeded(self, worker: str, result: Any) -> None:
        """It is done."""
        self._promise.succeeded(worker, result)

    def failed(self, error: JobError) -> None:
        """It failed, or its sender waits no more."""
        self._promise.failed(error)
        self.storing.cancel()
