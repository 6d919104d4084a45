"""The engine of a worker: creates its machines, and connects them with each other and with its channel."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from txmicro.bus.connections import Bus
from txmicro.bus.worker_channel import WorkerChannel
from txmicro.discovery.announcer import Announcer
from txmicro.errors import AddressError, JobCancelled, JobError, WorkerStopped
from txmicro.log import log_failed_job
from txmicro.metrics import DURABLE, INTERACTIVE
from txmicro.monitoring.recorder import Recorder
from txmicro.monitoring.report import WATCH
from txmicro.protocol import messages
from txmicro.protocol.address import parse
from txmicro.protocol.failures import describe, type_name
from txmicro.protocol.handlers import JobHandler
from txmicro.protocol.job import Job
from txmicro.protocol.notifications import Announcement
from txmicro.protocol.outcomes import CANCELED, FAILED, FORWARDED, SUCCEEDED
from txmicro.protocol.trace_headers import TraceContext
from txmicro.protocol.tracer import Tracer
from txmicro.receiving.answers import Answers, Reply
from txmicro.receiving.intake import Intake
from txmicro.receiving.retry import RetryPolicy
from txmicro.receiving.runner import Runner
from txmicro.receiving.slots import Slots
from txmicro.sending.forwarding import Forwarding
from txmicro.sending.future import JobFuture, JobPromise
from txmicro.sending.outbox import Outbox
from txmicro.sending.pending import Owner, PendingJob
from txmicro.sending.traced import TracedOwner
from txmicro.util.prometheus import BUCKETS

from .control import ControlMessages
from .control_sender import ControlSender
from .durable_lane import DurableLane, Terms
from .log_levels import LevelChanges
from .reporter import Reporter

CLOSING: Final = 6.0
"""Seconds of the grace that are kept for closing the connections: 5 when the broker does not answer
(``amqp.connection``), and one more."""

LAST_ACKS: Final = 0.25
"""Seconds that a worker waits at most for the acks of jobs that it has canceled, whose takers are then told."""

LAST_FLUSH: Final = 1.0
"""Seconds that a worker waits at least until its last messages are given to the transport."""


class Engine:
    """Sends and takes the jobs of one worker.

    :param me: returns the worker's announcement.
    :param handler: its ``do_job``; None: it takes no jobs.
    :param capacity: how many jobs run at once.
    :param policy: what becomes of its durable jobs that fail; None: it takes none.
    :param in_thread: runs ``f(*args)`` in a thread, for a handler that is to run there.
    :param max_runtime: seconds until a handler is canceled.
    :param unawaited: called with the error and the future of each failed job that nobody awaits.
    :ivar channel: the worker's channel: inbox, interactive jobs, events.
    :ivar lane: its durable jobs.
    :ivar announcer: what it knows of the other workers.
    """

    log = Logger()

    def __init__(
        self,
        bus: Bus,
        me: Callable[[], Announcement],
        *,
        handler: JobHandler | None,
        capacity: int,
        policy: RetryPolicy | None,
        in_thread: Callable[..., Deferred[Any]] | None,
        max_runtime: float,
        unawaited: Callable[[JobError, JobFuture], None],
    ) -> None:
        self.id, self.type = me().id, me().type
        self._leave_by = 0.0
        self._entered = False
        self._bus = bus
        self._clock = bus.clock
        self._ids = bus.ids
        self._unawaited = unawaited
        self._max_hops = bus.config.max_hops
        self._time = bus.ids.time
        self._metrics = bus.metrics.service(self.type)
        self._lanes = self._metrics.lanes
        self._trips = self._metrics.trips
        self._tracer = bus.tracer
        self._slots = Slots(capacity if handler is not None else 0)
        self.channel = WorkerChannel(bus, self.id, (*Announcer.topics(self.type), WATCH), service=self.type)
        self._publisher = self.channel.publisher
        self.announcer = Announcer(bus.clock, self._publisher, me, self.channel.yields)
        self._sender = ControlSender(bus.clock, self.id, self._publisher, self._metrics)
        self._outbox = Outbox(
            bus.clock,
            self._publisher,
            self._sender,
            max_jobs=bus.config.outbox_jobs,
            max_bytes=bus.config.outbox_bytes,
        )
        self._outbox.pause()  # until the channel is built
        self._runner = Runner(
            bus.clock,
            handler or _no_handler,
            self,
            self._sender,
            worker=self.id,
            in_thread=in_thread,
            max_runtime=max_runtime,
            tracer=bus.tracer,
        )
        self._answers = Answers(bus.clock, self._sender)
        self._intake = Intake(bus.clock, self._slots, self._runner, self._sender, self._answers)
        self.lane = DurableLane(
            bus,
            self.channel,
            self.id,
            policy,
            slots=self._slots,
            runner=self._runner,
            interactive=self._intake,
            answers=self._answers,
            outbox=self._outbox,
            sender=self._sender,
            announcer=self.announcer,
        )
        self._forwarding = Forwarding(self)
        self._recorder: Recorder | None = None  # only while a SystemManager watches
        self._reporter = Reporter(
            bus.clock,
            me,
            self._publisher,
            ids=bus.ids,
            metrics=self._metrics,
            counts=self,
            record=self._record,
            jitter=bus.random,
        )
        self._control = ControlMessages(
            self.id,
            outbox=self._outbox,
            intake=self._intake,
            answers=self._answers,
            runner=self._runner,
            announcer=self.announcer,
            publisher=self._publisher,
            heard=self._sender.heard,
            reporter=self._reporter,
            levels=LevelChanges(bus.log_levels, self.id),
        )
        self._publisher.returns = self._control

    @property
    def running_jobs(self) -> int:
        """How many jobs run."""
        return self._slots.running

    @property
    def held_jobs(self) -> int:
        """How many jobs were delivered and wait for a slot."""
        return self._intake.held + self.lane.intake.held

    @property
    def pending_jobs(self) -> int:
        """How many jobs, and hops of jobs that were passed on, were sent and have not ended."""
        return len(self._outbox)

    @property
    def pending_bytes(self) -> int:
        """Size of the messages of these jobs that are kept here, in bytes."""
        return self._outbox.size

    @property
    def job_capacity(self) -> int:
        """How many jobs run at once; 0: it takes none."""
        return self._slots.capacity

    @property
    def passed_on_jobs(self) -> int:
        """How many jobs were passed on and have not ended."""
        return len(self._forwarding)

    @property
    def obstacle(self) -> str:
        """Why it cannot take and send jobs of both lanes now, in words; empty if it can."""
        return self.channel.robust.obstacle or self.lane.obstacle

    @property
    def defect(self) -> str:
        """The problem that only a restart of the process solves, in words; empty if there is none.

        Durable jobs count less than interactive ones: their queues may have no leader for long.
        """
        ended = self.lane.channel.robust.ended
        return self.channel.robust.defect or ("its durable queues are not declared any more" if ended else "")

    # Its life

    def open(self) -> Deferred[None]:
        """Open the worker's channel; jobs are taken after :meth:`enter`.

        Fires, fails and can be canceled as :meth:`~txmicro.bus.worker_channel.WorkerChannel.open`.
        """
        return self.channel.open(self._control, self, flow=self, leadership=self.announcer)

    async def enter(self) -> None:
        """Take jobs, and announce the worker.

        Raises :class:`~txmicro.errors.QueueMismatch`; :meth:`retire` must be called then, too.
        """
        if self._slots.capacity:
            await self.channel.take_jobs(self._slots.capacity, self._intake)
            await self.lane.take_jobs()
        self.announcer.enter()
        self._entered = True

    async def retire(self, grace: float, reason: JobError) -> None:
        """Take no more jobs, announce that, and wait for those that run; cancel them after *grace* seconds.

        It also waits for the jobs that were passed on. Their senders would find this worker gone, and have them run
        again.

        :param reason: what canceled jobs fail with.
        """
        self._leave_by = self._clock.seconds() + grace
        await self.channel.stop_jobs()
        await self.lane.stop_jobs()
        self.announcer.leave()
        patience = self._clock.callLater(grace, self._cancel_jobs, reason)
        try:
            await self._intake.drain()
            await self.lane.drain()
            await self._forwarding.drain()
        finally:
            if patience.active():
                patience.cancel()

    def _cancel_jobs(self, reason: JobError) -> None:
        if self.running_jobs:
            self.log.warn(
                "{worker}: grace is over; jobs that still run are canceled: {jobs}",
                worker=self.id,
                jobs=self.running_jobs,
            )
        self.lane.give_back()
        self._runner.cancel_all(reason)
        self._forwarding.abandon()

    async def tell_takers(self) -> None:
        """Wait, for a bounded time, until the takers of canceled jobs are told, also of those that are on their way."""
        if not self._bus.obstacle:
            with suppress(TimeoutError):
                await self._outbox.when_takers_told().addTimeout(LAST_ACKS, self._clock)

    def give_up(self, reason: JobError) -> None:
        """Fail, with *reason*, the jobs that were sent and have not ended."""
        self._outbox.close(reason)
        self.lane.close(reason)

    async def leave(self) -> None:
        """Publish what waits, and close the channels."""
        self._intake.close()
        self._answers.close()
        self._sender.close()
        self._reporter.close()
        await self._last_flush()
        self._runner.stop()
        await self.lane.leave()
        await self.channel.close()

    async def _last_flush(self) -> None:
        """Wait until the last messages are given to the transport, for a bounded time: a broker may read nothing."""
        left = self._leave_by - self._clock.seconds() - CLOSING
        with suppress(TimeoutError):
            await self._publisher.flush().addTimeout(max(LAST_FLUSH, left), self._clock)
        if self._entered and self._bus.obstacle:
            reason = self._bus.obstacle
            self.log.warn("{worker}: its last messages may be lost: {reason}", worker=self.id, reason=reason)

    def _record(self, recorder: Recorder | None) -> None:
        """Have *recorder* record the jobs of both lanes from now on; None: nothing is recorded."""
        self._recorder = self.lane.recorder = self._publisher.resends = recorder

    # Jobs that are sent

    def send(
        self, slip: list[str], data: Any, timeout: float, trace: TraceContext, redeliver: bool
    ) -> JobFuture:
        """Send a job along *slip*, as :meth:`txmicro.Worker.send` describes."""
        job = self._job(slip, data, timeout, trace)
        job.redeliver = redeliver
        cancel = partial(self._outbox.cancel, job.key)
        future = JobFuture(job.id, slip[0], cancel, self._unawaited, traceparent=job.traceparent)
        self.send_hop(job, JobPromise(future, self, job.deadline - timeout))
        return future

    def send_durable(
        self, slip: list[str], data: Any, timeout: float, trace: TraceContext, terms: Terms
    ) -> JobFuture:
        """Have the broker keep a job, as :meth:`txmicro.Worker.send` describes."""
        job = self._job(slip, data, timeout, trace)
        job.durable = True
        cancel = partial(self._outbox.cancel, job.key)
        future = JobFuture(
            job.id, slip[0], cancel, self._unawaited, durable=True, traceparent=job.traceparent
        )
        self.lane.send(job, JobPromise(future, self, job.deadline - timeout), terms)
        return future

    def _job(self, slip: list[str], data: Any, timeout: float, trace: TraceContext) -> Job:
        if len(slip) > self._max_hops:
            raise AddressError(f"a routing slip of {len(slip)} addresses: max_hops allows {self._max_hops}")
        for stop in slip or [""]:
            parse(stop)
        deadline = self._clock.seconds() + timeout
        traceparent, tracestate = trace
        return Job(
            self._ids.job(),
            data,
            slip,
            0,
            self.id,
            self.id,
            deadline,
            traceparent=traceparent,
            tracestate=tracestate,
        )

    # Called by the forwarding (sending.forwarding.HopSender)

    def send_hop(self, hop: Job, owner: Owner) -> bool:
        """Send *hop* for *owner*; return False, and do nothing, if it is pending already."""
        if self._tracer is not None and not isinstance(owner, TracedOwner):
            return self._send_traced(hop, owner, self._tracer)
        hop.sent = self._time() * 1000
        body = self._publisher.encode(hop.body(self._clock.seconds()))
        pending = PendingJob(
            hop.key,
            hop.id,
            hop.address,
            body,
            hop.deadline,
            owner,
            traceparent=hop.traceparent,
            tracestate=hop.tracestate,
            size=len(body),
            redeliver=hop.redeliver,
        )
        added = self._outbox.add(pending)
        if added and self._recorder is not None:
            self._recorder.sent(hop)
        return added

    def _send_traced(self, hop: Job, owner: Owner, tracer: Tracer) -> bool:
        span = tracer.send(hop)
        try:
            sent = self.send_hop(hop, TracedOwner(owner, span, first=not hop.hop))
        except Exception as error:
            span.end(error)
            raise
        if not sent:
            span.end()
        return sent

    def hop_ended(self, job: Job, error: JobError | None) -> None:
        """Note that the hop that was sent on behalf of *job* has ended; its origin does not know of *error*.

        The origin is not told when it canceled the job itself, nor when this worker stops. The worker that has the hop
        answers the origin. If none has it, the origin finds this worker gone, and sends the job again.
        """
        if error is None:
            if not self._answers.heard(job.key):  # it was forgotten meanwhile
                self._sender.release(job.sender, job.key)
        elif not isinstance(error, WorkerStopped | JobCancelled):
            self._intake.finished(job.key, self._failed(job, error))

    # Called by the promises (sending.future.TripObserver)

    def trip_ended(self, job: JobFuture, began: float, error: JobError | None) -> None:
        """Record how long a job that this worker sent took."""
        trip = self._trips[job.address.partition(":")[0]]
        seconds = self._clock.seconds() - began
        trip.counts[bisect_left(BUCKETS, seconds)] += 1  # as in observe, without the call
        trip.sum += seconds
        if self._recorder is not None:
            self._recorder.ended(job.id, job.address, durable=job.durable, seconds=seconds, error=error)

    # Called by the runner (receiving.runner.Supervisor)

    def job_ended(self, job: Job, result: Any, error: BaseException | None, seconds: float) -> None:
        """Forward or answer a job whose handler has ended. A result that cannot be published fails the job."""
        lane = self._lanes[DURABLE if job.durable else INTERACTIVE]
        # Later attempts of a durable job wait as its policy says.
        waited = (
            self._time() - seconds - job.sent / 1000 if job.sent and not (job.durable and job.tries) else None
        )
        lane.ran(seconds, waited)
        if job.durable:
            self.lane.ended(job, result, error, seconds, waited)
            return
        try:
            reply = self._succeeded(job, result) if error is None else self._failed(job, error)
        except Exception as wrong:  # the result cannot be encoded, is too large, or no address
            error = wrong
            reply = self._failed(job, wrong)
        if error is not None:
            self._metrics.record_error(type_name(error))
            outcome = CANCELED if isinstance(error, JobCancelled) else FAILED
        else:
            outcome = FORWARDED if reply.type == FORWARDED else SUCCEEDED
        lane.outcomes[outcome].value += 1
        if job.span is not None:
            job.span.end(error, outcome)
        if self._recorder is not None:
            self._recorder.ran(job, outcome, error, seconds, waited)
        self._intake.finished(job.key, reply)
        self.lane.intake.start_held()

    def _succeeded(self, job: Job, result: Any) -> Reply:
        hop = job.followed_by(result, self.id, self._max_hops)
        if hop is None:
            return self._sender.tell_origin(job, messages.RESULT, {"result": result})
        self._forwarding.follow(job, hop)
        return Reply(hop.address, FORWARDED)

    def _failed(self, job: Job, error: BaseException) -> Reply:
        failure = describe(error, self.id)
        log_failed_job(self.log, self.id, job, error)
        return self._sender.tell_origin(job, messages.FAILURE, {"failure": failure})

    # Called by the channel (bus.worker_channel.Observer, Flow)

    def connected(self) -> None:
        """Publish again what may have been lost."""
        self.lane.connected()
        self.announcer.remind()

    def disconnected(self) -> None:
        """Forget the deliveries and acks of before."""
        self._intake.reset()
        self._sender.acks.clear()

    def writable(self, writable: bool) -> None:
        """Send and start jobs while messages can be published. Otherwise no answer could be, so none is started."""
        self._slots.paused = not writable
        if writable:
            self._outbox.resume()
            self._intake.start_held()
            self.lane.resume()
        else:
            self._outbox.pause(self._bus.obstacle or "this worker's queues are being declared")
            self.lane.pause()


def _no_handler(_job: Job) -> None:
    """Stand in for the handler of a worker that takes no jobs."""
