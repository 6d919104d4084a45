"""A worker's durable lane: the jobs that the broker keeps until they are done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from txmicro.bus.connections import Bus
from txmicro.bus.durable_channel import DurableChannel
from txmicro.bus.worker_channel import WorkerChannel
from txmicro.discovery.announcer import Announcer
from txmicro.errors import AddressError, JobError, MessageTooLarge, NotStored, WorkerStopped, show
from txmicro.log import log_failed_job
from txmicro.metrics import DURABLE
from txmicro.monitoring.recorder import Recorder
from txmicro.protocol import durable_headers, messages, topology
from txmicro.protocol.address import parse
from txmicro.protocol.failures import describe, from_header
from txmicro.protocol.job import Job, is_seconds
from txmicro.protocol.outcomes import DEAD, FORWARDED, RETRIED, RETURNED, SUCCEEDED
from txmicro.protocol.parcel import Parcel, Unroutable
from txmicro.protocol.span import end_with
from txmicro.protocol.trace_headers import trace_headers
from txmicro.receiving.answers import Answers
from txmicro.receiving.durable_intake import DurableIntake
from txmicro.receiving.intake import Intake
from txmicro.receiving.retry import RetryPolicy
from txmicro.receiving.runner import Runner
from txmicro.receiving.slots import Slots
from txmicro.sending.confirmed import ConfirmedPublisher
from txmicro.sending.future import JobPromise
from txmicro.sending.outbox import Outbox
from txmicro.sending.pending import PendingJob
from txmicro.util.expiring import ExpiringKeys

from .control_sender import ControlSender

PATIENCE: Final = 5.0
"""Seconds that a start waits for the durable lane: a quorum queue may have no leader for long."""

MAYBE_LOST: Final = 30.0
"""Seconds after which an answer that was published on a connection that is lost has certainly arrived: two heartbeat
intervals, after which a silent connection is found, and some more."""

REPEATED_MAX: Final = 10_000
"""How many answers are published again after a loss."""

_Run = tuple[float, float | None]
"""Seconds that a handler ran, and that its job waited before."""


@dataclass(frozen=True)
class Terms:
    """The terms that a sender sets for a durable job.

    :ivar expires: seconds after which it is not started any more; None: it does not expire.
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
    """Takes and sends the durable jobs of one worker.

    :param channel: the worker's channel, for its publisher and receiver.
    :param policy: what becomes of jobs that fail; None: the worker takes no durable jobs.
    :param slots: counts the jobs of both lanes.
    :param interactive: takes the interactive jobs.
    :param answers: remembers the answers of both lanes.
    :ivar most: how many durable jobs run at once; 0: none are taken.
    :ivar intake: the durable jobs that are here.
    :ivar channel: the channel on which they are consumed.
    :ivar recorder: records what happens to them; None: no SystemManager watches.
    """

    log = Logger()

    def __init__(
        self,
        bus: Bus,
        channel: WorkerChannel,
        worker: str,
        policy: RetryPolicy | None,
        *,
        slots: Slots,
        runner: Runner,
        interactive: Intake,
        answers: Answers,
        outbox: Outbox,
        sender: ControlSender,
        announcer: Announcer,
    ) -> None:
        kind = worker.partition(":")[0]
        self.id = worker
        self.policy = policy or RetryPolicy()
        # Some slots are left for interactive jobs, which somebody waits for.
        self.most = 0 if policy is None else max(1, slots.capacity - max(1, slots.capacity // 4))
        self._max_hops = bus.config.max_hops
        self._clock = bus.clock
        self._time = bus.ids.time
        self._metrics = bus.metrics.service(kind)
        self._lanes = self._metrics.lanes
        self._tracer = bus.tracer
        self._publisher = channel.publisher
        self._runner = runner
        self._interactive = interactive
        self._answers = answers
        self._outbox = outbox
        self._sender = sender
        self.recorder: Recorder | None = None
        self._runs: dict[
            str, _Run
        ] = {}  # by the job's key, from the handler's end until its outcome is clear
        self._recent = ExpiringKeys(MAYBE_LOST, REPEATED_MAX)
        self._confirmed = ConfirmedPublisher(bus.clock, self)
        self.intake = DurableIntake(kind, self.policy, slots, self, most=self.most, time=bus.ids.time)
        self.channel = DurableChannel(bus, worker, kind, channel.receiver, self.intake, announcer)

    @property
    def obstacle(self) -> str:
        """Why it takes no durable jobs now, in words; empty if it does, or is not to."""
        obstacle = self.channel.robust.obstacle
        return obstacle and f"it takes no durable jobs: {obstacle}"

    # Its life

    async def take_jobs(self) -> None:
        """Consume durable jobs; return when they are consumed, or after ``PATIENCE`` seconds.

        Raises :class:`~txmicro.errors.QueueMismatch` when a queue exists with other arguments.
        """
        if not self.most:
            return
        consuming = self.channel.start(self.most)
        try:
            await consuming.addTimeout(PATIENCE, self._clock)
        except TimeoutError:
            self.log.warn(
                "{worker}: does not take durable jobs yet; retrying: {reason}",
                worker=self.id,
                reason=self.channel.trouble or "the broker does not answer",
            )

    async def stop_jobs(self) -> None:
        """Consume no more jobs; those that are here go on."""
        await self.channel.stop()

    async def leave(self) -> None:
        """Close the channel."""
        await self.channel.close()

    def connected(self) -> None:
        """Note that the worker's channel is built again.

        Recent answers may have been lost with the channel of before, and nobody asks how a durable job ended. So they
        are published again.
        """
        self._confirmed.connected()
        self._recent.forget(self._clock.seconds())
        for key in self._recent:
            self.repeat(key)

    def resume(self) -> None:
        """Publish and start jobs: messages can be published."""
        self._confirmed.resume()
        self.intake.start_held()

    def pause(self) -> None:
        """Publish nothing until :meth:`resume`."""
        self._confirmed.pause()

    def drain(self) -> Deferred[None]:
        """Finish what is here, after :meth:`stop_jobs`.

        Fires with None when nothing is left; does not fail. Canceling it stops the wait.
        """
        return self.intake.drain()

    def give_back(self) -> None:
        """Return to the broker what is held, or not confirmed."""
        self.intake.give_back()

    def close(self, reason: JobError) -> None:
        """Fail the jobs that the broker has not confirmed, with *reason*."""
        self._confirmed.close(reason)

    # Jobs that are sent

    def send(self, job: Job, promise: JobPromise, terms: Terms) -> None:
        """Have the broker keep *job*, and resolve *promise*; raises AddressError, EncodeError, MessageTooLarge."""
        span = None if self._tracer is None else self._tracer.send(job)
        try:
            storing = self._watch(job, promise, terms)
        except Exception as error:
            if span is not None:
                span.end(error)
            raise
        if span is not None:
            end_with(span, storing)
        storing.addCallbacks(self._is_stored, self._is_not, (job.key, promise), {}, (job.key,))

    def _watch(self, job: Job, promise: JobPromise, terms: Terms) -> Deferred[None]:
        """Wait for the end of *job*, and have the broker keep it; return what fires when it does."""
        parcel = self._parcel(job)
        now = int(job.sent)
        parcel.headers[durable_headers.STORED] = now
        if terms.expires is not None:
            parcel.expiration = max(1, round(terms.expires * 1000))
            parcel.headers[durable_headers.EXPIRES] = now + parcel.expiration
        if terms.attempts is not None:
            parcel.headers[durable_headers.ATTEMPTS] = terms.attempts
        owner = _DurableOwner(promise)
        self._outbox.watch(
            PendingJob(job.key, job.id, job.address, b"", job.deadline, owner, size=len(parcel.body))
        )
        if self.recorder is not None:
            self.recorder.sent(job)
        owner.storing = self._confirmed.store(parcel)
        return owner.storing

    def _is_stored(self, _: None, key: str, promise: JobPromise) -> None:
        self._outbox.stored(key)
        promise.stored()

    def _is_not(self, failure: Failure, key: str) -> None:
        error: Any = failure.value
        if isinstance(error, NotStored | MessageTooLarge):
            self._metrics.record_error(error.type)
        self._outbox.failed(key, error)

    def _parcel(self, job: Job) -> Parcel:
        address = parse(job.address)
        if not address.any:
            raise AddressError(
                f"{address} is one worker: durable jobs go to any of a type, as {address.type}:*"
            )
        job.sent = self._time() * 1000
        return Parcel(
            topology.to_exchange(address.type),
            topology.DURABLE_KEY,
            messages.JOB,
            job.key,
            self._publisher.encode(job.body(self._clock.seconds())),
            trace_headers(job.traceparent, job.tracestate),
        )

    # Called by the confirmed publisher (sending.confirmed.ParcelPublisher)

    def publish(self, parcel: Parcel) -> Deferred[None]:
        """Publish *parcel* once, as :meth:`~txmicro.bus.publisher.Publisher.store` does."""
        step = topology.retry_step(parcel.routing_key) if parcel.patient else None
        if step is None:
            return self._publisher.store(parcel)
        return Deferred.fromCoroutine(self._publish_retry(parcel, step))

    async def _publish_retry(self, parcel: Parcel, step: float) -> None:
        """Declare the queue of a retry step when it is first needed: most types never need all of them."""
        await self.channel.declare_retry(step)
        try:
            await self._publisher.store(parcel)
        except Unroutable:  # the queue was deleted since
            self.channel.forget_retry(step)
            raise

    def record_resend(self, parcel: Parcel, copies: int) -> None:
        """Count a parcel that is published once more."""
        self._metrics.record_resend(DURABLE)
        if self.recorder is not None:
            self.recorder.resent(
                parcel.key,
                topology.address_of(parcel.exchange),
                durable=True,
                copies=copies,
                traceparent=parcel.headers.get("traceparent"),
                reason="the broker has not confirmed that it has the job",
            )

    def renew(self) -> None:
        """Publish on another channel, as this one does not confirm."""
        self._publisher.renew()

    # Decisions of the intake (receiving.durable_intake.Lane)

    def start(self, job: Job) -> None:
        """Run *job*, and tell its sender that it is here."""
        if not job.hop:  # only the origin wants to know
            self._sender.ack(job)
        self._runner.start(job)

    def store(self, parcel: Parcel) -> Deferred[None]:
        """Publish *parcel* until the broker confirms it.

        Fires then with None; fails and can be canceled as :meth:`~txmicro.sending.confirmed.ConfirmedPublisher.store`.
        """
        storing = self._confirmed.store(parcel)
        if parcel.routing_key == topology.DEAD:
            storing.addCallback(lambda _: self._dead(parcel))
        return storing

    def _dead(self, parcel: Parcel) -> None:
        """Count and log a dead letter that the broker has confirmed."""
        reason = parcel.headers[durable_headers.REASON]
        self._metrics.record_dead_letter(reason)
        failure, error = "", None
        if durable_headers.FAILURE in parcel.headers:
            error = from_header(parcel.headers[durable_headers.FAILURE])
            failure = f": {error.type}: {error.message}"
        if self.recorder is not None:
            address, attempt = topology.address_of(parcel.exchange), parcel.headers[durable_headers.ATTEMPT]
            self.recorder.dead(parcel.key, address, attempt=attempt, reason=reason, error=error)
        self.log.warn(
            "{worker}: job {job} is now a dead letter ({reason}{failure}); txmicro dead shows and requeues it",
            worker=self.id,
            job=parcel.key,
            reason=reason,
            failure=failure,
            recurring=True,
        )

    def repeat(self, key: str) -> None:
        """Publish the answer to a job again."""
        self._answers.unanswered(key)

    def gave_up(self, job: Job, error: JobError) -> None:
        """Tell the job's origin that it ended, unrun, with *error*."""
        self._metrics.record_error(error.type)
        self._tell_origin(job, messages.FAILURE, {"failure": describe(error, self.id)})

    # How handlers ended

    def ended(
        self, job: Job, result: Any, error: BaseException | None, seconds: float, waited: float | None
    ) -> None:
        """Send a job whose handler has ended to its next hop or attempt, answer it, or give it up.

        :param seconds: how long the handler ran. :param waited: how long the job waited before; None: unknown.
        """
        if self.recorder is not None:
            self._runs[job.key] = seconds, waited
        self._sender.acks.forget(job.key)
        if error is None:
            try:
                self._succeeded(job, result)
            except Exception as wrong:  # the result cannot be encoded, is too large, or no address
                self._failed(job, wrong)
        elif isinstance(error, WorkerStopped):
            self._returned(job, error)
        else:
            self._failed(job, error)
        self._interactive.start_held()

    def _succeeded(self, job: Job, result: Any) -> None:
        hop = job.followed_by(result, self.id, self._max_hops)
        if hop is None:
            self._tell_origin(job, messages.RESULT, {"result": result})
            self._count(job, SUCCEEDED)
            self.intake.succeeded(job)
        else:
            following = self._follow(job, hop)
            following.addCallbacks(self._followed, self._not_followed, (job, hop), {}, (job,))
            following.addCallback(lambda _: self._interactive.start_held())

    def _follow(self, job: Job, hop: Job) -> Deferred[None]:
        span = None if self._tracer is None else self._tracer.send(hop)
        try:
            following = self.intake.followed(job, self._parcel(hop))
        except Exception as error:
            if span is not None:
                span.end(error)
            raise
        return following if span is None else end_with(span, following)

    def _followed(self, _: None, job: Job, hop: Job) -> None:
        self._count(job, FORWARDED)
        if self.recorder is not None:
            self.recorder.sent(hop)

    def _not_followed(self, failure: Failure, job: Job) -> None:
        if isinstance(failure.value, NotStored | MessageTooLarge):  # no durable jobs are taken there, yet
            self._failed(job, failure.value)
        else:
            self._returned(job, failure.value)

    def _returned(self, job: Job, error: BaseException | None) -> None:
        self._count(job, RETURNED, error)
        self.intake.stopped(job)

    def _count(self, job: Job, outcome: str, error: BaseException | None = None) -> None:
        """Count how the run of *job* has ended, and record it."""
        self._lanes[DURABLE].outcomes[outcome].value += 1
        run = self._runs.pop(job.key, None)
        if self.recorder is not None and run is not None:
            seconds, waited = run
            self.recorder.ran(job, outcome, error, seconds, waited)
        if job.span is not None:
            job.span.end(error, outcome)

    def _failed(self, job: Job, error: BaseException) -> None:
        failure = describe(error, self.id)
        self._metrics.record_error(failure["type"])
        last = self.intake.failed(job, error, failure)
        self._count(job, DEAD if last else RETRIED, error)
        log_failed_job(self.log, self.id, job, error, again=not last)
        if last:
            self._tell_origin(job, messages.FAILURE, {"failure": failure})

    def _tell_origin(self, job: Job, kind: str, outcome: dict[str, Any]) -> None:
        """Tell the job's origin how the job ended, and remember that."""
        self._answers.remember(job, self._sender.tell_origin(job, kind, outcome))
        now = self._clock.seconds()
        self._recent.forget(now)
        self._recent.add(job.key, now)


class _DurableOwner:
    """The owner (:class:`~txmicro.sending.pending.Owner`) of a durable job that a program sent.

    :ivar storing: the attempts to store the job, which end when it has failed.
    """

    __slots__ = ("_promise", "storing")

    def __init__(self, promise: JobPromise) -> None:
        self._promise = promise
        self.storing: Deferred[None] = succeed(None)

    def accepted(self, worker: str) -> None:
        """Note that *worker* has the job."""
        self._promise.accepted(worker)

    def resent(self, copies: int) -> None:
        """Do nothing: the broker keeps the job, so it is not sent again here."""

    def succeeded(self, worker: str, result: Any) -> None:
        """End the job with *result*."""
        self._promise.succeeded(worker, result)

    def failed(self, error: JobError) -> None:
        """End the job with *error*, and store it no more."""
        self._promise.failed(error)
        self.storing.cancel()
